//! The rights that tagpin needs to work, as the chart grants them. `tagpin doctor` asks the cluster for each
//! of them. Rights that the values add, such as those on pull secrets, are not listed here.

use crate::release;

/// A right to some verbs on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The scope of the right: the namespace of the release, or the whole cluster.
    pub scope: Scope,
    /// The API group; empty is the core.
    pub group: &'static str,
    /// The resource in the plural, with its sub-resource: `imagepolicies/status`.
    pub resource: &'static str,
    /// The name of the one object that the right covers; none covers all objects.
    pub name: Option<&'static str>,
    /// The verbs that are granted.
    pub verbs: &'static [&'static str],
}

/// The scope of a right, and the role that grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole cluster, by the ClusterRole.
    Cluster,
    /// The namespace of the release, by the Role in it.
    Release,
}

/// All rights that tagpin needs. `tests/it/chart.rs` compares them with the rendered chart.
pub const RIGHTS: &[Right] = &[
    cluster("tagpin.dev", "clusterimagepolicies", &["list", "watch"]),
    cluster("tagpin.dev", "imagepolicies", &["list", "watch"]),
    cluster("tagpin.dev", "clusterimagepolicies/status", &["patch"]),
    cluster("tagpin.dev", "imagepolicies/status", &["patch"]),
    cluster("tagpin.dev", "clusterimagepolicies", &["get", "create", "patch", "delete"])
        .of(release::BASELINE),
    cluster("", "namespaces", &["get", "list", "watch"]),
    cluster("", "pods", &["list", "watch"]),
    cluster("", "nodes", &["list"]),
    cluster("", "serviceaccounts", &["get", "list", "watch"]),
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
    release("", "secrets", &["list", "watch", "update"]).of(release::DOOR),
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
