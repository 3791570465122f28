//! The stored objects that a replica cannot read.

use std::collections::BTreeMap;

use crate::cli::doctor::findings::{Answers, Findings};
use crate::cli::doctor::judge::row::{Row, known, named};
use tagpin_kube::store::Store;
use tagpin_kube::unreadable::{Named, Row as UnreadableObjects, Watched};
use tagpin_objects::kinds::Kinds;

/// Returns a row for each kind with objects that cannot be read, from the replica that counts most of them.
pub(crate) fn unreadable(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "unreadable";
    known(CHECK, &found.replicas, |replicas| {
        let answers: Vec<&Answers> =
            replicas.iter().filter_map(|replica| replica.answers.as_ref().ok()).collect();
        if answers.is_empty() {
            return vec![Row::unknown(CHECK, "no replica answered")];
        }
        let mut worst: BTreeMap<&str, &UnreadableObjects> = BTreeMap::new();
        for seen in answers.iter().flat_map(|answers| &answers.unreadable) {
            let held = worst.entry(&seen.watch).or_insert(seen);
            if seen.count > held.count {
                *held = seen;
            }
        }
        if worst.is_empty() {
            return vec![Row::ok(CHECK, "every stored object that tagpin watches can be read")];
        }
        worst.into_values().map(row).collect()
    })
}

fn row(seen: &UnreadableObjects) -> Row {
    const CHECK: &str = "unreadable";
    let objects: Vec<_> = seen.named.iter().map(object).collect();
    let detail = format!("{}: tagpin cannot read {} of them: {}", seen.watch, seen.count, named(&objects));
    match remedy(seen) {
        // Only policies and the objects of the release are worth a red row.
        Some(remedy) if is_ours(&seen.watch) => Row::red(CHECK, detail, remedy),
        remedy => Row::note(CHECK, detail, remedy),
    }
}

fn object(object: &Named) -> String {
    match &object.namespace {
        None => format!("{} ({})", object.name, object.fault),
        Some(namespace) => format!("{namespace}/{} ({})", object.name, object.fault),
    }
}

/// Returns the command that shows the first of these objects, so that somebody can repair or delete it.
fn remedy(seen: &UnreadableObjects) -> Option<String> {
    let first = seen.named.first()?;
    let namespace = first.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    Some(format!(
        "kubectl get {}{namespace} {} -o yaml --show-managed-fields",
        resource(&seen.watch),
        first.name
    ))
}

/// Returns the name that kubectl knows the kind by.
fn resource(watch: &str) -> &str {
    match watched(watch) {
        Some(Watched::Replicas) => "pods",
        Some(Watched::Certificate | Watched::PinKeys | Watched::Door) => "secrets",
        Some(Watched::Store(Store::ClusterImagePolicies)) => "clusterimagepolicies.tagpin.dev",
        Some(Watched::Store(Store::ImagePolicies)) => "imagepolicies.tagpin.dev",
        _ => watch,
    }
}

/// Returns true if the watch is of policies or of objects of the release.
fn is_ours(watch: &str) -> bool {
    match watched(watch) {
        Some(Watched::Store(store)) => matches!(store, Store::ClusterImagePolicies | Store::ImagePolicies),
        Some(_) => true,
        None => false,
    }
}

fn watched(name: &str) -> Option<Watched> {
    Watched::all(&Kinds::default()).find(|watched| watched.name() == name)
}
