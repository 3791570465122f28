//! Makes the subject of a review from a workload, by gathering the facts around the object.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use tagpin_domain::asker::Requester;
use tagpin_domain::check::{Check, Owners};
use tagpin_domain::kind::STATEFUL_SET;
use tagpin_domain::policy::{Identities, PolicySet};
use tagpin_domain::slot::Slot;
use tagpin_domain::subject::{Before, Subject, Suggestions, Surrounding, TopOwner};
use tagpin_domain::workload::{ControllerRef, Known, LabelSet, Labels, Workload};

use crate::ports::Surroundings;

/// The workload that a review is about, and the circumstances of the request.
#[derive(Debug)]
pub struct Asked {
    /// The object.
    pub workload: Workload,
    /// The object before an update.
    pub old: Option<Workload>,
    /// The identity that sent the request.
    pub by: Requester,
    /// The identities of exceptions that it belongs to.
    pub named: Vec<Arc<Identities>>,
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
    let Asked { workload, old, by, named, suggestions } = asked;
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
        account_secrets: account_secrets(&workload, policies, surroundings, deadline).await,
        foreign: is_foreign(&workload, &by, policies, surroundings, deadline).await,
        named,
        by,
        suggestions,
        keys: keys.as_deref(),
    };
    let Some(old) = old else { return Subject::of(workload, surrounding, None) };
    let carries =
        |slots: &[&Slot]| surroundings.carries(&old, slots, &Asked::label_keys(policies, &old.namespace));
    // The UID of the old object counts, because nobody can choose it.
    let needs_no_mark = surroundings.needs_no_mark(&old.uid);
    Subject::of(workload, surrounding, Some(Before { workload: &old, needs_no_mark, carries: &carries }))
}

/// Returns the labels of a namespace, or none if no policy selects by them.
async fn namespace_labels(
    policies: &PolicySet,
    namespace: &str,
    surroundings: &dyn Surroundings,
    deadline: Instant,
) -> LabelSet {
    if policies.cluster.iter().all(|policy| policy.scope.namespaces.0.is_empty()) {
        return LabelSet { known: Labels::new(), whole: true };
    }
    let labels = surroundings.namespace_labels(namespace, deadline).await;
    LabelSet::of_namespace(namespace, labels.map(|labels| (*labels).clone()))
}

/// Returns the pull secrets of the service account of a workload that names none itself. They are read only if a policy
/// depends on the answer of a registry.
async fn account_secrets(
    workload: &Workload,
    policies: &PolicySet,
    surroundings: &dyn Surroundings,
    deadline: Instant,
) -> Known<Vec<String>> {
    let Workload { namespace, service_account, pull_secrets, .. } = workload;
    if !pull_secrets.is_empty() {
        return Known::Unknown;
    }
    let mut checks = policies.of_namespace(namespace).flat_map(|policy| &policy.checks);
    let asks = |check: &Check| matches!(check, Check::Existence | Check::Resolution | Check::Pin(_));
    let deadline = if checks.any(asks) { deadline } else { Instant::now() };
    surroundings.pull_secrets(namespace, service_account, deadline).await
}

/// Returns true if a custom resource controls the pod, or the StatefulSet of the pod. Only the identity of the request
/// proves such an owner: a service account, or the controller of StatefulSets. Nothing is read unless a policy
/// leaves such pods unpinned.
async fn is_foreign(
    pod: &Workload,
    by: &Requester,
    policies: &PolicySet,
    surroundings: &dyn Surroundings,
    deadline: Instant,
) -> bool {
    let Some(controller) = pod.controller.as_ref().filter(|_| pod.is_pod) else { return false };
    let left_unpinned = || {
        let mut checks = policies.of_namespace(&pod.namespace).flat_map(|policy| &policy.checks);
        checks.any(|check| matches!(check, Check::Pin(Owners::BuiltIn)))
    };
    match controller.kind {
        None if by.service_account => {
            is_custom(controller, left_unpinned().then_some(surroundings), deadline).await
        }
        Some(STATEFUL_SET) if by.controller && left_unpinned() => {
            match surroundings.controller_of(controller, &pod.namespace, deadline).await {
                Known::Yes(None) => false,
                Known::Yes(Some(above)) => is_custom(&above, Some(surroundings), deadline).await,
                // A database that fails over again and again is worse than one pod without a pin.
                Known::Unknown => true,
            }
        }
        _ => false,
    }
}

/// Returns true if the controller is a custom resource. Without surroundings its name alone decides.
async fn is_custom(
    controller: &ControllerRef,
    surroundings: Option<&dyn Surroundings>,
    deadline: Instant,
) -> bool {
    let Some(kind) = controller.foreign.as_ref().filter(|kind| kind.may_be_custom()) else { return false };
    match surroundings {
        Some(surroundings) => surroundings.serves(kind, deadline).await.may_be(),
        None => true,
    }
}

#[cfg(test)]
mod tests;
