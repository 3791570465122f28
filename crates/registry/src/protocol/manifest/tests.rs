use super::*;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const IMAGE: &str =
    r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}"#;
const INDEX: &str =
    r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json"}]}"#;

fn answer(headers: &[(&str, &str)], body: &str) -> HttpResponse {
    HttpResponse::of(200, headers, body.as_bytes())
}

fn body(content_type: &str, body: &str) -> Fact {
    of_body(&answer(&[("content-type", content_type)], body))
}

fn sha256(body: &str) -> Digest {
    Digest::parse(&format!("sha256:{}", hex(&Sha256::digest(body)))).unwrap()
}

#[test]
fn a_head_is_enough_when_it_names_a_manifest_and_its_digest() {
    let digest = sha256("x");
    for media_type in [
        OCI_MANIFEST,
        OCI_INDEX,
        DOCKER_MANIFEST,
        DOCKER_LIST,
        "application/vnd.oci.image.index.v1+json; charset=utf-8",
    ] {
        let answer = answer(&[("content-type", media_type), ("docker-content-digest", digest.as_str())], "");
        let is_single = matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST);
        let expected = Head { fact: Fact::Present(digest.clone()), is_single };
        assert_eq!(of_head(&answer), Some(expected), "{media_type}");
    }
}

#[test]
fn a_head_without_digest_or_with_another_type_needs_the_body() {
    let digest = sha256("x");
    let upper = digest.as_str().to_uppercase();
    for headers in [
        &[("content-type", OCI_INDEX)][..],
        &[("content-type", OCI_INDEX), ("docker-content-digest", "")],
        &[("content-type", OCI_INDEX), ("docker-content-digest", "sha256:123")],
        &[("content-type", OCI_INDEX), ("docker-content-digest", &upper)],
        &[("docker-content-digest", digest.as_str())],
        &[("content-type", "text/plain"), ("docker-content-digest", digest.as_str())],
        &[("content-type", "application/json"), ("docker-content-digest", digest.as_str())],
    ] {
        assert_eq!(of_head(&answer(headers, "")), None, "{headers:?}");
    }
}

