//! The rig on which the tests run: its registries and its components. On another cluster these tests are skipped.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::replicas::{self, ours};
use super::{Answer, kubectl, run};

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// The commands of the rig, if the tests run on one.
pub(crate) struct Rig {
    xtask: String,
}

/// Returns the rig, or none and prints the reason: `let Some(rig) = rig::here("moves a tag") else { return };`
pub(crate) fn here(because: &str) -> Option<Rig> {
    if let (Ok(xtask), Ok(_)) = (env::var("TAGPIN_XTASK"), env::var("TAGPIN_RIG")) {
        return Some(Rig { xtask });
    }
    skip(&format!("it {because}, which only the rig allows"));
    None
}

fn skip(because: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // `eprintln!` would be captured by the test harness and not shown if the test passes.
    drop(writeln!(io::stderr(), "skipped ({count} so far): {because}"));
}

impl Rig {
    /// Runs `cargo xtask rig ARGS`.
    pub(crate) fn rig(&self, args: &[&str]) -> Answer {
        run(Command::new(&self.xtask).arg("rig").args(args), "")
    }

    /// Stops a component, and starts it again when the guard is dropped.
    pub(crate) fn stopped<'a>(&'a self, component: &'a str) -> Stopped<'a> {
        self.rig(&["stop", component]).succeeded();
        Stopped { rig: self, component }
    }

    /// Kills the API server as in a crash, until the guard is dropped. An API server that stops properly removes its
    /// address from its Service, and pods reach it again only when kube-proxy has recovered, which takes more than a
    /// minute.
    pub(crate) fn without_api_server(&self) -> Stopped<'_> {
        let component = "kube-apiserver";
        self.rig(&["stop", component, "--kill"]).succeeded();
        Stopped { rig: self, component }
    }

    /// Pushes an image with this content to a tag, and returns its digest.
    pub(crate) fn push(&self, reference: &str, content: &str) -> String {
        self.rig(&["push-tag", reference, "--content", content]).succeeded().trim().to_owned()
    }

    /// Deletes a tag.
    pub(crate) fn delete(&self, reference: &str) {
        self.rig(&["delete-tag", reference]).succeeded();
    }

    /// Restarts the replicas, to reset their breakers: a replica does not ask a failing registry for a while, and the
    /// end of that is not visible from outside.
    pub(crate) fn registries_are_believed_again(&self) {
        ours(&["rollout", "restart", "deployment/tagpin"]);
        ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
        replicas::none_is_leaving();
        replicas::reached();
    }

    /// Returns true if there is a second node to drain; otherwise prints the reason.
    pub(crate) fn has_two_nodes(&self) -> bool {
        let two = kubectl(&["get", "node", "rig-2"]).ok;
        if !two {
            skip("it needs a second node (`cargo xtask rig up --nodes 2`)");
        }
        two
    }

    /// Returns the folder with the rig's logs and certificates.
    pub(crate) fn folder(&self) -> PathBuf {
        let status = self.rig(&["status", "--output", "json"]).succeeded();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        PathBuf::from(status["folder"].as_str().unwrap())
    }

    /// Returns the text of a file for clients of the private registry: `username` or `password`.
    pub(crate) fn private_registry(&self, file: &str) -> String {
        let file = self.folder().join("private-registry").join(file);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

/// A stopped component.
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

/// Returns the digest of a tag at the mirror of `docker.io`, as an independent client reads it.
pub(crate) fn digest(repository: &str, tag: &str) -> String {
    let image = format!("docker://10.41.0.1:5000/{repository}:{tag}");
    let args = ["inspect", "--tls-verify=false", "--no-tags", "--format", "{{.Digest}}", &image];
    run(Command::new("skopeo").args(args), "").succeeded().trim().to_owned()
}
