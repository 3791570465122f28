//! A namespace of its own for each test, kubectl as a user types it, and waiting for conditions.

pub(crate) mod audit;
pub(crate) mod creator;
pub(crate) mod doctor;
pub(crate) mod load;
pub(crate) mod manifests;
pub(crate) mod network;
pub(crate) mod release;
pub(crate) mod replicas;
pub(crate) mod rig;
pub(crate) mod webhook;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a condition may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Ordinary tests run side by side; one that stops a component runs alone.
static WHOLE: RwLock<()> = RwLock::new(());

/// Held by every test that needs the cluster as it is.
pub(crate) fn undisturbed() -> RwLockReadGuard<'static, ()> {
    WHOLE.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Held by a test that stops a part of the cluster.
pub(crate) fn alone() -> Alone {
    Alone { _whole: WHOLE.write().unwrap_or_else(|poisoned| poisoned.into_inner()) }
}

/// Waits, when this goes, until the API server reaches a replica again: the next test relies on it.
pub(crate) struct Alone {
    _whole: RwLockWriteGuard<'static, ()>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !thread::panicking() {
            replicas::none_is_leaving();
            replicas::reached();
        }
    }
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// The standard output of a command that had to succeed.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert!(self.ok, "{}{}", self.out, self.err);
        self.out
    }

    /// The message of a command that had to be refused.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.ok, "this should have been refused, but: {}{}", self.out, self.err);
        self.err
    }

    /// Refused with this code, and with nothing but our webhook's words.
    #[track_caller]
    pub(crate) fn refused_with(self, code: &str) -> String {
        let message = self.refused();
        assert!(message.contains(&format!("[{code}]")), "expected {code} in: {message}");
        assert!(message.contains("validate.tagpin.dev"), "expected tagpin's refusal: {message}");
        message
    }
}

/// Runs a command with this on its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A command that exits without reading its input breaks the pipe; its exit code tells.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    Answer {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `kubectl ARGS`, without a namespace.
pub(crate) fn kubectl(args: &[&str]) -> Answer {
    run(Command::new("kubectl").args(args), "")
}

/// `kubectl ARGS` with a document on its standard input.
pub(crate) fn kubectl_with(args: &[&str], input: &str) -> Answer {
    run(Command::new("kubectl").args(args), input)
}

/// Waits until `seen` gives something; panics after the limit with what it waited for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut seen: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(Instant::now() < end, "waited {} s for: {what}", limit.as_secs());
        thread::park_timeout(Duration::from_millis(150));
    }
}

/// How many nodes the cluster has.
pub(crate) fn nodes() -> usize {
    kubectl(&["get", "nodes", "-o", "name"]).succeeded().lines().count()
}

