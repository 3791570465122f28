//! The client against both releases of the registry of the distribution project; skopeo, an independent client, gives
//! the expected digests.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use tagpin_registry::Endpoint;
use tokio::time::{advance, pause, resume};
use url::Url;

use super::distribution::{
    Access, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Pusher, Registry, Release, digest_of,
    on_each_release,
};
use super::skopeo::{self, Layout};
use super::support::{
    PATIENCE, TestNames, TestProfiles, ask, client, client_of, client_of_telling, list_within, profile,
    secret,
};
use super::tokens::{Gives, PASSWORD, TokenService};

on_each_release!(
    each_kind_of_manifest_has_the_digest_that_skopeo_pushed_or_sees,
    a_missing_tag_and_a_missing_repository_are_told_apart,
    a_moved_tag_is_seen_and_a_stopped_registry_is_unavailable,
    a_manifest_that_was_damaged_in_the_store_is_no_answer,
    a_password_opens_a_registry_with_tls_and_only_the_right_one,
    a_certificate_of_an_unknown_authority_is_not_trusted,
    a_token_is_fetched_once_for_a_repository_and_an_asker,
    without_the_right_a_private_repository_looks_like_a_missing_one,
    a_token_that_the_registry_does_not_take_is_a_rejected_credential,
    a_token_service_that_refuses_is_told_apart_by_who_asked,
    a_token_that_expired_is_fetched_anew_within_the_look_up,
    a_token_of_another_scope_is_no_proof_that_an_image_is_missing,
    tags_are_listed,
);

async fn each_kind_of_manifest_has_the_digest_that_skopeo_pushed_or_sees(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let (client, domain) = client_of(&registry.url());
    let anyone = Pusher::Anyone;
    let layout = Layout::of("app");
    for (format, tag) in [("oci", "pushed-oci"), ("v2s2", "pushed-docker")] {
        let image = format!("{domain}/team/app:{tag}");
        let pushed = layout.push(&image, format, None);
        assert_eq!(ask(&client, &image, &[]).await, format!("Present {pushed}"), "{tag}");
    }
    for (tag, pushed) in [
        ("oci", registry.push_image("team/app", "oci", OCI_MANIFEST, &anyone).await),
        ("docker", registry.push_image("team/app", "docker", DOCKER_MANIFEST, &anyone).await),
        ("index", registry.push_index("team/app", "index", OCI_INDEX, &anyone).await),
        ("list", registry.push_index("team/app", "list", DOCKER_LIST, &anyone).await),
    ] {
        let image = format!("{domain}/team/app:{tag}");
        assert_eq!(ask(&client, &image, &[]).await, format!("Present {pushed}"), "{tag}");
        assert_eq!(skopeo::digest(&image, None), pushed, "{tag}");
    }
}

async fn a_missing_tag_and_a_missing_repository_are_told_apart(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let (client, domain) = client_of(&registry.url());
    registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    assert_eq!(ask(&client, &format!("{domain}/team/app:2"), &[]).await, "TagMissing");
    assert_eq!(ask(&client, &format!("{domain}/team/app"), &[]).await, "TagMissing");
    assert_eq!(ask(&client, &format!("{domain}/team/none:1"), &[]).await, "MissingOrPrivate");
    let (client, domain) = client_of_telling(&registry.url());
    assert_eq!(ask(&client, &format!("{domain}/team/app:2"), &[]).await, "TagMissing");
    assert_eq!(ask(&client, &format!("{domain}/team/none:1"), &[]).await, "RepositoryMissing");
}

async fn tags_are_listed(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let (client, domain) = client_of(&registry.url());
    for tag in ["1.0", "1.1", "latest"] {
        registry.push_image("team/app", tag, OCI_MANIFEST, &Pusher::Anyone).await;
    }
    let list = async |name| list_within(&client, &format!("{domain}/{name}"), &[], PATIENCE).await;
    assert_eq!(list("team/app").await, "Listed 1.1 1.0 latest");
    assert_eq!(list("team/none").await, "MissingOrPrivate");
    let (client, domain) = client_of_telling(&registry.url());
    let none = format!("{domain}/team/none");
    assert_eq!(list_within(&client, &none, &[], PATIENCE).await, "RepositoryMissing");
}

