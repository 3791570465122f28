//! Controllers of kinds that are not validated. A custom resource is one; a name that somebody wrote into an owner
//! reference may be none.

/// The kind of a controller that is not validated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForeignKind {
    /// The API group; the core group is empty.
    pub group: Box<str>,
    /// The kind's name: `Cluster`.
    pub kind: Box<str>,
}

impl ForeignKind {
    /// Returns true if custom resources may be of this kind: its group is a domain name, and none of Kubernetes' own.
    #[must_use]
    pub fn may_be_custom(&self) -> bool {
        is_custom_group(&self.group)
    }
}

/// Returns true if custom resources may be in this group.
#[must_use]
pub fn is_custom_group(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

/// Says if the API server serves a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The API server did not say so in time.
    Unknown,
}

impl Served {
    /// Returns true unless the kind is known not to be served. Pods of a custom resource that are pinned by mistake are
    /// recreated by some operators again and again.
    #[must_use]
    pub fn may_be(self) -> bool {
        self != Self::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_group_is_a_domain_name_that_kubernetes_does_not_keep_for_itself() {
        for group in ["postgresql.cnpg.io", "apps.kruise.io", "jobset.x-k8s.io", "example.k8s.io.example"] {
            assert!(is_custom_group(group), "{group}");
        }
        for group in ["", "batch", "apps", "k8s", "rbac.authorization.k8s.io", "metrics.k8s.io"] {
            assert!(!is_custom_group(group), "{group}");
        }
    }
}