/// A namespace that goes with its test.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// A namespace under the baseline policy.
    pub(crate) fn new(test: &str) -> Self {
        Self::labelled(test, "")
    }

    /// A namespace that the baseline policy does not select.
    pub(crate) fn without_policy(test: &str) -> Self {
        Self::labelled(test, "tagpin-test/baseline: \"off\"")
    }

    /// A namespace under the baseline policy that asks to fail closed.
    pub(crate) fn fail_closed(test: &str) -> Self {
        Self::labelled(test, "tagpin.dev/fail-closed: \"true\"")
    }

    fn labelled(test: &str, label: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(format!("t-{test}-{}-{number}", std::process::id()), label)
    }

    /// A namespace of exactly this name, under the baseline policy.
    pub(crate) fn called(name: &str) -> Self {
        Self::named(name.to_owned(), "")
    }

    fn named(name: String, label: &str) -> Self {
        let labels = if label.is_empty() { "{}".to_owned() } else { format!("{{ {label} }}") };
        let document =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {labels} }}\n");
        kubectl_with(&["create", "-f", "-"], &document).succeeded();
        let namespace = Self { name };
        // Pods are refused until the account exists; replicas read the namespace's labels from a watch.
        wait_for("the default service account", LIMIT, || {
            namespace.kubectl(&["get", "serviceaccount", "default"]).ok.then_some(())
        });
        namespace
    }

    /// `kubectl -n NAMESPACE ARGS`
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        run(Command::new("kubectl").arg("-n").arg(&self.name).args(args), "")
    }

    /// `kubectl -n NAMESPACE ARGS` with a document on its standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Answer {
        run(Command::new("kubectl").arg("-n").arg(&self.name).args(args), input)
    }

    /// `kubectl apply -f -`
    pub(crate) fn apply(&self, document: &str) -> Answer {
        self.kubectl_with(&["apply", "-f", "-"], document)
    }

    /// Applies what one replica may know better than another, as the message of `NotPinned` says: again.
    pub(crate) fn apply_again(&self, document: &str) {
        wait_for("a pod to be allowed", LIMIT, || {
            let answer = self.apply(document);
            assert!(answer.ok || answer.err.contains("[NotPinned]"), "{answer:?}");
            answer.ok.then_some(())
        });
    }

    /// One object as JSON, when it exists.
    pub(crate) fn find(&self, what: &str, name: &str) -> Option<Value> {
        let answer = self.kubectl(&["get", what, name, "-o", "json"]);
        answer.ok.then(|| serde_json::from_str(&answer.out).unwrap())
    }

    /// One object as JSON, waited for.
    #[track_caller]
    pub(crate) fn get(&self, what: &str, name: &str) -> Value {
        wait_for(&format!("{what}/{name}"), LIMIT, || self.find(what, name))
    }

    /// The pods with these labels, those that are going away left out.
    pub(crate) fn pods(&self, selector: &str) -> Vec<Value> {
        let out = self.kubectl(&["get", "pods", "-l", selector, "-o", "json"]).succeeded();
        let list: Value = serde_json::from_str(&out).unwrap();
        let items = list["items"].as_array().unwrap();
        items.iter().filter(|pod| pod["metadata"].get("deletionTimestamp").is_none()).cloned().collect()
    }

    /// Waits until so many pods with these labels exist.
    #[track_caller]
    pub(crate) fn pods_when(&self, selector: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} pods with {selector}"), LIMIT, || {
            let pods = self.pods(selector);
            (pods.len() == count).then_some(pods)
        })
    }

    /// Waits until a workload has all its pods and its controller has seen them. A controller that never saw a pod which
    /// it made, as one whose watch comes back late, makes no other for minutes.
    #[track_caller]
    pub(crate) fn rolled_out(&self, name: &str) {
        self.kubectl(&["rollout", "status", name, "--timeout=90s"]).succeeded();
    }

    /// Waits until this condition holds, as `kubectl wait` does.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, condition: &str) {
        self.kubectl(&["wait", what, &format!("--for={condition}"), "--timeout=90s"]).succeeded();
    }

    /// Applies a policy of this namespace, and waits until every replica has it.
    #[track_caller]
    pub(crate) fn policy(&self, name: &str, spec: &str) {
        let document = format!(
            "apiVersion: tagpin.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{ name: {name} }}\nspec: {spec}\n"
        );
        self.apply(&document).succeeded();
        wait_for(&format!("policy {name} in force"), LIMIT, || {
            let policy = self.find("imagepolicies.tagpin.dev", name)?;
            let current = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
            (current && ready(&policy).is_some_and(|ready| ready["status"] == "True")).then_some(())
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            let events = self.kubectl(&["get", "pods,events", "-o", "wide"]);
            eprintln!("--- namespace {} is kept ---\n{}{}", self.name, events.out, events.err);
        } else {
            kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}

/// The `Ready` condition of an object.
pub(crate) fn ready(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

/// The image strings of a pod's containers.
pub(crate) fn images(pod: &Value) -> Vec<String> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    containers.iter().map(|container| container["image"].as_str().unwrap().to_owned()).collect()
}

/// The image of a pod's first container.
pub(crate) fn image(pod: &Value) -> String {
    images(pod).remove(0)
}

/// The references that our annotation remembers.
pub(crate) fn originals(pod: &Value) -> Value {
    pod["metadata"]["annotations"]["tagpin.dev/original"]
        .as_str()
        .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}
