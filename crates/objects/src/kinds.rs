//! The table of kinds: every validated kind of object that holds a pod spec, and the place of that pod spec.
//!
//! Every part of tagpin that needs the place of a pod spec reads this table: the reader of objects, the
//! watches, and the rules and match conditions of the webhooks. More kinds can be added when the process
//! starts.

use std::iter;
use std::sync::Arc;

use tagpin_domain::kind::Kind;
use tagpin_domain::slot::{Field, Place, Role, SlotKey};
use tagpin_domain::workload::{ControllerRef, ForeignKind};

pub use tagpin_domain::kind::STATEFUL_SET;

/// `Pod` of core/v1.
pub const POD: Kind = Kind::new("", "Pod");
/// `ReplicationController` of core/v1.
pub(crate) const REPLICATION_CONTROLLER: Kind = Kind::new("", "ReplicationController");
/// `PodTemplate` of core/v1.
pub const POD_TEMPLATE: Kind = Kind::new("", "PodTemplate");
/// `Deployment` of apps/v1.
pub const DEPLOYMENT: Kind = Kind::new("apps", "Deployment");
/// `DaemonSet` of apps/v1.
pub const DAEMON_SET: Kind = Kind::new("apps", "DaemonSet");
/// `ReplicaSet` of apps/v1.
pub const REPLICA_SET: Kind = Kind::new("apps", "ReplicaSet");
/// `Job` of batch/v1.
pub const JOB: Kind = Kind::new("batch", "Job");
/// `CronJob` of batch/v1.
pub const CRON_JOB: Kind = Kind::new("batch", "CronJob");

/// A path into an object, field by field.
pub type Path = &'static [&'static str];

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// The kind of the objects.
    pub kind: Kind,
    /// The version that is served and judged: `v1`.
    pub version: &'static str,
    /// The plural resource name: `deployments`.
    pub resource: &'static str,
    /// The path to the object that carries the labels and annotations of the pods: the pod template, or an
    /// empty path for a pod itself.
    pub template: Path,
    /// The path to the pod spec.
    pub pod_spec: Path,
    /// True if controllers create such objects for objects of other kinds. The kind of the owner then counts.
    pub may_be_owned: bool,
}

/// The row of ControllerRevisions, which keep the earlier templates of a StatefulSet or DaemonSet. They are read like
/// the kinds of the table, but are not in it: only those that could excuse an image are judged.
pub static CONTROLLER_REVISIONS: Row = Row {
    kind: Kind::new("apps", "ControllerRevision"),
    version: "v1",
    resource: "controllerrevisions",
    template: &["data", "spec", "template"],
    pod_spec: &["data", "spec", "template", "spec"],
    may_be_owned: true,
};

const TEMPLATE: Path = &["spec", "template"];
const POD_SPEC: Path = &["spec", "template", "spec"];

const fn row(kind: Kind, resource: &'static str, may_be_owned: bool) -> Row {
    Row { kind, version: "v1", resource, template: TEMPLATE, pod_spec: POD_SPEC, may_be_owned }
}

/// The row of pods, the first of the table.
pub static PODS: Row = Row { template: &[], pod_spec: &["spec"], ..row(POD, "pods", true) };

/// The rows of the other kinds of Kubernetes itself.
static WORKLOADS: [Row; 8] = [
    row(DEPLOYMENT, "deployments", false),
    row(STATEFUL_SET, "statefulsets", false),
    row(DAEMON_SET, "daemonsets", false),
    row(REPLICA_SET, "replicasets", true),
    row(REPLICATION_CONTROLLER, "replicationcontrollers", false),
    row(JOB, "jobs", true),
    Row {
        template: &["spec", "jobTemplate", "spec", "template"],
        pod_spec: &["spec", "jobTemplate", "spec", "template", "spec"],
        ..row(CRON_JOB, "cronjobs", false)
    },
    Row {
        template: &["template"],
        pod_spec: &["template", "spec"],
        ..row(POD_TEMPLATE, "podtemplates", false)
    },
];

impl Row {
    /// Returns true for ControllerRevisions.
    #[must_use]
    pub fn is_revision(&self) -> bool {
        self.kind == CONTROLLER_REVISIONS.kind
    }

