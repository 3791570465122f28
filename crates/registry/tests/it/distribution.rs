//! The registry of the distribution project as a process of the test, on a port that the system chose, in two
//! releases: Debian's and the last one.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::support::{AUTHORITY, provider};
use crate::parts::part;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A release of the registry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Release {
    /// 2.8, Debian's `docker-registry`.
    Debian,
    /// 3, built from its Go module (`tests/rig/distribution`).
    Current,
}

impl Release {
    fn program(self) -> PathBuf {
        static DEBIANS: LazyLock<PathBuf> = LazyLock::new(|| part("docker-registry").join("docker-registry"));
        static BUILT: LazyLock<PathBuf> = LazyLock::new(|| part("distribution").join("distribution"));
        match self {
            Self::Debian => DEBIANS.clone(),
            Self::Current => BUILT.clone(),
        }
    }
}

/// Makes a test for each release of functions that take a release.
macro_rules! on_each_release {
    ($($test:ident),+ $(,)?) => {
        on_each_release!(debian Debian: $($test),+);
        on_each_release!(current Current: $($test),+);
    };
    ($module:ident $release:ident: $($test:ident),+) => {
        mod $module {
            use super::Release;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(Release::$release).await;
                }
            )+
        }
    };
}

pub(super) use on_each_release;

/// A running registry; it is killed when it is dropped.
pub(super) struct Registry {
    child: Child,
    folder: TempDir,
    port: u16,
    tls: bool,
    http: reqwest::Client,
}

/// The authentication that the registry requires.
pub(super) enum Access<'a> {
    Open,
    /// TLS, and this password for `robot`, and for `AWS`, the user name of ECR.
    Password(&'a str),
    /// A token from the service at this URL.
    Token {
        realm: &'a str,
        bundle: &'a str,
    },
}

