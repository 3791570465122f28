//! `tagpin resolve` and `tagpin tags` on the machine of a person: which registries they ask there, with which
//! credentials, and through which proxy.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api_server::ApiServer;

use super::distribution::{Access, OCI_INDEX, OCI_MANIFEST, Pusher, Registry, Release};

const PASSWORD: &str = "not-to-be-shown";

/// The answer of a command: its exit code, the JSON on standard output, and the text on standard error.
struct Answer {
    code: i32,
    json: Value,
    notes: String,
}

/// Runs a command with these variables alone and without a registries file.
fn tagpin(command: &str, home: &Path, variables: &[(&str, &str)], args: &[&str]) -> Answer {
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.arg(command).args(args).arg("--output=json").env_clear().env("HOME", home);
    let output = tagpin.envs(variables.iter().copied()).output().unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(!stdout.contains(PASSWORD) && !notes.contains(PASSWORD), "{stdout} {notes}");
    Answer {
        code: output.status.code().unwrap(),
        json: serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout} {notes}")),
        notes,
    }
}

fn resolve(home: &Path, variables: &[(&str, &str)], image: &str) -> Answer {
    tagpin("resolve", home, variables, &[image])
}

/// The variable of a container, in which the cluster's rules apply.
const POD: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_on_this_machine_is_asked_as_docker_asks_it() {
    let plain = Registry::start(Release::Debian, &Access::Open);
    let digest = plain.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let tls = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let robot = Pusher::Robot(PASSWORD.to_owned());
    let secured = tls.push_image("team/app", "1", OCI_MANIFEST, &robot).await;
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join(".docker")).unwrap();
    let auth = json!({ "auths": { tls.authority(): { "username": "robot", "password": PASSWORD } } });
    fs::write(home.path().join(".docker/config.json"), auth.to_string()).unwrap();

    // Without TLS it is asked over plain http, by its address and by the name of this machine.
    let by_name = plain.authority().replace("127.0.0.1", "localhost");
    for host in [plain.authority(), by_name] {
        let answer = resolve(home.path(), &[], &format!("{host}/team/app:1"));
        assert_eq!((answer.code, &answer.json["digest"]), (0, &json!(digest)), "{}", answer.json);
        let note = format!("note: the cluster does not ask {host}: each machine means itself by that name\n");
        assert_eq!(answer.notes, note);
        let answer = tagpin("tags", home.path(), &[], &[&format!("{host}/team/app"), "--digests"]);
        assert_eq!(answer.json["tags"], json!([{ "tag": "1", "digest": digest }]), "{}", answer.json);
        assert_eq!((answer.code, answer.notes), (0, note));
    }
    // With TLS its certificate is not verified, and plain http is not tried.
    let answer = resolve(home.path(), &[], &format!("{}/team/app:1", tls.authority()));
    assert_eq!((answer.code, &answer.json["digest"]), (0, &json!(secured)), "{}", answer.json);
    assert!(!answer.json["steps"].to_string().contains("http://"), "{}", answer.json);

    // The cluster asks none of them.
    for (host, outcome) in [(plain.authority(), "RegistryForbidden"), ("localhost:1".to_owned(), "Offline")] {
        let answer = resolve(home.path(), &[POD], &format!("{host}/team/app:1"));
        assert_eq!((answer.code, &answer.json["outcome"]), (3, &json!(outcome)));
        assert_eq!((answer.json["steps"].to_string().contains("200"), answer.notes.as_str()), (false, ""));
    }
}