    /// Returns true for pods, which are pinned. Every other kind holds a template of pods.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        self.kind == POD
    }

    /// Returns the place of an image of this role in an object of this kind.
    #[must_use]
    pub fn place(&self, role: Role, name: &str, index: usize) -> Place {
        let leaf: Path = match role {
            Role::Container | Role::InitContainer | Role::EphemeralContainer => &["image"],
            Role::ImageVolume => &["image", "reference"],
        };
        Place {
            key: SlotKey { role, name: name.into() },
            field: Field { root: self.pod_spec, list: role.list(), index, leaf },
        }
    }
}

/// The table of kinds. It is cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(Arc<[&'static Row]>);

impl Default for Kinds {
    /// Returns the table of the kinds of Kubernetes itself.
    fn default() -> Self {
        Self(iter::once(&PODS).chain(&WORKLOADS).collect())
    }
}

/// The error for a kind that is in the table already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kind {kind} of the group {:?} is in the table already", kind.group())]
pub struct KnownKind {
    kind: Kind,
}

impl Kinds {
    /// Adds a kind for the life of the process; the row is never freed.
    ///
    /// # Errors
    /// Fails if the table has the kind already.
    pub fn with(self, row: Row) -> Result<Self, KnownKind> {
        if self.row(row.kind).is_some() {
            return Err(KnownKind { kind: row.kind });
        }
        let row: &'static Row = Box::leak(Box::new(row));
        Ok(Self(self.0.iter().copied().chain([row]).collect()))
    }

    /// Returns every row; pods come first.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + Clone + use<'_> {
        self.0.iter().copied()
    }

    /// Returns every kind.
    pub fn all(&self) -> impl Iterator<Item = Kind> + use<'_> {
        self.rows().map(|row| row.kind)
    }

    /// Returns the row of this group and name.
    #[must_use]
    pub fn find(&self, group: &str, name: &str) -> Option<&'static Row> {
        self.rows().find(|row| row.kind.name() == name && row.kind.group() == group)
    }

    /// Returns the row by which an object of this group and name is judged: a row of the table, or that of
    /// ControllerRevisions.
    #[must_use]
    pub fn judged(&self, group: &str, name: &str) -> Option<&'static Row> {
        let is_revision =
            CONTROLLER_REVISIONS.kind.name() == name && CONTROLLER_REVISIONS.kind.group() == group;
        self.find(group, name).or_else(|| is_revision.then_some(&CONTROLLER_REVISIONS))
    }

    /// Returns the controller that the fields of an owner reference name: `apps/v1`, `ReplicaSet`, `web-5d4f`, UID.
    #[must_use]
    pub fn controller(&self, api_version: &str, kind: &str, name: &str, uid: &str) -> ControllerRef {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let known = self.find(group, kind).map(|row| row.kind);
        let foreign = || Box::new(ForeignKind { group: group.into(), kind: kind.into() });
        ControllerRef {
            kind: known,
            foreign: known.is_none().then(foreign),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// Returns the row of a kind.
    #[must_use]
    pub fn row(&self, kind: Kind) -> Option<&'static Row> {
        self.find(kind.group(), kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_group_and_name_together() {
        let kinds = Kinds::default();
        for kind in kinds.all() {
            assert_eq!(kinds.find(kind.group(), kind.name()).map(|row| row.kind), Some(kind));
        }
        assert_eq!(kinds.find("", "Deployment"), None);
        assert_eq!(kinds.find("apps", "deployment"), None);
        assert_eq!(kinds.find("apps.kruise.io", "StatefulSet"), None);
    }

    #[test]
    fn kinds_of_others_join_the_table_once() {
        let rollout = row(Kind::new("argoproj.io", "Rollout"), "rollouts", false);
        let kinds = Kinds::default().with(rollout).unwrap();
        assert_eq!(kinds.find("argoproj.io", "Rollout"), Some(&rollout));
        assert_eq!(kinds.clone().with(rollout).unwrap_err(), KnownKind { kind: rollout.kind });
        assert_eq!(kinds.all().last(), Some(rollout.kind));
    }

    #[test]
    fn a_place_is_where_the_table_says() {
        let place = |kind, role| Kinds::default().row(kind).unwrap().place(role, "web", 2).field.to_string();
        assert_eq!(place(POD, Role::Container), "spec.containers[2].image");
        assert_eq!(
            place(CRON_JOB, Role::InitContainer),
            "spec.jobTemplate.spec.template.spec.initContainers[2].image"
        );
        assert_eq!(place(POD_TEMPLATE, Role::ImageVolume), "template.spec.volumes[2].image.reference");
    }
}
