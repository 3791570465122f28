//! Makes the subject of a review from a workload, by gathering the facts around the object.

use std::collections::BTreeSet;

use tokio::time::Instant;

use tagpin_domain::policy::PolicySet;
use tagpin_domain::slot::Slot;
use tagpin_domain::subject::{Before, Subject, Suggestions, Surrounding, TopOwner};
use tagpin_domain::workload::{Labels, Workload};

use crate::ports::Surroundings;

/// The workload that a review is about, and the circumstances of the request.
#[derive(Debug)]
pub struct Asked {
    /// The object.
    pub workload: Workload,
    /// The object before an update.
    pub old: Option<Workload>,
    /// True if the request comes from the identity of a built-in controller.
    pub by_controller: bool,
    /// The effort that suggestions may cost.
    pub suggestions: Suggestions,
}

impl Asked {
    /// Returns the keys of the labels that the policies of a namespace select by.
    #[must_use]
    pub fn label_keys<'a>(policies: &'a PolicySet, namespace: &str) -> BTreeSet<&'a str> {
        let selectors = policies.of_namespace(namespace).flat_map(|policy| &policy.scope.objects.0);
        selectors.map(|requirement| requirement.key.as_str()).collect()
    }
}

/// Makes the subject of a review under these policies. It waits only for facts that the policies depend on.
pub async fn subject(
    asked: Asked,
    policies: &PolicySet,
    surroundings: &dyn Surroundings,
    deadline: Instant,
) -> Subject {
    let Asked { workload, old, by_controller, suggestions } = asked;
    let namespace = &workload.namespace;
    let keys = surroundings.keys();
    let surrounding = Surrounding {
        namespace_labels: namespace_labels(policies, namespace, surroundings, deadline).await,
        // The owners of a new ReplicaSet's pod may not have been reported yet. The review waits for them only
        // if a policy depends on them.
        top_owner: if policies.of_namespace(namespace).any(|policy| !policy.scope.kinds.is_empty()) {
            surroundings.top_owner(&workload, deadline).await
        } else {
            TopOwner::Unknown
        },
        account_secrets: if workload.pull_secrets.is_empty() {
            surroundings.pull_secrets(namespace, &workload.service_account)
        } else {
            Vec::new()
        },
        by_controller,
        suggestions,
        keys: keys.as_deref(),
    };
    let Some(old) = old else { return Subject::of(workload, surrounding, None) };
    let carries = |slot: &Slot| surroundings.carries(&old, slot);
    // The UID of the old object counts, because nobody can choose it.
    let needs_no_mark = surroundings.needs_no_mark(&old.uid);
    Subject::of(workload, surrounding, Some(Before { workload: &old, needs_no_mark, carries: &carries }))
}

/// Returns the labels of a namespace if a policy selects by them; empty if they cannot be known in time.
async fn namespace_labels(
    policies: &PolicySet,
    namespace: &str,
    surroundings: &dyn Surroundings,
    deadline: Instant,
) -> Labels {
    if policies.cluster.iter().all(|policy| policy.scope.namespaces.0.is_empty()) {
        return Labels::new();
    }
    let labels = surroundings.namespace_labels(namespace, deadline).await;
    labels.map(|labels| (*labels).clone()).unwrap_or_default()
}