#[test]
fn what_the_cluster_does_not_ask_is_noted() {
    let home = TempDir::new().unwrap();
    for (image, outcome, note) in [
        ("127.0.0.1:1/app:1", "RegistryUnavailable", "each machine means itself by that name"),
        ("[::1]:1/app:1", "RegistryUnavailable", "each machine means itself by that name"),
        (
            "registry-of-nobody:5000/app:1",
            "RegistryUnavailable",
            "one word is offline there; to let it ask, add registries: [{ match: \"registry-of-nobody:5000\", \
             allowPrivate: true }] to the values of tagpin",
        ),
        // Nobody routes these documentation addresses.
        (
            "192.0.2.7:5000/app:1",
            "RegistryUnavailable",
            "its address is private; to let it ask, add registries: [{ match: \"192.0.2.7:5000\", allowPrivate: true \
             }] to the values of tagpin",
        ),
        ("169.254.169.254/app:1", "RegistryForbidden", ""),
        ("100.100.100.200/app:1", "RegistryForbidden", ""),
        ("nowhere.invalid/app:1", "RegistryUnavailable", ""),
    ] {
        for command in ["resolve", "tags"] {
            let image = if command == "tags" { image.trim_end_matches(":1") } else { image };
            let answer = tagpin(command, home.path(), &[], &[image, "--timeout=1"]);
            assert_eq!((answer.code, &answer.json["outcome"]), (3, &json!(outcome)), "{image}");
            assert!(answer.notes.contains(note), "{image}: {}", answer.notes);
            assert_eq!(answer.notes.is_empty(), note.is_empty(), "{image}: {}", answer.notes);
        }
    }
}

#[test]
fn an_entry_and_the_rules_of_the_cluster_hold_where_they_are_asked_for() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("registries.yaml");
    fs::write(&file, "registries: [{ match: 'registry:5000', offline: true }]\n").unwrap();
    let option = format!("--registries={}", file.display());
    let answer = tagpin("resolve", home.path(), &[], &["registry:5000/app:1", &option]);
    assert_eq!((&answer.json["outcome"], answer.notes.as_str()), (&json!("Offline"), ""));
    let answer = resolve(home.path(), &[POD], "127.0.0.1:1/app:1");
    assert_eq!((&answer.json["outcome"], answer.notes.as_str()), (&json!("RegistryForbidden"), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_is_asked_for_and_a_tag_that_names_another_is_told() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    let old = registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let home = TempDir::new().unwrap();
    let name = format!("{}/team/app", registry.authority());
    let written = format!("{name}:1@{old}");
    for image in [&written, &format!("{name}@{old}")] {
        let answer = resolve(home.path(), &[], image);
        assert_eq!((answer.code, &answer.json["pinned"]), (0, &json!(image)), "{}", answer.json);
        assert!(answer.json["steps"].to_string().contains(&format!("manifests/{old}")), "{}", answer.json);
        assert_eq!(answer.json.get("tagNames"), None);
    }
    let new = registry.push_index("team/app", "1", OCI_INDEX, &Pusher::Anyone).await;
    let answer = resolve(home.path(), &[], &written);
    assert_eq!((answer.code, &answer.json["digest"]), (0, &json!(old)));
    assert_eq!(answer.json["tagNames"], new);
    let text = Command::new(env!("CARGO_BIN_EXE_tagpin"))
        .args(["resolve", &written])
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.ends_with(&format!(
            "\n{written}\n  the tag names {new} now; nodes pull the digest that is written\n"
        )),
        "{text}"
    );

    let missing = format!("{name}:1@sha256:{}", "a".repeat(64));
    let answer = resolve(home.path(), &[], &missing);
    assert_eq!((answer.code, &answer.json["outcome"]), (1, &json!("DigestNotFound")), "{}", answer.json);
}

