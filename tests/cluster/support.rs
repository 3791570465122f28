//! Support for the tests: a namespace for each test, kubectl as users run it, and waiting for conditions.

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

/// Time limit for a condition on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// The cluster as a lock: ordinary tests run in parallel, and a test that stops a component runs alone.
static WHOLE: RwLock<()> = RwLock::new(());

/// Returns a guard for a test that needs the cluster unchanged.
pub(crate) fn undisturbed() -> RwLockReadGuard<'static, ()> {
    WHOLE.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns a guard for a test that stops a part of the cluster.
pub(crate) fn alone() -> Alone {
    Alone { _whole: WHOLE.write().unwrap_or_else(|poisoned| poisoned.into_inner()) }
}

/// The guard of a test that runs alone. When it is dropped, it waits until the API server reaches a replica again, for
/// the next test.
pub(crate) struct Alone {
    _whole: RwLockWriteGuard<'static, ()>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !thread::panicking() {
            replicas::none_is_leaving();
            replicas::reached();
            release::in_place();
            release::at_peace();
        }
    }
}

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// Returns the standard output of a command that must succeed.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert!(self.ok, "{}{}", self.out, self.err);
        self.out
    }

    /// Returns the error message of a command that must be refused.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.ok, "this should have been refused, but: {}{}", self.out, self.err);
        self.err
    }

    /// Returns the error message of a command that tagpin's webhook must refuse with this code.
    #[track_caller]
    pub(crate) fn refused_with(self, code: &str) -> String {
        let message = self.refused();
        assert!(message.contains(&format!("[{code}]")), "expected {code} in: {message}");
        assert!(message.contains("validate.tagpin.dev"), "expected tagpin's refusal: {message}");
        message
    }
}

/// Runs a command with this standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A command that exits without reading its input breaks the pipe; its exit code shows the failure.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    Answer {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `kubectl ARGS`, without a namespace.
pub(crate) fn kubectl(args: &[&str]) -> Answer {
    run(Command::new("kubectl").args(args), "")
}

/// Runs `kubectl ARGS` with a document on its standard input.
pub(crate) fn kubectl_with(args: &[&str], input: &str) -> Answer {
    run(Command::new("kubectl").args(args), input)
}

/// Waits until `seen` returns a value; panics after the limit with the name of what it waited for.
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

/// Returns the number of nodes of the cluster.
pub(crate) fn nodes() -> usize {
    kubectl(&["get", "nodes", "-o", "name"]).succeeded().lines().count()
}

/// A namespace for a test; it is deleted when this is dropped, but kept if the test fails.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// Creates a namespace to which the baseline policy applies.
    pub(crate) fn new(test: &str) -> Self {
        Self::labelled(test, "")
    }

    /// Creates a namespace that the baseline policy does not select.
    pub(crate) fn without_policy(test: &str) -> Self {
        Self::labelled(test, "tagpin-test/baseline: \"off\"")
    }

    /// Creates a namespace to which the baseline policy applies and that asks to fail closed.
    pub(crate) fn fail_closed(test: &str) -> Self {
        Self::labelled(test, "tagpin.dev/fail-closed: \"true\"")
    }

    fn labelled(test: &str, label: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(format!("t-{test}-{}-{number}", std::process::id()), label)
    }

    /// Creates a namespace with exactly this name, to which the baseline policy applies.
    pub(crate) fn called(name: &str) -> Self {
        Self::named(name.to_owned(), "")
    }

    fn named(name: String, label: &str) -> Self {
        let labels = if label.is_empty() { "{}".to_owned() } else { format!("{{ {label} }}") };
        let document =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {labels} }}\n");
        kubectl_with(&["create", "-f", "-"], &document).succeeded();
        let namespace = Self { name };
        // Kubernetes refuses pods until the account exists.
        wait_for("the default service account", LIMIT, || {
            namespace.kubectl(&["get", "serviceaccount", "default"]).ok.then_some(())
        });
        namespace
    }

    /// Runs `kubectl -n NAMESPACE ARGS`.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        run(Command::new("kubectl").arg("-n").arg(&self.name).args(args), "")
    }

    /// Runs `kubectl -n NAMESPACE ARGS` with a document on its standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Answer {
        run(Command::new("kubectl").arg("-n").arg(&self.name).args(args), input)
    }

    /// Runs `kubectl apply -f -` with this document.
    pub(crate) fn apply(&self, document: &str) -> Answer {
        self.kubectl_with(&["apply", "-f", "-"], document)
    }

    /// Applies a pod until it is allowed, as the message of `NotPinned` says: one replica may know a digest that the
    /// other does not know yet.
    pub(crate) fn apply_again(&self, document: &str) {
        wait_for("a pod to be allowed", LIMIT, || {
            let answer = self.apply(document);
            assert!(answer.ok || answer.err.contains("[NotPinned]"), "{answer:?}");
            answer.ok.then_some(())
        });
    }

    /// Returns an object as JSON; none if it does not exist.
    pub(crate) fn find(&self, what: &str, name: &str) -> Option<Value> {
        let answer = self.kubectl(&["get", what, name, "-o", "json"]);
        answer.ok.then(|| serde_json::from_str(&answer.out).unwrap())
    }

    /// Waits for an object, and returns it as JSON.
    #[track_caller]
    pub(crate) fn get(&self, what: &str, name: &str) -> Value {
        wait_for(&format!("{what}/{name}"), LIMIT, || self.find(what, name))
    }

    /// Returns the pods with these labels, without terminating pods.
    pub(crate) fn pods(&self, selector: &str) -> Vec<Value> {
        let out = self.kubectl(&["get", "pods", "-l", selector, "-o", "json"]).succeeded();
        let list: Value = serde_json::from_str(&out).unwrap();
        let items = list["items"].as_array().unwrap();
        items.iter().filter(|pod| pod["metadata"].get("deletionTimestamp").is_none()).cloned().collect()
    }

    /// Waits until this many pods with these labels exist, and returns them.
    #[track_caller]
    pub(crate) fn pods_when(&self, selector: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} pods with {selector}"), LIMIT, || {
            let pods = self.pods(selector);
            (pods.len() == count).then_some(pods)
        })
    }

    /// Waits until a workload has all its pods and its controller has seen them. A controller whose watch comes back
    /// late may not see a pod that it created, and then creates no other pod for minutes.
    #[track_caller]
    pub(crate) fn rolled_out(&self, name: &str) {
        self.kubectl(&["rollout", "status", name, "--timeout=90s"]).succeeded();
    }

    /// Waits until this condition holds, as `kubectl wait` does.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, condition: &str) {
        self.kubectl(&["wait", what, &format!("--for={condition}"), "--timeout=90s"]).succeeded();
    }

    /// Applies a policy in this namespace, and waits until every replica has it in force.
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

/// Returns the condition `Ready` of an object.
pub(crate) fn ready(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

/// Returns the images of a pod's containers.
pub(crate) fn images(pod: &Value) -> Vec<String> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    containers.iter().map(|container| container["image"].as_str().unwrap().to_owned()).collect()
}

/// Returns the image of a pod's first container.
pub(crate) fn image(pod: &Value) -> String {
    images(pod).remove(0)
}

/// Returns the references in the annotation `tagpin.dev/original`.
pub(crate) fn originals(pod: &Value) -> Value {
    pod["metadata"]["annotations"]["tagpin.dev/original"]
        .as_str()
        .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}