impl Registry {
    pub(super) fn start(release: Release, access: &Access<'_>) -> Self {
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let mut config = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: true }} }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n",
            folder.path().join("data").display()
        );
        let mut tls = String::new();
        match access {
            Access::Open => {}
            Access::Password(password) => {
                let users = file("htpasswd", &htpasswd(password));
                config.push_str(&format!("auth: {{ htpasswd: {{ realm: tests, path: {users} }} }}\n"));
                let certificate = file("tls.crt", &AUTHORITY.certificate);
                let key = file("tls.key", &AUTHORITY.key);
                tls = format!(", tls: {{ certificate: {certificate}, key: {key} }}");
            }
            Access::Token { realm, bundle } => {
                let bundle = file("bundle.pem", bundle);
                config.push_str(&format!(
                    "auth: {{ token: {{ realm: '{realm}', service: tests, issuer: tests, rootcertbundle: {bundle} }} }}\n"
                ));
            }
        }
        config.push_str(&format!("http: {{ addr: '127.0.0.1:0'{tls} }}\n"));
        let config = file("config.yml", &config);
        let mut child = Command::new(release.program())
            .args(["serve", &config])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the registry starts");
        let port = port_in(&mut child);
        Self { child, folder, port, tls: !tls.is_empty(), http: http() }
    }

    /// Returns the URL, like `http://127.0.0.1:5000`.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// Returns the address, like `127.0.0.1:5000`.
    pub(super) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pushes an image with a configuration of its own and without layers, and returns its digest.
    pub(super) async fn push_image(
        &self,
        name: &str,
        tag: &str,
        media_type: &str,
        as_whom: &Pusher,
    ) -> String {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","made-for":"{name}:{tag}"}}"#);
        let config_digest = self.push_blob(name, config.as_bytes(), as_whom).await;
        let config_type = if media_type == OCI_MANIFEST {
            "application/vnd.oci.image.config.v1+json"
        } else {
            "application/vnd.docker.container.image.v1+json"
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"{config_type}","digest":"{config_digest}","size":{}}},"layers":[]}}"#,
            config.len()
        );
        self.push_manifest(name, tag, media_type, &manifest, as_whom).await
    }

    /// Pushes an index of one image for two platforms, and returns its digest.
    pub(super) async fn push_index(
        &self,
        name: &str,
        tag: &str,
        media_type: &str,
        as_whom: &Pusher,
    ) -> String {
        let child_type = if media_type == OCI_INDEX { OCI_MANIFEST } else { DOCKER_MANIFEST };
        let mut children = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let child = self.push_image(name, &format!("{tag}-{architecture}"), child_type, as_whom).await;
            let size = self.manifest(name, &child, child_type, as_whom).await.len();
            children.push(format!(
                r#"{{"mediaType":"{child_type}","digest":"{child}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
            ));
        }
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            children.join(",")
        );
        self.push_manifest(name, tag, media_type, &index, as_whom).await
    }

    pub(super) async fn push_manifest(
        &self,
        name: &str,
        tag: &str,
        media_type: &str,
        body: &str,
        as_whom: &Pusher,
    ) -> String {
        let url = format!("{}/v2/{name}/manifests/{tag}", self.url());
        let request = self.http.put(url).header("content-type", media_type).body(body.to_owned());
        let response = as_whom.sign(request, name).send().await.unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        digest_of(body.as_bytes())
    }

    /// Pushes the manifest of one tag under another tag.
    pub(super) async fn copy_tag(
        &self,
        name: &str,
        from: &str,
        to: &str,
        media_type: &str,
        as_whom: &Pusher,
    ) {
        let body = self.manifest(name, from, media_type, as_whom).await;
        self.push_manifest(name, to, media_type, &body, as_whom).await;
    }

    /// Returns the folder with its files.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn push_blob(&self, name: &str, bytes: &[u8], as_whom: &Pusher) -> String {
        let digest = digest_of(bytes);
        let start = self.http.post(format!("{}/v2/{name}/blobs/uploads/", self.url()));
        let response = as_whom.sign(start, name).send().await.unwrap();
        assert_eq!(response.status(), 202, "{}", response.text().await.unwrap());
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let put = self.http.put(format!("{location}&digest={digest}")).body(bytes.to_vec());
        let response = as_whom.sign(put, name).send().await.unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        digest
    }

    async fn manifest(&self, name: &str, tag: &str, media_type: &str, as_whom: &Pusher) -> String {
        let get = self.http.get(format!("{}/v2/{name}/manifests/{tag}", self.url()));
        let response = as_whom.sign(get.header("accept", media_type), name).send().await.unwrap();
        response.text().await.unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The authentication of a push.
pub(super) enum Pusher {
    Anyone,
    Robot(String),
    /// Makes a token for a repository.
    Token(Box<dyn Fn(&str) -> SecretString + Send + Sync>),
}

impl Pusher {
    fn sign(&self, request: reqwest::RequestBuilder, name: &str) -> reqwest::RequestBuilder {
        match self {
            Self::Anyone => request,
            Self::Robot(password) => request.basic_auth("robot", Some(password)),
            Self::Token(make) => request.bearer_auth(make(name).expose_secret()),
        }
    }
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn http() -> reqwest::Client {
    provider();
    let ca = reqwest::Certificate::from_pem(AUTHORITY.ca.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap()
}

/// Returns a password file; bcrypt is the only hash that the registry accepts.
fn htpasswd(password: &str) -> String {
    let mut child = Command::new("htpasswd")
        .args(["-niBC", "4", "robot"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("htpasswd is installed");
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let robot = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let robot = robot.trim();
    format!("{robot}\n{}\n", robot.replacen("robot:", "AWS:", 1))
}

/// Waits until the registry logs its port, and drains its log.
fn port_in(child: &mut Child) -> u16 {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            std::thread::spawn(move || lines.for_each(drop));
            return digits.parse().unwrap();
        }
        log.push(line);
    }
    panic!("the registry ended: {}", log.join("\n"));
}