/// Writes the program of a credential helper into the folder.
fn helper(folder: &Path, name: &str, script: &str) {
    let program = folder.join(format!("docker-credential-{name}"));
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credential_helpers_are_run_as_docker_runs_them() {
    let registry = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let robot = Pusher::Robot(PASSWORD.to_owned());
    let digest = registry.push_image("team/app", "1", OCI_MANIFEST, &robot).await;
    let (authority, home, programs) =
        (registry.authority(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = format!("{authority}/team/app:1");
    let given = format!(
        r#"[ "$1" = get ] && [ "$(cat)" = "{authority}" ] || exit 1
        echo '{{"ServerURL":"{authority}","Username":"robot","Secret":"{PASSWORD}"}}'"#
    );
    helper(programs.path(), "good", &given);
    helper(
        programs.path(),
        "empty",
        "cat > /dev/null; echo credentials not found in native keychain; exit 1",
    );
    helper(programs.path(), "failing", "echo locked; exit 1");
    helper(programs.path(), "huge", "cat > /dev/null; exec head -c 100000 /dev/zero");
    helper(programs.path(), "odd", "cat > /dev/null; echo '{}'");
    let ends = programs.path().join("ends");
    helper(programs.path(), "hanging", &format!("echo $$ > {}; exec sleep 1000", ends.display()));
    let path = format!("{}:/usr/bin:/bin", programs.path().display());
    fs::create_dir(home.path().join(".docker")).unwrap();
    let ask = |config: &Value| {
        fs::write(home.path().join(".docker/config.json"), config.to_string()).unwrap();
        tagpin("resolve", home.path(), &[("PATH", &path)], &[&image, "--timeout=2"])
    };
    let own_note = "each machine means itself by that name\n";
    for config in [
        json!({ "credsStore": "good" }),
        json!({ "credsStore": "failing", "credHelpers": { &authority: "good" } }),
    ] {
        let answer = ask(&config);
        assert_eq!((answer.code, &answer.json["digest"]), (0, &json!(digest)), "{}", answer.json);
        assert!(answer.json["steps"].to_string().contains("docker-credential-good"), "{}", answer.json);
        assert!(answer.notes.ends_with(own_note) && answer.notes.lines().count() == 1, "{}", answer.notes);
    }
    for (name, cause) in [
        ("empty", None),
        ("failing", Some("docker-credential-failing gave no credential for HOST: it failed")),
        (
            "huge",
            Some("docker-credential-huge gave no credential for HOST: its answer is larger than 65536 bytes"),
        ),
        ("odd", Some("docker-credential-odd gave no credential for HOST: its answer is not a credential")),
        (
            "hanging",
            Some("docker-credential-hanging gave no credential for HOST: it did not answer within 1 s"),
        ),
        (
            "gone",
            Some(
                "docker-credential-gone gave no credential for HOST: the program cannot be started: entity not found",
            ),
        ),
        ("../bin/good", Some("HOST: \"../bin/good\" is not the name of a credential helper")),
    ] {
        let asked = Instant::now();
        let answer = ask(&json!({ "credsStore": name }));
        assert!(asked.elapsed() < Duration::from_secs(20), "{name}");
        // The registry is asked anonymously, and the person knows why.
        assert_eq!(answer.json["outcome"], "RepositoryMissingOrPrivate", "{name}: {}", answer.json);
        match cause {
            Some(cause) => {
                assert!(
                    answer.notes.contains(&cause.replace("HOST", &authority)),
                    "{name}: {}",
                    answer.notes
                );
            }
            None => assert_eq!(answer.notes.lines().count(), 1, "{name}: {}", answer.notes),
        }
    }
    // Nothing is left of the helper that hung.
    let process = fs::read_to_string(&ends).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    assert!(!state.contains("(sleep) S"), "{state}");
    // An identity token is exchanged at a token service, which this registry does not have.
    helper(programs.path(), "token", r#"cat > /dev/null; echo '{"Username":"<token>","Secret":"t"}'"#);
    let answer = ask(&json!({ "credsStore": "token" }));
    assert_eq!(answer.json["outcome"], "RepositoryMissingOrPrivate", "{}", answer.json);
    assert_eq!(answer.notes.lines().count(), 1, "{}", answer.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_podman_counts_after_that_of_docker() {
    let registry = Registry::start(Release::Debian, &Access::Password(PASSWORD));
    let robot = Pusher::Robot(PASSWORD.to_owned());
    let digest = registry.push_image("team/app", "1", OCI_MANIFEST, &robot).await;
    let (authority, home) = (registry.authority(), TempDir::new().unwrap());
    let image = format!("{authority}/team/app:1");
    let file = |path: &str, password: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let auth = STANDARD.encode(format!("robot:{password}"));
        fs::write(&path, json!({ "auths": { &authority: { "auth": auth } } }).to_string()).unwrap();
        path.display().to_string()
    };
    let podman = file(".config/containers/auth.json", PASSWORD);
    let answer = resolve(home.path(), &[], &image);
    assert_eq!((answer.code, &answer.json["digest"]), (0, &json!(digest)), "{}", answer.json);
    assert!(answer.json["steps"].to_string().contains(&podman), "{}", answer.json);
    // A credential that the registry rejects does not hide the next one.
    let docker = file(".docker/config.json", "changed-since");
    let answer = resolve(home.path(), &[], &image);
    let steps = answer.json["steps"].to_string();
    assert_eq!(answer.code, 0, "{}", answer.json);
    assert!(steps.find(&docker).unwrap() < steps.find(&podman).unwrap(), "{steps}");
    // `REGISTRY_AUTH_FILE` takes the place of Podman's own file.
    let other = file("other.json", "changed-since");
    let answer = resolve(home.path(), &[("REGISTRY_AUTH_FILE", &other)], &image);
    assert_eq!((answer.code, &answer.json["outcome"]), (3, &json!("CredentialsRejected")));
}

#[test]
fn the_proxy_of_the_environment_leads_to_registries_but_not_to_this_machine() {
    let home = TempDir::new().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let (heard, asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
            if heard.send(line).is_err() {
                return;
            }
        }
    });
    let requests = || asked.try_iter().collect::<Vec<_>>();
    let image = "registry.invalid/app:1";
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let answer = resolve(home.path(), &[(name, &url)], image);
        assert_eq!((answer.code, &answer.json["cause"]), (3, &json!("Proxy")), "{name}: {}", answer.json);
        let heard = requests();
        assert!(!heard.is_empty(), "{name}");
        assert!(heard.iter().all(|line| line == "CONNECT registry.invalid:443 HTTP/1.1\r\n"), "{heard:?}");
    }
    for (variables, image, cause) in [
        (&[("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "other.test, registry.invalid")][..], image, "Dns"),
        (&[("HTTPS_PROXY", url.as_str()), ("no_proxy", ".invalid")], image, "Dns"),
        (&[("HTTPS_PROXY", url.as_str())], "127.0.0.1:1/app:1", "Connect"),
        (&[("HTTP_PROXY", url.as_str())], image, "Dns"),
    ] {
        let answer = resolve(home.path(), variables, image);
        assert_eq!(answer.json["cause"], cause, "{variables:?}: {}", answer.json);
        assert_eq!(requests(), [""; 0], "{variables:?}");
    }
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.args(["resolve", image]).env_clear().env("HTTPS_PROXY", "ftp://proxy");
    assert_eq!(tagpin.output().unwrap().status.code(), Some(2));
}

#[cfg(feature = "aws")]
#[test]
fn a_region_without_a_credential_is_named() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("registries.yaml");
    let entry = "registries:
- match: '*.dkr.ecr.*.amazonaws.com'
  allowPrivate: true
  resolveFrom: mirrors-only
  mirrors: [{ url: 'http://127.0.0.1:1' }]
  credentials: { aws: { regions: [eu-west-1] } }
";
    fs::write(&file, entry).unwrap();
    let ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let option = format!("--registries={}", file.display());
    let answer = tagpin("resolve", home.path(), &[], &[&format!("{ecr}/app:1"), &option]);
    assert_eq!(
        answer.notes,
        format!(
            "note: no credential of aws for {ecr}: aws.regions does not list us-east-1, so tagpin requests no credential there\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_secret_that_names_a_helper_is_named() {
    let home = TempDir::new().unwrap();
    let stored = STANDARD.encode(r#"{"auths":{"127.0.0.1:1":{}},"credsStore":"desktop"}"#);
    let account = json!({
        "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": "web" },
        "imagePullSecrets": [{ "name": "stored" }],
    });
    let secret = json!({
        "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "stored" },
        "type": "kubernetes.io/dockerconfigjson", "data": { ".dockerconfigjson": stored },
    });
    let server = ApiServer::start(vec![
        ("/api/v1/namespaces/shop/serviceaccounts/web".to_owned(), account),
        ("/api/v1/namespaces/shop/secrets/stored".to_owned(), secret),
    ])
    .await;
    let kubeconfig = server.kubeconfig(home.path()).display().to_string();
    let variables = [("KUBECONFIG", kubeconfig.as_str())];
    let answer = tagpin("resolve", home.path(), &variables, &["127.0.0.1:1/app:1", "--as=shop/web"]);
    // The cluster's rules hold for a service account.
    assert_eq!(answer.json["outcome"], "RegistryForbidden", "{}", answer.json);
    assert_eq!(
        answer.notes,
        "note: the pull secret shop/stored names a credential helper for 127.0.0.1:1, which neither nodes nor tagpin run: \
         write the user and the password into the secret\n"
    );
}
