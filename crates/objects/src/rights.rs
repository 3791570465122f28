//! The rights that tagpin cannot work without, as the chart grants them. `tagpin doctor` asks the cluster for each of
//! them. Rights that the values add (pull secrets) are not here.

use crate::release;

/// Verbs on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Granted in the namespace of the release alone, or everywhere.
    pub scope: Scope,
    /// The API group; empty is the core.
    pub group: &'static str,
    /// The resource in the plural, with its sub-resource: `imagepolicies/status`.
    pub resource: &'static str,
    /// The one object that it is about; none is all.
    pub name: Option<&'static str>,
    /// What may be done.
    pub verbs: &'static [&'static str],
}

/// Where a right holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// By the ClusterRole.
    Cluster,
    /// By the Role in the namespace of the release.
    Release,
}

/// All of them; `tests/it/chart.rs` compares with what the chart renders.
pub const RIGHTS: &[Right] = &[
    cluster("tagpin.dev", "clusterimagepolicies", &["list", "watch"]),
    cluster("tagpin.dev", "imagepolicies", &["list", "watch"]),
    cluster("tagpin.dev", "clusterimagepolicies/status", &["patch"]),
    cluster("tagpin.dev", "imagepolicies/status", &["patch"]),
    cluster("tagpin.dev", "clusterimagepolicies", &["get", "create", "patch", "delete"])
        .of(release::BASELINE),
    cluster("", "namespaces", &["get", "list", "watch"]),
    cluster("", "pods", &["list", "watch"]),
    cluster("", "serviceaccounts", &["list", "watch"]),
    cluster("", "replicationcontrollers", &["get", "list", "watch"]),
    cluster("", "podtemplates", &["get", "list", "watch"]),
    cluster("apps", "deployments", &["get", "list", "watch"]),
    cluster("apps", "replicasets", &["get", "list", "watch"]),
    cluster("apps", "statefulsets", &["get", "list", "watch"]),
    cluster("apps", "daemonsets", &["get", "list", "watch"]),
    cluster("batch", "jobs", &["get", "list", "watch"]),
    cluster("batch", "cronjobs", &["get", "list", "watch"]),
    cluster("apps", "controllerrevisions", &["list", "watch"]),
    cluster("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &["list", "watch", "patch"])
        .of(release::MUTATING),
    cluster("admissionregistration.k8s.io", "validatingwebhookconfigurations", &["list", "watch", "patch"])
        .of(release::NAME),
    release("coordination.k8s.io", "leases", &["create"]),
    release("coordination.k8s.io", "leases", &["get", "update"]).of(release::NAME),
    cluster("events.k8s.io", "events", &["create", "patch"]),
    release("", "podtemplates", &["create"]),
    release("", "secrets", &["create"]),
    release("", "secrets", &["list", "watch", "update"]).of(release::CERTIFICATE),
    release("", "secrets", &["list", "watch", "update"]).of(release::PIN_KEYS),
];

const fn cluster(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { scope: Scope::Cluster, group, resource, name: None, verbs }
}

const fn release(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { scope: Scope::Release, group, resource, name: None, verbs }
}

impl Right {
    const fn of(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }
}
