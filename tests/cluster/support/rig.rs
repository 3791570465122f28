//! The rig under the tests: its registries and its switches. On another cluster these tests skip themselves.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::replicas::{self, ours};
use super::{Answer, kubectl, run};

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// The rig's commands, when the tests run on one.
pub(crate) struct Rig {
    xtask: String,
}

/// The rig, or nothing with a printed reason: `let Some(rig) = rig::here("moves a tag") else { return };`
pub(crate) fn here(because: &str) -> Option<Rig> {
    if let (Ok(xtask), Ok(_)) = (env::var("TAGPIN_XTASK"), env::var("TAGPIN_RIG")) {
        return Some(Rig { xtask });
    }
    skip(&format!("it {because}, which only the rig allows"));
    None
}

fn skip(because: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Not by `eprintln!`: the harness would keep that of a test that passes to itself.
    drop(writeln!(io::stderr(), "skipped ({count} so far): {because}"));
}

impl Rig {
    /// `cargo xtask rig ARGS`
    pub(crate) fn rig(&self, args: &[&str]) -> Answer {
        run(Command::new(&self.xtask).arg("rig").args(args), "")
    }

    /// Stops a component, and starts it again when the guard goes.
    pub(crate) fn stopped<'a>(&'a self, component: &'a str) -> Stopped<'a> {
        self.rig(&["stop", component]).succeeded();
        Stopped { rig: self, component }
    }

    /// The API server is gone as after a crash, until the guard goes. One that takes leave takes its address out of its
    /// Service, and pods reach it again only when kube-proxy has come back, which takes it a minute and more.
    pub(crate) fn without_api_server(&self) -> Stopped<'_> {
        let component = "kube-apiserver";
        self.rig(&["stop", component, "--kill"]).succeeded();
        Stopped { rig: self, component }
    }

    /// Pushes an image whose content is this word to a tag, and gives its digest.
    pub(crate) fn push(&self, reference: &str, content: &str) -> String {
        self.rig(&["push-tag", reference, "--content", content]).succeeded().trim().to_owned()
    }

    /// Deletes a tag.
    pub(crate) fn delete(&self, reference: &str) {
        self.rig(&["delete-tag", reference]).succeeded();
    }

    /// New replicas: each spares a registry that failed for a while, and nobody outside can see when that is over.
    pub(crate) fn registries_are_believed_again(&self) {
        ours(&["rollout", "restart", "deployment/tagpin"]);
        ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
        replicas::none_is_leaving();
        replicas::reached();
    }

    /// Whether there is a node to drain; prints that there is none.
    pub(crate) fn has_two_nodes(&self) -> bool {
        let two = kubectl(&["get", "node", "rig-2"]).ok;
        if !two {
            skip("it needs a second node (`cargo xtask rig up --nodes 2`)");
        }
        two
    }

    /// The folder with its logs and certificates.
    pub(crate) fn folder(&self) -> PathBuf {
        let status = self.rig(&["status", "--output", "json"]).succeeded();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        PathBuf::from(status["folder"].as_str().unwrap())
    }

    /// A file of the rig's folder that a client of the private registry needs: `username`, `password`.
    pub(crate) fn private_registry(&self, file: &str) -> String {
        let file = self.folder().join("private-registry").join(file);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

/// A component that does not run.
pub(crate) struct Stopped<'a> {
    rig: &'a Rig,
    component: &'a str,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let answer = self.rig.rig(&["start", self.component]);
        if std::thread::panicking() {
            return;
        }
        assert!(answer.ok, "{} did not start: {}", self.component, answer.err);
        if self.component.starts_with("registry") {
            self.rig.registries_are_believed_again();
        }
    }
}

/// The registry's own word for what a tag of the `docker.io` mirror names, asked by an independent client.
pub(crate) fn digest(repository: &str, tag: &str) -> String {
    let image = format!("docker://10.41.0.1:5000/{repository}:{tag}");
    let args = ["inspect", "--tls-verify=false", "--no-tags", "--format", "{{.Digest}}", &image];
    run(Command::new("skopeo").args(args), "").succeeded().trim().to_owned()
}