async fn a_moved_tag_is_seen_and_a_stopped_registry_is_unavailable(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let (client, domain) = client_of(&registry.url());
    let image = format!("{domain}/team/app:1");
    let first = registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    assert_eq!(ask(&client, &image, &[]).await, format!("Present {first}"));
    let second = registry.push_index("team/app", "1", OCI_INDEX, &Pusher::Anyone).await;
    assert_eq!(ask(&client, &image, &[]).await, format!("Present {second}"));
    drop(registry);
    assert_eq!(ask(&client, &image, &[]).await, "Unavailable Connect");
}

async fn a_manifest_that_was_damaged_in_the_store_is_no_answer(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let (client, domain) = client_of(&registry.url());
    let digest = registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let hex = digest.strip_prefix("sha256:").unwrap();
    let blob =
        registry.folder().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    std::fs::write(&blob, "{}").unwrap();
    let fact = ask(&client, &format!("{domain}/team/app:1"), &[]).await;
    assert!(fact.starts_with("Unavailable"), "{fact}");
}

async fn a_password_opens_a_registry_with_tls_and_only_the_right_one(release: Release) {
    let registry = Registry::start(release, &Access::Password("right"));
    let (client, domain) = client_of(&registry.url());
    let image = format!("{domain}/team/app:1");
    let pushed = Layout::of("app").push(&image, "oci", Some("robot:right"));
    let present = format!("Present {pushed}");
    let right = secret("right", "robot", "right");
    let wrong = secret("wrong", "robot", "wrong");

    assert_eq!(skopeo::digest(&image, Some("robot:right")), pushed);
    assert_eq!(ask(&client, &image, from_ref(&right)).await, present);
    assert_eq!(ask(&client, &image, from_ref(&wrong)).await, "CredentialsRejected wrong");
    assert_eq!(ask(&client, &image, &[]).await, "MissingOrPrivate");
    assert_eq!(ask(&client, &image, &[wrong.clone(), right.clone()]).await, present);
    let missing = format!("{domain}/team/app:2");
    assert_eq!(ask(&client, &missing, &[wrong, right.clone()]).await, "TagMissing");
    let nowhere = format!("{domain}/team/none:1");
    assert_eq!(ask(&client, &nowhere, from_ref(&right)).await, "MissingOrPrivate");
    let (client, _) = client_of_telling(&registry.url());
    assert_eq!(ask(&client, &nowhere, &[right]).await, "RepositoryMissing");
}

async fn a_certificate_of_an_unknown_authority_is_not_trusted(release: Release) {
    let registry = Registry::start(release, &Access::Password("right"));
    let mut endpoint = Endpoint::new(Url::parse(&registry.url()).unwrap()).unwrap();
    endpoint.allow_private = true;
    let profiles = TestProfiles::one(profile(endpoint), &registry.authority());
    let client = client(profiles, TestNames::default(), Arc::new(()));
    let image = format!("{}/team/app:1", registry.authority());
    assert_eq!(ask(&client, &image, &[]).await, "Unavailable Tls");
}

/// Starts a registry with a token service, an image in `public/app` and one in `team/app`, both tagged 1.
async fn with_tokens(release: Release) -> (Registry, TokenService, String) {
    let service = TokenService::start().await;
    let access = Access::Token { realm: &service.realm, bundle: &service.signer.bundle };
    let registry = Registry::start(release, &access);
    let signer = Arc::clone(&service.signer);
    let pusher = Pusher::Token(Box::new(move |name| signer.token("tests", 300, name, &["pull", "push"])));
    let public = registry.push_image("public/app", "1", OCI_MANIFEST, &pusher).await;
    let private = registry.push_image("team/app", "1", OCI_MANIFEST, &pusher).await;
    assert_ne!(public, private);
    (registry, service, private)
}

async fn a_token_is_fetched_once_for_a_repository_and_an_asker(release: Release) {
    let (registry, service, private) = with_tokens(release).await;
    let (client, domain) = client_of(&registry.url());
    let robot = secret("regcred", "robot", PASSWORD);
    let image = format!("{domain}/team/app:1");
    for _ in 0..3 {
        assert_eq!(ask(&client, &image, from_ref(&robot)).await, format!("Present {private}"));
    }
    assert_eq!(service.asked(), 1);
    assert!(ask(&client, &format!("{domain}/public/app:1"), &[]).await.starts_with("Present "));
    assert_eq!(service.asked(), 2);
    assert_eq!(skopeo::digest(&image, Some(&format!("robot:{PASSWORD}"))), private);
}

