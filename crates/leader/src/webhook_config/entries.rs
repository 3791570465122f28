//! Our entries in a live configuration, and the two documents that take one out of force. They work on what the API
//! server holds and need nothing else: no certificate, no policy, no store. Entries of others stay as they are.

use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::webhook_config::documents::{IGNORE, OURS, Wanted};
use tagpin_objects::release;

/// One of the two webhook configurations.
pub(crate) trait Configuration:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
    /// The name of the one object of this kind that is ours to write.
    const NAME: &'static str;

    /// Returns every entry in the order of the list.
    fn entries(&self) -> Vec<LiveEntry<'_>>;

    /// Returns the configuration as it should be, for the object with this UID.
    fn document(wanted: &Wanted, uid: Option<String>) -> Self;

    /// Returns whether this is as it should be.
    fn is_as_wanted(&self, wanted: &Wanted) -> bool;
}

/// The fields that decide about one entry of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveEntry<'a> {
    name: &'a str,
    failure_policy: Option<&'a str>,
    namespaces: Option<&'a LabelSelector>,
}

impl LiveEntry<'_> {
    fn is_ours(&self) -> bool {
        self.name.ends_with(OURS)
    }

    /// Returns whether this entry is ours and refuses what we do not answer. The API server's default is to refuse.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_ours() && self.failure_policy != Some(IGNORE)
    }
}

impl Configuration for MutatingWebhookConfiguration {
    const NAME: &'static str = release::MUTATING;

    fn entries(&self) -> Vec<LiveEntry<'_>> {
        let entries = self.webhooks.iter().flatten().map(|webhook| LiveEntry {
            name: &webhook.name,
            failure_policy: webhook.failure_policy.as_deref(),
            namespaces: webhook.namespace_selector.as_ref(),
        });
        entries.collect()
    }

    fn document(wanted: &Wanted, uid: Option<String>) -> Self {
        wanted.mutating(uid)
    }

    fn is_as_wanted(&self, wanted: &Wanted) -> bool {
        wanted.mutating_is(self)
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const NAME: &'static str = release::NAME;

    fn entries(&self) -> Vec<LiveEntry<'_>> {
        let entries = self.webhooks.iter().flatten().map(|webhook| LiveEntry {
            name: &webhook.name,
            failure_policy: webhook.failure_policy.as_deref(),
            namespaces: webhook.namespace_selector.as_ref(),
        });
        entries.collect()
    }

    fn document(wanted: &Wanted, uid: Option<String>) -> Self {
        wanted.validating(uid)
    }

    fn is_as_wanted(&self, wanted: &Wanted) -> bool {
        wanted.validating_is(self)
    }
}

/// Returns what to apply, by force, so that no entry of ours refuses what we do not answer, but for those that this
/// document has so; none when there is no such entry. It names nothing but failure policies, so nobody loses more.
pub(crate) fn opening<K: Configuration>(live: &K, document: Option<&K>) -> Option<Value> {
    let may_close = document.map(Configuration::entries).unwrap_or_default();
    let is_wanted = |name: &str| may_close.iter().any(|entry| entry.is_closed() && entry.name == name);
    let mut entries = live.entries();
    entries.retain(|entry| entry.is_ours() && !is_wanted(entry.name));
    // All of them, also those that are open already: what an apply names no longer falls back to the API server's
    // default, which is to refuse.
    let webhooks = || -> Vec<_> {
        entries.iter().map(|entry| json!({ "name": entry.name, "failurePolicy": IGNORE })).collect()
    };
    entries.iter().any(LiveEntry::is_closed).then(|| {
        json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // An apply that names the UID cannot make a new object.
            "metadata": { "name": K::NAME, "uid": live.meta().uid },
            "webhooks": webhooks(),
        })
    })
}

/// Returns the JSON patch that removes our entries that this document does not have, whoever else owns them, from
/// exactly this version of the object; none when there is no such entry. An entry that stays gets its namespaces in the
/// same write: one that took over those of another entry leaves no moment in which nobody is asked.
pub(crate) fn removal<K: Configuration>(live: &K, document: &K) -> Option<Value> {
    let (entries, wanted) = (live.entries(), document.entries());
    let kept = |name: &str| wanted.iter().find(|entry| entry.name == name);
    let version = json!(live.meta().resource_version);
    let mut patch = vec![json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version })];
    let mut removes = false;
    // From the end of the list, so that the numbers of the entries before stay.
    for (number, entry) in entries.iter().enumerate().rev().filter(|(_, entry)| entry.is_ours()) {
        let test = json!({ "op": "test", "path": format!("/webhooks/{number}/name"), "value": entry.name });
        match kept(entry.name) {
            None => {
                patch.extend([test, json!({ "op": "remove", "path": format!("/webhooks/{number}") })]);
                removes = true;
            }
            Some(wanted) if wanted.namespaces == entry.namespaces => {}
            Some(wanted) => {
                let path = format!("/webhooks/{number}/namespaceSelector");
                patch.extend([test, json!({ "op": "add", "path": path, "value": wanted.namespaces })]);
            }
        }
    }
    removes.then_some(Value::Array(patch))
}
