//! From a review to what the pipeline reviews: who made it, who owns it, what changed. It judges nothing.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::admission::Settings;
use crate::admission::object::Object;
use crate::admission::review::Request;
use crate::cluster::Cluster;
use crate::domain::asker::Asker;
use crate::domain::pin::Revision;
use crate::domain::policy::{Labels, PolicySet};
use crate::domain::slot::{ImageSlot, Kind, SlotKey};
use crate::domain::subject::{Controller, SlotUnderReview, Subject, Suggestions, TopOwner};

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
    let pull_secrets = match object.pull_secrets() {
        [] => cluster.pull_secrets(namespace, object.service_account()),
        named => named.to_vec(),
    };
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
        revision: revision(namespace, object),
        asker: Asker { namespace: namespace.to_owned(), pull_secrets },
        suggestions: match (child, request.dry_run()) {
            (true, _) => Suggestions::Off,
            (false, true) => Suggestions::Cached,
            (false, false) => Suggestions::Ask,
        },
        pinning: true,
        slots: slots(cluster, namespace, object, old),
        labels: if policies.of_namespace(namespace).any(|policy| !policy.scope.objects.0.is_empty()) {
            object.labels()
        } else {
            Labels::new()
        },
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
    object: &Object<'_>,
    old: Option<&Object<'_>>,
) -> Vec<SlotUnderReview> {
    let originals = object.originals();
    let old_originals = old.map(Object::originals).unwrap_or_default();
    let old_slots = old.map(Object::slots).unwrap_or_default();
    let old_slots: HashMap<&SlotKey, &ImageSlot> = old_slots.iter().map(|slot| (&slot.key, slot)).collect();
    // The old object's UID, which nobody can choose.
    let carried = |slot: &ImageSlot| {
        old.is_some_and(|old| cluster.carries(object.kind, namespace, old.uid(), &slot.key, &slot.reference))
    };
    object
        .slots()
        .into_iter()
        .map(|slot| {
            let before = old_slots.get(&slot.key).copied();
            let changed = before.is_none_or(|before| before.reference != slot.reference);
            let carried = changed && carried(&slot);
            SlotUnderReview::new(slot, &originals, before.map(|before| (before, &old_originals)), carried)
        })
        .collect()
}
