//! The release of tagpin that the tests find: they remove it, change it, and install it again as it was.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::thread;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::replicas::{leader, none_is_leaving, ours, reached, when_ready};
use super::{Answer, LIMIT, kubectl, run, wait_for};

/// The chart of this tree; the tests run in its root.
pub(crate) const CHART: &str = "charts/tagpin";
const WAIT: [&str; 4] = ["--create-namespace", "--wait", "--timeout", "90s"];

/// The release and its values; it is installed with them again when this is dropped.
pub(crate) struct Release {
    values: NamedTempFile,
}

/// Runs `helm ARGS` in the namespace of the release.
pub(crate) fn helm(args: &[&str]) -> Answer {
    run(Command::new("helm").args(["--namespace", "tagpin-system"]).args(args), "")
}

/// Returns the names of the validating entries; empty if there is no configuration.
pub(crate) fn entries() -> Vec<String> {
    let get = ["get", "validatingwebhookconfiguration", "tagpin", "--ignore-not-found", "-o", "json"];
    let seen = kubectl(&get).succeeded();
    let seen: Value = if seen.is_empty() { Value::Null } else { serde_json::from_str(&seen).unwrap() };
    let entries = seen["webhooks"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the webhooks are in place: an API server that did not reach tagpin for a while has only the canary's.
#[track_caller]
pub(crate) fn in_place() {
    let there = || entries().iter().any(|name| name == "validate.tagpin.dev");
    wait_for("the webhooks", LIMIT, || there().then_some(()));
}

/// Waits until the namespaces that ask for it fail closed.
#[track_caller]
pub(crate) fn armed() {
    let strict = || entries().iter().any(|name| name == "validate-strict.tagpin.dev");
    wait_for("the entries that refuse", LIMIT, || strict().then_some(()));
    reached();
}

impl Release {
    /// Reads the values of the installed release.
    pub(crate) fn found() -> Self {
        let values = helm(&["get", "values", "tagpin", "--output", "json"]).succeeded();
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        file.write_all(values.as_bytes()).unwrap();
        Self { values: file }
    }

    /// Runs `helm VERB tagpin CHART ARGS` with the values of the release.
    pub(crate) fn helm(&self, verb: &[&str], chart: &str, args: &[&str]) -> Answer {
        let values = self.values.path().to_str().unwrap();
        helm(&[verb, &["tagpin", chart, "--values", values], args].concat())
    }

    /// Installs an earlier chart with the values of the release, but for a key of `registries` that the chart does not
    /// know, and waits until it is in force.
    #[track_caller]
    pub(crate) fn install_earlier(&self, chart: &str, unknown: &str) {
        let mut values: Value = serde_json::from_slice(&fs::read(&self.values).unwrap()).unwrap();
        for entry in values["registries"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove(unknown);
        }
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        file.write_all(values.to_string().as_bytes()).unwrap();
        let known = ["tagpin", chart, "--values", file.path().to_str().unwrap()];
        helm(&[&["upgrade", "--install"], &known[..], &WAIT].concat()).succeeded();
        in_force();
    }

    /// Installs or upgrades the release with its values and these further arguments, and waits until it is in force.
    #[track_caller]
    pub(crate) fn install(&self, chart: &str, more: &[&str]) {
        self.helm(&["upgrade", "--install"], chart, &[&WAIT, more].concat()).succeeded();
        in_force();
    }
}

/// Replaces the leader if it took what a test did for a fight over the webhook configurations. A new leader knows of no
/// fight, and the policies are ready again.
#[track_caller]
pub(crate) fn at_peace() {
    let contested = || {
        let get = ["get", "clusterimagepolicies.tagpin.dev/baseline", "--ignore-not-found", "-o"];
        let reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}";
        kubectl(&[&get[..], &[reason]].concat()).out.contains("Contested")
    };
    if contested() {
        ours(&["delete", "pod", &leader().name]);
        when_ready(2);
        wait_for("the end of the fight", LIMIT, || (!contested()).then_some(()));
    }
}

/// Waits until the API server calls tagpin, and the baseline is in force on every replica.
#[track_caller]
pub(crate) fn in_force() {
    wait_for("the list of webhooks", LIMIT, || (!entries().is_empty()).then_some(()));
    let baseline = "clusterimagepolicies.tagpin.dev/baseline";
    // The leader creates the baseline again if the definitions are new.
    wait_for("the baseline", LIMIT, || kubectl(&["get", baseline]).ok.then_some(()));
    kubectl(&["wait", baseline, "--for=condition=Ready", "--timeout=90s"]).succeeded();
    // The condition may be an old one.
    reached();
}

impl Drop for Release {
    fn drop(&mut self) {
        if thread::panicking() {
            // Installs the release for the other tests, without a further failure.
            drop(self.helm(&["upgrade", "--install"], CHART, &WAIT));
        } else {
            self.install(CHART, &[]);
            armed();
        }
    }
}

/// Changed values of the release; they are rolled back when this is dropped.
pub(crate) struct OtherValues;

impl OtherValues {
    /// Upgrades the release with these further values, and waits until only replicas with these values are left.
    #[track_caller]
    pub(crate) fn set(values: &str) -> Self {
        let wait = ["--reuse-values", "--set", values, "--wait", "--timeout", "120s"];
        helm(&[&["upgrade", "tagpin", CHART], &wait[..]].concat()).succeeded();
        none_is_leaving();
        Self
    }

    /// Types a command that upgrades the release, and waits until only replicas with its values are left.
    #[track_caller]
    pub(crate) fn typed(command: &str) -> Self {
        let waiting = format!("{command} --wait --timeout 120s");
        run(Command::new("sh").args(["-c", &waiting]), "").succeeded();
        none_is_leaving();
        in_force();
        Self
    }
}

impl Drop for OtherValues {
    fn drop(&mut self) {
        let back = helm(&["rollback", "tagpin", "--wait", "--timeout", "120s"]);
        assert!(back.ok || thread::panicking(), "{}{}", back.out, back.err);
    }
}

/// A Deployment without replicas, until this is dropped.
pub(crate) struct Away;

impl Away {
    pub(crate) fn new() -> Self {
        ours(&["scale", "deployment/tagpin", "--replicas=0"]);
        let away = Self;
        ours(&["wait", "pod", "-l", "app.kubernetes.io/name=tagpin", "--for=delete", "--timeout=90s"]);
        away
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let back = kubectl(&["-n", "tagpin-system", "scale", "deployment/tagpin", "--replicas=2"]);
        assert!(back.ok || thread::panicking(), "{}", back.err);
    }
}