#[test]
fn schema_1_is_broken_whichever_way_it_is_told() {
    let broken = Fact::Broken(Broken::Schema1);
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let digest = sha256("x");
    let head = answer(&[("content-type", signed), ("docker-content-digest", digest.as_str())], "");
    assert_eq!(of_head(&head).map(|head| head.fact), Some(broken.clone()));
    assert_eq!(body(signed, r#"{"schemaVersion":1}"#), broken);
    assert_eq!(body("text/plain", IMAGE), broken);
    assert_eq!(body(DOCKER_MANIFEST, r#"{"schemaVersion":1,"config":{}}"#), broken);
}

#[test]
fn a_body_is_known_by_its_hash_and_a_wrong_header_does_not_count() {
    let present = |text: &str| Fact::Present(sha256(text));
    assert_eq!(body(OCI_MANIFEST, IMAGE), present(IMAGE));
    assert_eq!(body(OCI_INDEX, INDEX), present(INDEX));
    let wrong = sha256("something else");
    let headers = [("content-type", OCI_MANIFEST), ("docker-content-digest", wrong.as_str())];
    assert_eq!(of_body(&answer(&headers, IMAGE)), present(IMAGE));
    let sha512 = Digest::parse(&format!("sha512:{}", hex(&Sha512::digest(IMAGE)))).unwrap();
    let headers = [("content-type", OCI_MANIFEST), ("docker-content-digest", sha512.as_str())];
    assert_eq!(of_body(&answer(&headers, IMAGE)), Fact::Present(sha512));
}

#[test]
fn without_a_content_type_the_documents_own_type_counts() {
    let own = INDEX.replacen('{', r#"{"mediaType":"application/vnd.oci.image.index.v1+json","#, 1);
    assert_eq!(of_body(&answer(&[], &own)), Fact::Present(sha256(&own)));
    assert_eq!(of_body(&answer(&[], INDEX)), Fact::unavailable(Unavailable::Unreadable));
}

#[test]
fn what_nothing_can_be_is_broken() {
    let no_image = Fact::Broken(Broken::NotAnImage);
    let attestations = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"os":"unknown","architecture":"unknown"}}]}"#;
    let artifacts = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.example+json"}]}"#;
    let both = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json"}],"layers":[]}"#;
    for (media_type, text) in [
        (OCI_MANIFEST, "{}"),
        (OCI_MANIFEST, INDEX),
        (OCI_INDEX, IMAGE),
        (OCI_INDEX, attestations),
        (OCI_INDEX, artifacts),
        (OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#),
        (OCI_INDEX, both),
        (OCI_MANIFEST, both),
    ] {
        assert_eq!(body(media_type, text), no_image, "{text}");
    }
}

#[test]
fn an_image_is_told_from_what_else_a_manifest_may_be() {
    const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const WASM_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";
    let (image, wasm, other) = (None, Some(true), Some(false));
    let rows: [(&str, &[&str], Option<bool>); 16] = [
        ("application/vnd.oci.image.config.v1+json", &[], image),
        ("application/vnd.docker.container.image.v1+json; charset=utf-8", &[LAYER], image),
        // What old versions of docker and others wrote, and nodes run.
        ("application/octet-stream", &[LAYER], image),
        ("text/html", &[LAYER, LAYER], image),
        ("text/plain; charset=utf-8", &[OCI_LAYER], image),
        ("application/json", &[OCI_LAYER], image),
        ("", &[LAYER], image),
        ("application/octet-stream", &[], other),
        ("application/json", &["application/pdf"], other),
        (
            "application/vnd.cncf.helm.config.v1+json",
            &["application/vnd.cncf.helm.chart.content.v1.tar+gzip"],
            other,
        ),
        // A model, or another artifact, that borrows the layers of images.
        ("application/vnd.cncf.model.config.v1+json", &[OCI_LAYER], other),
        ("application/vnd.oci.empty.v1+json", &["application/vnd.example+json"], other),
        ("application/vnd.wasm.config.v0+json", &["application/wasm"], wasm),
        ("application/vnd.oci.empty.v1+json", &["application/wasm"], wasm),
        ("application/vnd.oci.empty.v1+json", &[WASM_LAYER], wasm),
        // A node runs it as an image of the platform wasi/wasm.
        ("application/vnd.oci.image.config.v1+json", &[WASM_LAYER], image),
    ];
    for (config, layers, expected) in rows {
        let layers: Vec<_> = layers.iter().map(|layer| serde_json::json!({ "mediaType": layer })).collect();
        let text =
            serde_json::json!({ "schemaVersion": 2, "config": { "mediaType": config }, "layers": layers });
        let text = text.to_string();
        let digest = sha256(&text);
        let expected = match expected {
            None => Fact::Present(digest),
            Some(wasm) => Fact::Artifact { digest, wasm },
        };
        assert_eq!(body(OCI_MANIFEST, &text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read_tells_nothing() {
    let mismatch = IMAGE.replacen('{', r#"{"mediaType":"application/vnd.oci.image.index.v1+json","#, 1);
    for (media_type, text) in [
        (OCI_MANIFEST, ""),
        (OCI_MANIFEST, "<html>"),
        (OCI_MANIFEST, "[]"),
        (OCI_MANIFEST, "null"),
        (OCI_MANIFEST, mismatch.as_str()),
        ("text/html", IMAGE),
        ("application/json", IMAGE),
    ] {
        assert_eq!(body(media_type, text), Fact::unavailable(Unavailable::Unreadable), "{media_type} {text}");
    }
}

#[test]
fn an_index_with_attestations_beside_images_is_an_image() {
    let mixed = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"os":"unknown","architecture":"unknown"}},{"mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"os":"linux","architecture":"arm64"}}]}"#;
    assert_eq!(body(OCI_INDEX, mixed), Fact::Present(sha256(mixed)));
}

#[test]
fn any_answer_is_survived() {
    proptest::proptest!(|(
        status in 0_u16..1000,
        media_type in "[ -~]{0,60}",
        digest in "[ -~]{0,80}",
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
    )| {
        let headers = [("content-type", media_type.as_str()), ("docker-content-digest", digest.as_str())];
        let answer = HttpResponse::of(status, &headers, &bytes);
        let present = |fact: &Fact| matches!(fact, Fact::Present(_));
        assert!(of_head(&answer).is_none_or(|head| !present(&head.fact)));
        assert!(!present(&of_body(&answer)));
    });
}