async fn without_the_right_a_private_repository_looks_like_a_missing_one(release: Release) {
    let (registry, _service, _) = with_tokens(release).await;
    let (client, domain) = client_of(&registry.url());
    for image in ["team/app:1", "team/none:1"] {
        assert_eq!(ask(&client, &format!("{domain}/{image}"), &[]).await, "MissingOrPrivate", "{image}");
    }
    let robot = secret("regcred", "robot", PASSWORD);
    let nowhere = format!("{domain}/team/none:1");
    assert_eq!(ask(&client, &nowhere, from_ref(&robot)).await, "MissingOrPrivate");
    assert_eq!(ask(&client, &format!("{domain}/team/app:2"), from_ref(&robot)).await, "TagMissing");
    let (client, _) = client_of_telling(&registry.url());
    assert_eq!(ask(&client, &nowhere, &[robot]).await, "RepositoryMissing");
}

async fn a_token_that_the_registry_does_not_take_is_a_rejected_credential(release: Release) {
    let (registry, service, private) = with_tokens(release).await;
    let robot = secret("regcred", "robot", PASSWORD);
    for gives in [Gives::Expired, Gives::ForOthers] {
        let (client, domain) = client_of(&registry.url());
        let image = format!("{domain}/team/app:1");
        service.give(&[gives]);
        let fact = ask(&client, &image, from_ref(&robot)).await;
        assert_eq!(fact, "CredentialsRejected regcred", "{gives:?}");
        service.give(&[Gives::Due]);
        let fact = ask(&client, &image, from_ref(&robot)).await;
        assert_eq!(fact, format!("Present {private}"), "{gives:?}");
    }
}

async fn a_token_service_that_refuses_is_told_apart_by_who_asked(release: Release) {
    let (registry, service, _) = with_tokens(release).await;
    let (client, domain) = client_of(&registry.url());
    let image = format!("{domain}/team/app:1");
    let wrong = secret("stale", "robot", "wrong");
    assert_eq!(ask(&client, &image, &[wrong]).await, "CredentialsRejected stale");
    service.give(&[Gives::Nothing]);
    assert_eq!(ask(&client, &image, &[secret("regcred", "robot", PASSWORD)]).await, "AccessDenied");
    assert_eq!(ask(&client, &image, &[]).await, "MissingOrPrivate");
}

async fn a_token_that_expired_is_fetched_anew_within_the_look_up(release: Release) {
    let (registry, service, private) = with_tokens(release).await;
    let (client, domain) = client_of(&registry.url());
    let robot = secret("regcred", "robot", PASSWORD);
    service.give(&[Gives::Expired, Gives::Due]);
    let fact = ask(&client, &format!("{domain}/team/app:1"), from_ref(&robot)).await;
    assert_eq!((fact, service.asked()), (format!("Present {private}"), 2));
}

async fn a_token_of_another_scope_is_no_proof_that_an_image_is_missing(release: Release) {
    let (registry, service, private) = with_tokens(release).await;
    let (client, domain) = client_of(&registry.url());
    let robot = secret("regcred", "robot", PASSWORD);
    service.give(&[Gives::Elsewhere]);
    for image in ["team/app:1", "team/app:2", "team/none:1"] {
        let fact = ask(&client, &format!("{domain}/{image}"), from_ref(&robot)).await;
        assert_eq!(fact, "MissingOrPrivate", "{image}");
    }
    service.give(&[Gives::Due]);
    let fact = ask(&client, &format!("{domain}/team/app:1"), from_ref(&robot)).await;
    assert_eq!(fact, format!("Present {private}"));
}

#[tokio::test]
async fn a_token_is_kept_for_nine_tenths_of_its_life() {
    for release in [Release::Debian, Release::Current] {
        let (registry, service, private) = with_tokens(release).await;
        let (client, domain) = client_of(&registry.url());
        let robot = secret("regcred", "robot", PASSWORD);
        let image = format!("{domain}/team/app:1");
        for (after, asked) in [(0, 1), (269, 1), (2, 2)] {
            // The clock is paused only for this step, because a paused clock advances while the test waits for a
            // connection.
            pause();
            advance(Duration::from_secs(after)).await;
            resume();
            let fact = ask(&client, &image, from_ref(&robot)).await;
            assert_eq!((fact, service.asked()), (format!("Present {private}"), asked), "{release:?}");
        }
    }
}

#[test]
fn digests_are_those_of_sha256sum() {
    assert_eq!(digest_of(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
