//! tagpin's own pods: their leader, and signals to their processes. Signals work only on a rig, where the tests see the
//! processes.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{LIMIT, kubectl, kubectl_with, wait_for};

/// Runs `kubectl -n tagpin-system ARGS`, which must succeed, and returns its output.
#[track_caller]
pub(crate) fn ours(args: &[&str]) -> String {
    kubectl(&[&["-n", "tagpin-system"], args].concat()).succeeded()
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The name of its pod.
    pub(crate) name: String,
    /// The IP address of its pod.
    pub(crate) address: String,
    /// The number of restarts of its container.
    restarts: u64,
}

/// Returns the replicas that are ready and not terminating.
pub(crate) fn ready() -> Vec<Replica> {
    let pods: Value = serde_json::from_str(&ours(&["get", "pods", "-o", "json"])).unwrap();
    let pods = pods["items"].as_array().unwrap().clone();
    let here = pods.into_iter().filter(|pod| {
        let ready = &pod["status"]["containerStatuses"][0]["ready"];
        *ready == true && pod["metadata"].get("deletionTimestamp").is_none()
    });
    here.map(|pod| Replica {
        name: pod["metadata"]["name"].as_str().unwrap().to_owned(),
        address: pod["status"]["podIP"].as_str().unwrap().to_owned(),
        restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap(),
    })
    .collect()
}

/// Waits until no replica is terminating, because a terminating replica still answers the API server on open
/// connections.
#[track_caller]
pub(crate) fn none_is_leaving() {
    let leaving = "jsonpath={.items[*].metadata.deletionTimestamp}";
    wait_for("the old replicas to be gone", LIMIT, || {
        ours(&["get", "pods", "-o", leaving]).is_empty().then_some(())
    });
}

/// The review that the leader sends through the API server to see whether a replica answers.
const CANARY: &str = r#"{
    "apiVersion": "v1", "kind": "PodTemplate",
    "metadata": {
        "name": "tagpin-canary", "namespace": "tagpin-system",
        "annotations": { "tagpin.dev/canary": "0123456789abcdef" }
    },
    "template": { "spec": { "containers": [ { "name": "canary", "image": "canary" } ] } }
}"#;

/// Waits until three reviews of the API server in a row reach a replica. A ready pod is not enough: the node's network
/// rules for new and old pods follow a moment later, and a review that fails until then lets the request pass.
#[track_caller]
pub(crate) fn reached() {
    let answered = || {
        let asked = kubectl_with(&["create", "--dry-run=server", "-f", "-"], CANARY);
        asked.err.contains("tagpin answered canary 0123456789abcdef")
    };
    wait_for("reviews that reach tagpin", LIMIT, || (0..3).all(|_| answered()).then_some(()));
}

/// Waits until exactly this many replicas are ready, and returns them.
#[track_caller]
pub(crate) fn when_ready(count: usize) -> Vec<Replica> {
    wait_for(&format!("{count} ready replicas"), LIMIT, || {
        let replicas = ready();
        (replicas.len() == count).then_some(replicas)
    })
}

/// Returns the holder of the Lease: the name of the pod, and a suffix of the process.
pub(crate) fn holder() -> String {
    ours(&["get", "lease", "tagpin", "-o", "jsonpath={.spec.holderIdentity}"])
}

/// Returns the replica that leads.
#[track_caller]
pub(crate) fn leader() -> Replica {
    wait_for("a leader", LIMIT, || {
        let holder = holder();
        ready().into_iter().find(|replica| holder.starts_with(&replica.name))
    })
}

impl Replica {
    /// Kills the process of the replica.
    pub(crate) fn kill(&self) {
        let ended = Command::new("kill").args(["-KILL", &self.process().to_string()]).status();
        assert!(ended.unwrap().success(), "{self:?}");
    }

    /// Waits until the container has been restarted and is ready.
    #[track_caller]
    pub(crate) fn comes_back(&self) {
        wait_for("the replica to come back", LIMIT, || {
            ready().into_iter().find(|now| now.name == self.name && now.restarts > self.restarts)
        });
    }

    /// Returns the peak memory of the replica's process, in KiB.
    pub(crate) fn peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the ID of the process of the replica, which is found by its variable `POD_NAME`.
    pub(crate) fn process(&self) -> u32 {
        let name = format!("POD_NAME={}", self.name);
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let mut ids = processes.filter_map(|name| name.parse::<u32>().ok());
        let found = ids.find(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == name.as_bytes())
        });
        found.unwrap_or_else(|| panic!("no process of {}", self.name))
    }
}
