//! Debian's `docker-registry` on this machine, with images that all differ.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

use tempfile::TempDir;
use tokio::runtime;

use crate::program::program;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry as a child process, which is killed when this value is dropped.
pub(crate) struct Registry {
    child: Child,
    _folder: TempDir,
    /// Host and port of the registry, which speaks plain HTTP.
    pub(crate) authority: String,
}

impl Registry {
    /// Starts a registry that everybody may read and write.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: true }} }}\nstorage: {{ filesystem: {{ \
             rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:0' }}\n",
            folder.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let mut registry = Command::new(program("docker-registry"));
        registry.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = registry.spawn().expect("the registry starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        });
        thread::spawn(move || lines.for_each(drop));
        Self { child, _folder: folder, authority: format!("127.0.0.1:{}", port.expect("it listens")) }
    }

    /// Pushes this number of images, `app-0:1` and so on, and returns their names.
    pub(crate) fn fill(&self, images: usize) -> Vec<String> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            rustls::crypto::ring::default_provider().install_default().unwrap();
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let mut names = Vec::with_capacity(images);
            for number in 0..images {
                names.push(self.push(&http, number).await);
            }
            names
        })
    }

    async fn push(&self, http: &reqwest::Client, number: usize) -> String {
        let root = format!("http://{}/v2/app-{number}", self.authority);
        let config = format!(r#"{{"architecture":"amd64","os":"linux","number":{number}}}"#);
        let hash: String = ring::digest::digest(&ring::digest::SHA256, config.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let begun = http.post(format!("{root}/blobs/uploads/")).send().await.unwrap();
        let place = begun.headers()["location"].to_str().unwrap();
        let place = format!("{place}&digest=sha256:{hash}");
        let size = config.len();
        assert_eq!(http.put(place).body(config).send().await.unwrap().status(), 201);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{hash}","size":{size}}},"layers":[]}}"#
        );
        let pushed = http.put(format!("{root}/manifests/1")).header("content-type", MANIFEST).body(manifest);
        assert_eq!(pushed.send().await.unwrap().status(), 201);
        format!("{}/app-{number}:1", self.authority)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
