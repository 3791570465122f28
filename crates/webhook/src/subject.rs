//! From a review to what the pipeline reviews: who made it, who owns it, what changed. It judges nothing.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use crate::Settings;
use crate::object::Object;
use crate::review::Request;
use tagpin_domain::asker::Asker;
use tagpin_domain::mark::Provenance;
use tagpin_domain::pin::Revision;
use tagpin_domain::policy::{Labels, PolicySet};
use tagpin_domain::slot::{ImageSlot, Kind, SlotKey};
use tagpin_domain::subject::{Annotated, Controller, SlotUnderReview, Subject, Suggestions, TopOwner};
use tagpin_kube::Cluster;

/// Builds the subject of a review.
pub(crate) async fn subject(
    cluster: &Cluster,
    settings: &Settings,
    policies: &PolicySet,
    request: &Request<'_>,
    object: &Object<'_>,
    old: Option<&Object<'_>>,
    deadline: Instant,
) -> Subject {
    let kind = object.kind;
    let namespace = request.namespace();
    let controller = object.controller();
    let validated_owner = controller.is_some_and(|owner| owner.kind.is_some());
    // The identity decides: anybody can copy an owner reference.
    let child = validated_owner && settings.controller_identities.contains(request.user());
    let selectors = policies.of_namespace(namespace).flat_map(|policy| &policy.scope.objects.0);
    let asked_labels: BTreeSet<&str> = selectors.map(|requirement| requirement.key.as_str()).collect();
    let pull_secrets = match object.pull_secrets() {
        [] => cluster.pull_secrets(namespace, object.service_account()),
        named => named.to_vec(),
    };
    let revision = revision(namespace, object);
    Subject {
        kind,
        namespace: namespace.to_owned(),
        namespace_labels: if policies.cluster.iter().any(|policy| !policy.scope.namespaces.0.is_empty()) {
            let labels = cluster.awaited_namespace_labels(namespace, deadline).await;
            labels.map(|labels| (*labels).clone()).unwrap_or_default()
        } else {
            Labels::new()
        },
        // The owners of a new ReplicaSet's pod may still be on their way to us: nobody waits who need not know.
        top_owner: if policies.of_namespace(namespace).any(|policy| !policy.scope.kinds.is_empty()) {
            cluster.top_owner(namespace, kind, controller, deadline).await
        } else {
            TopOwner::Unknown
        },
        controller: match (kind, controller) {
            (Kind::Pod, Some(_)) if validated_owner => Controller::BuiltIn,
            (Kind::Pod, Some(_)) => Controller::Foreign,
            _ => Controller::None,
        },
        child,
        slots: slots(cluster, namespace, revision.as_ref(), object, old),
        revision,
        asker: Asker { namespace: namespace.to_owned(), pull_secrets },
        suggestions: match (child, request.dry_run()) {
            (true, _) => Suggestions::Off,
            (false, true) => Suggestions::Cached,
            (false, false) => Suggestions::Ask,
        },
        labels: if asked_labels.is_empty() { Labels::new() } else { object.labels(&asked_labels) },
    }
}

fn revision(namespace: &str, object: &Object<'_>) -> Option<Revision> {
    let controller = object.controller().filter(|_| object.kind == Kind::Pod)?;
    Some(Revision::of(namespace, &controller.uid, |label| object.label(label)))
}

/// Every slot beside the slot of the same name in the old object: names decide, never positions.
fn slots(
    cluster: &Cluster,
    namespace: &str,
    revision: Option<&Revision>,
    object: &Object<'_>,
    old: Option<&Object<'_>>,
) -> Vec<SlotUnderReview> {
    let keys = cluster.pods.keys();
    let keys = keys.as_deref();
    let (originals, marks) = &object.ours();
    let provenance = Provenance { keys, namespace, revision, older: false };
    let annotated = Annotated { originals, marks, provenance };
    let Some(old) = old else {
        return object.slots().into_iter().map(|slot| SlotUnderReview::new(slot, annotated, false)).collect();
    };
    // The old object's UID, which nobody can choose.
    let uid = old.uid();
    let (originals, marks) = &old.ours();
    let old_revision = self::revision(namespace, old);
    let older = cluster.pods.get(uid).is_some_and(|pod| pod.needs_no_mark(keys));
    let provenance = Provenance { revision: old_revision.as_ref(), older, ..provenance };
    let old_annotated = Annotated { originals, marks, provenance };
    let old_slots = old.slots();
    let old_slots: HashMap<&SlotKey, &ImageSlot> = old_slots.iter().map(|slot| (&slot.key, slot)).collect();
    let carried = |slot: &ImageSlot| cluster.carries(object.kind, namespace, uid, &slot.key, &slot.reference);
    let compared = |slot: ImageSlot| {
        let before = old_slots.get(&slot.key);
        let changed = before.is_none_or(|before| before.reference != slot.reference);
        let carried = changed && carried(&slot);
        let slot = SlotUnderReview::new(slot, annotated, carried);
        match before {
            Some(before) => slot.after(before, old_annotated),
            None => slot,
        }
    };
    object.slots().into_iter().map(compared).collect()
}
