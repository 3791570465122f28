//! `tagpin resolve` as a process, against Debian's `docker-registry`.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::distribution::{Access, OCI_INDEX, OCI_MANIFEST, Pusher, Registry, Release};
use super::support::AUTHORITY;
use crate::support::api_server::ApiServer;

/// Runs `tagpin resolve` with only a home directory in its environment.
pub(super) fn resolve(home: &Path, args: &[&str]) -> Output {
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.arg("resolve").args(args).env_clear().env("HOME", home).output().unwrap()
}

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(super) fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Creates a home directory with a configuration of registries in `registries.yaml`.
fn home(registries: &str) -> TempDir {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("registries.yaml"), registries).unwrap();
    std::fs::write(home.path().join("ca.pem"), &AUTHORITY.ca).unwrap();
    home
}

fn plain(registry: &Registry) -> TempDir {
    let authority = registry.authority();
    home(&format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  resolveFrom: mirrors-only\n  mirrors: [{{ url: 'http://{authority}' }}]\n"
    ))
}

pub(super) fn config(home: &TempDir) -> String {
    format!("--registries={}", home.path().join("registries.yaml").display())
}

#[cfg(feature = "aws")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_why_a_cloud_gives_no_credential() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    let digest = registry.push_image("app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let home = home(&format!(
        "registries:\n- match: {ecr}\n  allowPrivate: true\n  resolveFrom: mirrors-only\n  mirrors: [{{ url: '{}' }}]\n  credentials: {{ aws: {{}} }}\n",
        registry.url()
    ));
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.args(["resolve", &format!("{ecr}/app:1"), &config(&home)]);
    let tagpin = tagpin.env_clear().env("HOME", home.path()).env("AWS_EC2_METADATA_DISABLED", "true");
    let output = tagpin.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "note: no credential of aws for {ecr}: tagpin has no identity for this cloud: give its service account a role (IRSA or \
             EKS Pod Identity)\n"
        )
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&digest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_was_asked_answered_and_chosen() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    let digest = registry.push_index("team/app", "1.4.6", OCI_INDEX, &Pusher::Anyone).await;
    let home = plain(&registry);
    let image = format!("{}/team/app:1.4.6", registry.authority());

    let output = resolve(home.path(), &[&image, &config(&home)]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert_eq!(text.lines().last(), Some(format!("{image}@{digest}").as_str()));
    assert!(text.contains(&format!("HEAD {}/v2/team/app/manifests/1.4.6: 200", registry.url())), "{text}");

    let answer = json(&resolve(home.path(), &[&image, &config(&home), "--output=json"]));
    assert_eq!(answer["outcome"], "Present");
    assert_eq!(answer["reference"], image);
    assert_eq!(answer["image"], image);
    assert_eq!(answer["digest"], digest);
    assert_eq!(answer["pinned"], format!("{image}@{digest}"));
    assert_eq!(answer["didYouMean"], Value::Array(Vec::new()));
    let steps = answer["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(steps[0]["step"], "request");
    assert_eq!(steps[0]["method"], "HEAD");
    assert_eq!(steps[0]["status"], 200);
    assert_eq!(steps[1]["step"], "endpoint");
    assert_eq!(steps[1]["outcome"], "Present");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_tag_is_a_violation_with_what_to_type_instead() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    registry.push_image("team/app", "1.4.6", OCI_MANIFEST, &Pusher::Anyone).await;
    let home = plain(&registry);
    let image = format!("{}/team/app:1.4.7", registry.authority());

    let output = resolve(home.path(), &[&image, &config(&home)]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let first = format!(
        "image \"{image}\": tag \"1.4.7\" does not exist in {}/team/app [TagNotFound]",
        registry.authority()
    );
    assert!(text.contains(&first), "{text}");
    assert!(text.contains("did you mean: 1.4.6"), "{text}");

    let missing = format!("{}/team/none:1", registry.authority());
    let output = resolve(home.path(), &[&missing, &config(&home), "--output=json"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(json(&output)["outcome"], "RepositoryMissingOrPrivate");
    // The registry shows every repository to everybody, and its entry says so.
    let file = home.path().join("registries.yaml");
    let entry = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{entry}  notFoundIsProof: true\n")).unwrap();
    let output = resolve(home.path(), &[&missing, &config(&home), "--output=json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["outcome"], "RepositoryNotFound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_persons_own_credentials_are_used_and_never_shown() {
    const PASSWORD: &str = "not-to-be-shown";
    let registry = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let robot = Pusher::Robot(PASSWORD.to_owned());
    let digest = registry.push_image("team/app", "1", OCI_MANIFEST, &robot).await;
    let authority = registry.authority();
    let home = home(&format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  tls: {{ caFile: ca.pem }}\n"
    ));
    let image = format!("{authority}/team/app:1");

    let stranger = resolve(home.path(), &[&image, &config(&home), "--output=json"]);
    assert_eq!(stranger.status.code(), Some(3));
    assert_eq!(json(&stranger)["outcome"], "RepositoryMissingOrPrivate");

    let encoded = STANDARD.encode(format!("robot:{PASSWORD}"));
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let docker = home.path().join(".docker/config.json");
    std::fs::write(&docker, format!(r#"{{"auths":{{"{authority}":{{"auth":"{encoded}"}}}}}}"#)).unwrap();
    for format in ["text", "json"] {
        let output = resolve(home.path(), &[&image, &config(&home), "--output", format]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(&digest) && text.contains(&docker.display().to_string()), "{text}");
        assert!(!text.contains(PASSWORD) && !text.contains(&encoded), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_needs_no_authorities() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let home = plain(&registry);
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.args([
        "resolve",
        &format!("{}/team/app:1", registry.authority()),
        &config(&home),
        "--output=json",
    ]);
    tagpin.env_clear().env("HOME", home.path()).env("SSL_CERT_FILE", home.path().join("none.pem"));
    assert_eq!(json(&tagpin.output().unwrap())["outcome"], "Present");
}

#[test]
fn authorities_that_count_alone_take_the_place_of_those_of_the_system() {
    let registry = Registry::start(Release::Debian, &Access::Password("unknown"));
    let (authority, home) = (registry.authority(), home(""));
    let other = rcgen::generate_simple_self_signed(vec!["other.test".to_owned()]).unwrap().cert.pem();
    std::fs::write(home.path().join("other.pem"), other).unwrap();
    // The system trusts the authority that signed the registry's certificate.
    let ask = |tls: &str| {
        let text = format!("registries: [{{ match: '{authority}', allowPrivate: true, tls: {tls} }}]\n");
        std::fs::write(home.path().join("registries.yaml"), text).unwrap();
        let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        tagpin.args(["resolve", &format!("{authority}/team/app:1"), &config(&home), "--output=json"]);
        tagpin.env_clear().env("HOME", home.path()).env("SSL_CERT_FILE", home.path().join("ca.pem"));
        json(&tagpin.output().unwrap())["cause"].clone()
    };
    assert_eq!(ask("{}"), Value::Null);
    assert_eq!(ask("{ caFile: other.pem }"), Value::Null);
    assert_eq!(ask("{ caFile: other.pem, caOnly: true }"), "Tls");
    assert_eq!(ask("{ caFile: ca.pem, caOnly: true }"), Value::Null);
}

#[test]
fn what_the_cluster_does_not_ask_says_so_and_how_to_ask_it() {
    let home = home("registries: []\n");
    for (image, outcome, remedy) in [
        ("localhost:1/app:1", "Offline", r#"match: "localhost:1", allowPrivate: true"#),
        ("127.0.0.1:1/app:1", "RegistryForbidden", r#"match: "127.0.0.1:1", allowPrivate: true"#),
        ("169.254.169.254/app:1", "RegistryForbidden", "169.254.169.254"),
        ("[::1]:1/app:1", "RegistryForbidden", "[::1]"),
    ] {
        let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        tagpin.args(["resolve", image, "--output=json"]).env_clear().env("HOME", home.path());
        let output = tagpin.env("KUBERNETES_SERVICE_HOST", "10.96.0.1").output().unwrap();
        let answer = json(&output);
        assert_eq!(output.status.code(), Some(3), "{image}");
        assert_eq!(answer["outcome"], outcome, "{image}");
        assert!(answer["remedy"].as_str().unwrap().contains(remedy), "{image}: {answer}");
    }
}

#[test]
fn what_no_node_could_pull_is_wrong_use() {
    let home = home("");
    for image in ["Nginx", "nginx:tag with spaces", "https://nginx", ""] {
        let output = resolve(home.path(), &[image]);
        assert_eq!(output.status.code(), Some(2), "{image}");
        assert!(output.stdout.is_empty(), "{image}");
    }
    let output = resolve(home.path(), &["nginx", "--registries=/does/not/exist"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/does/not/exist"));
}

#[test]
fn a_reference_with_a_digest_is_not_taken_for_granted() {
    let home = home("");
    let image = format!("nowhere.invalid/app:1@sha256:{}", "a".repeat(64));
    let output = resolve(home.path(), &[&image, "--output=json"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(json(&output)["outcome"], "RegistryUnavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_gets_its_image_and_one_that_is_not_there_is_a_violation() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    let index = registry.push_index("team/app", "1", OCI_INDEX, &Pusher::Anyone).await;
    let lone = registry.push_image("team/lone", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let home = plain(&registry);
    let arm = registry.push_image("team/app", "1-arm64", OCI_MANIFEST, &Pusher::Anyone).await;
    let image = |name: &str| format!("{}/{name}:1", registry.authority());
    let ask = |name: &str, platform: &str| {
        let output =
            resolve(home.path(), &[&image(name), &config(&home), "--output=json", "--platform", platform]);
        (output.status.code().unwrap(), json(&output))
    };
    let (code, answer) = ask("team/app", "linux/aarch64");
    assert_eq!((code, &answer["digest"]), (0, &Value::from(index.clone())));
    assert_eq!(answer["platform"]["wanted"], "linux/arm64");
    assert_eq!(answer["platform"]["digest"], arm);
    assert_eq!(answer["platform"]["has"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    // A single image has its platform in its configuration.
    let (code, answer) = ask("team/lone", "linux/amd64");
    assert_eq!((code, &answer["platform"]["digest"]), (0, &Value::from(lone)));
    let (code, answer) = ask("team/app", "windows/amd64");
    assert_eq!((code, &answer["platform"]["digest"]), (1, &Value::Null));
    assert_eq!(answer["problem"], "there is no image for windows/amd64: it has linux/amd64, linux/arm64");

    let output = resolve(home.path(), &[&image("team/app"), &config(&home), "--platform=linux/arm64"]);
    assert!(stdout(&output).ends_with(&format!("@{index}\n  linux/arm64: {arm}\n")), "{}", stdout(&output));
    assert_eq!(resolve(home.path(), &[&image("team/app"), "--platform=linux"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_shows_headers_and_no_secret() {
    const PASSWORD: &str = "not-to-be-shown";
    let registry = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let digest =
        registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Robot(PASSWORD.to_owned())).await;
    let authority = registry.authority();
    let home = home(&format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  tls: {{ caFile: ca.pem }}\n"
    ));
    let encoded = STANDARD.encode(format!("robot:{PASSWORD}"));
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let auths = format!(r#"{{"auths":{{"{authority}":{{"auth":"{encoded}"}}}}}}"#);
    std::fs::write(home.path().join(".docker/config.json"), auths).unwrap();
    let image = format!("{authority}/team/app:1");
    let text = stdout(&resolve(home.path(), &[&image, &config(&home), "--trace"]));
    for line in [
        "> accept-encoding: identity".to_owned(),
        "> authorization: Basic ***".to_owned(),
        "< www-authenticate: Basic realm=".to_owned(),
        format!("< docker-content-digest: {digest}"),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !text.contains(&encoded), "{text}");
    let answer = json(&resolve(home.path(), &[&image, &config(&home), "--trace", "--output=json"]));
    let first = &answer["steps"][0];
    assert_eq!(first["status"], 401);
    assert!(first["sent"].as_array().unwrap().contains(&"accept-encoding: identity".into()), "{first}");
    // Without `--trace` the field is absent.
    let answer = json(&resolve(home.path(), &[&image, &config(&home), "--output=json"]));
    assert_eq!(answer["steps"][0].get("sent"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_asks_with_the_pull_secrets_that_it_names() {
    const PASSWORD: &str = "not-to-be-shown";
    let registry = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let digest =
        registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Robot(PASSWORD.to_owned())).await;
    let authority = registry.authority();
    let home = home(&format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  tls: {{ caFile: ca.pem }}\n"
    ));
    let secret = |password: &str| {
        let auths =
            serde_json::json!({ "auths": { &authority: { "username": "robot", "password": password } } });
        let data = STANDARD.encode(auths.to_string());
        serde_json::json!({
            "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "regcred" },
            "type": "kubernetes.io/dockerconfigjson", "data": { ".dockerconfigjson": data },
        })
    };
    let account = |secrets: &[&str]| {
        let secrets: Vec<_> = secrets.iter().map(|name| serde_json::json!({ "name": name })).collect();
        serde_json::json!({
            "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": "web" },
            "imagePullSecrets": secrets,
        })
    };
    let server = ApiServer::start(vec![
        ("/api/v1/namespaces/shop/serviceaccounts/web".to_owned(), account(&["gone", "regcred"])),
        ("/api/v1/namespaces/shop/secrets/regcred".to_owned(), secret(PASSWORD)),
        ("/api/v1/namespaces/shop/serviceaccounts/stale".to_owned(), account(&["old"])),
        ("/api/v1/namespaces/shop/secrets/old".to_owned(), secret("changed-since")),
    ])
    .await;
    let kubeconfig = server.kubeconfig(home.path());
    let image = format!("{authority}/team/app:1");
    let ask = |account: &str| {
        let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        tagpin.args(["resolve", &image, &config(&home), "--output=json", "--as", account]).env_clear();
        let output = tagpin.env("HOME", home.path()).env("KUBECONFIG", &kubeconfig).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), answer, String::from_utf8(output.stderr).unwrap())
    };
    let (code, answer, notes) = ask("shop/web");
    assert_eq!((code, &answer["digest"]), (0, &Value::from(digest)), "{answer} {notes}");
    assert!(notes.contains("a pull secret of the service account is not used: not-found"), "{notes}");
    assert!(answer["steps"].to_string().contains("pull secret regcred"), "{answer}");
    assert!(!answer.to_string().contains(PASSWORD));

    let (code, answer, _) = ask("shop/stale");
    assert_eq!((code, &answer["outcome"]), (3, &Value::from("CredentialsRejected")), "{answer}");
    assert!(answer["problem"].as_str().unwrap().contains("pull secret \"old\""), "{answer}");
    assert_eq!(answer["anonymously"], "RepositoryMissingOrPrivate");

    let (code, _, notes) = ask("shop/nobody");
    assert_eq!(code, 2, "{notes}");
    assert!(notes.contains("there is no service account shop/nobody"), "{notes}");
    assert_eq!(ask("shop").0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_without_a_pull_secret_asks_with_what_the_cloud_gives_to_the_person() {
    const PASSWORD: &str = "not-to-be-shown";
    const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let registry = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let digest =
        registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Robot(PASSWORD.to_owned())).await;
    let authority = registry.authority();
    let home = home(&format!(
        "registries:
        - match: {ECR}
          allowPrivate: true
          credentials: {{ aws: {{}} }}
          resolveFrom: mirrors-only
          mirrors: [{{ url: 'https://{authority}', sendPullSecrets: true }}]
          tls: {{ caFile: ca.pem }}
        "
    ));
    let account = serde_json::json!({
        "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": "web" },
    });
    let token = STANDARD.encode(format!("AWS:{PASSWORD}"));
    let given =
        serde_json::json!({ "authorizationData": [{ "authorizationToken": token, "expiresAt": 4e9 }] });
    let server = ApiServer::start(vec![
        ("/api/v1/namespaces/shop/serviceaccounts/web".to_owned(), account),
        ("/".to_owned(), given),
    ])
    .await;
    let ask = |key: &str| {
        let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        let image = format!("{ECR}/team/app:1");
        tagpin.args(["resolve", &image, &config(&home), "--output=json", "--as=shop/web"]).env_clear();
        tagpin.env("HOME", home.path()).env("KUBECONFIG", server.kubeconfig(home.path()));
        tagpin.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", "aws-secret");
        tagpin.env("AWS_EC2_METADATA_DISABLED", "true");
        let output = tagpin.env("AWS_ENDPOINT_URL_ECR", server.url()).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), answer, String::from_utf8(output.stderr).unwrap())
    };
    let (code, answer, notes) = ask("AKIDEXAMPLE");
    assert_eq!((code, &answer["digest"]), (0, &Value::from(digest)), "{answer} {notes}");
    assert!(answer["steps"].to_string().contains(&format!("configuration of {ECR}")), "{answer}");
    assert!(notes.contains("aws gave you a credential; in the cluster, tagpin's own pod asks"), "{notes}");
    assert!(!answer.to_string().contains(PASSWORD));

    // A user without an identity in the cloud is told so, with the cause; in the cluster tagpin may have an identity.
    let (code, answer, notes) = ask("");
    assert_eq!((code, &answer["outcome"]), (3, &Value::from("RegistryUnavailable")), "{answer}");
    assert_eq!(answer["cause"], "NoCredential");
    assert!(notes.contains("aws gave you no credential: tagpin has no identity"), "{notes}");
}
