//! The entries in a live webhook configuration, and the two documents that disable tagpin's entries. They
//! need nothing but the configuration that the API server holds: no certificate, no policy, no store. Entries
//! of others stay as they are.

use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use tagpin_objects::release;

/// Suffix of the names of our entries, in every version of tagpin.
pub(crate) const OURS: &str = ".tagpin.dev";
/// The failure policy that lets a request through when tagpin does not answer.
pub(crate) const IGNORE: &str = "Ignore";

/// One of the two webhook configurations.
pub(crate) trait Entries:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
    /// Name of the one object of this kind that tagpin writes.
    const NAME: &'static str;

    /// Returns every entry in the order of the list.
    fn entries(&self) -> Vec<LiveEntry<'_>>;
}

/// The fields that decide about one entry of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveEntry<'a> {
    name: &'a str,
    failure_policy: Option<&'a str>,
    namespaces: Option<&'a LabelSelector>,
}

impl<'a> LiveEntry<'a> {
    fn new(name: &'a str, failure_policy: Option<&'a String>, namespaces: Option<&'a LabelSelector>) -> Self {
        Self { name, failure_policy: failure_policy.map(String::as_str), namespaces }
    }

    /// Returns true if this entry is ours, in whatever version.
    pub(crate) fn is_ours(&self) -> bool {
        self.name.ends_with(OURS)
    }

    /// Returns true if this entry is ours and refuses requests that tagpin does not answer, which is the API server's
    /// default.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_ours() && self.failure_policy != Some(IGNORE)
    }
}

impl Entries for MutatingWebhookConfiguration {
    const NAME: &'static str = release::MUTATING;

    fn entries(&self) -> Vec<LiveEntry<'_>> {
        let webhooks = self.webhooks.iter().flatten();
        let entries = webhooks.map(|webhook| {
            LiveEntry::new(
                &webhook.name,
                webhook.failure_policy.as_ref(),
                webhook.namespace_selector.as_ref(),
            )
        });
        entries.collect()
    }
}

impl Entries for ValidatingWebhookConfiguration {
    const NAME: &'static str = release::NAME;

    fn entries(&self) -> Vec<LiveEntry<'_>> {
        let webhooks = self.webhooks.iter().flatten();
        let entries = webhooks.map(|webhook| {
            LiveEntry::new(
                &webhook.name,
                webhook.failure_policy.as_ref(),
                webhook.namespace_selector.as_ref(),
            )
        });
        entries.collect()
    }
}

/// Returns a document for a forced apply, after which an entry of tagpin refuses unanswered requests only if
/// it does so in `document`; none if no entry has to change. The document sets failure policies and no other
/// field, so that no manager loses anything else.
pub(crate) fn opening<K: Entries>(live: &K, document: Option<&K>) -> Option<Value> {
    let may_close = document.map(Entries::entries).unwrap_or_default();
    let is_wanted = |name: &str| may_close.iter().any(|entry| entry.is_closed() && entry.name == name);
    let mut entries = live.entries();
    entries.retain(|entry| entry.is_ours() && !is_wanted(entry.name));
    // The apply names also the entries that are open already. An entry that it stopped naming would fall back
    // to the API server's default, which is to refuse.
    let webhooks = || -> Vec<_> {
        entries.iter().map(|entry| json!({ "name": entry.name, "failurePolicy": IGNORE })).collect()
    };
    entries.iter().any(LiveEntry::is_closed).then(|| {
        json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // An apply with a UID cannot create an object.
            "metadata": { "name": K::NAME, "uid": live.meta().uid },
            "webhooks": webhooks(),
        })
    })
}

/// Returns the JSON patch that removes our entries that `document` does not have from exactly this version of
/// the object, also if other managers own them; none if there is no such entry. Entries that stay get their
/// namespaces in the same write, so that a namespace that moves from one entry to another is never without
/// one.
pub(crate) fn removal<K: Entries>(live: &K, document: &K) -> Option<Value> {
    let (entries, wanted) = (live.entries(), document.entries());
    let kept = |name: &str| wanted.iter().find(|entry| entry.name == name);
    let version = json!(live.meta().resource_version);
    let mut patch = vec![json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version })];
    let mut removes = false;
    // The loop starts at the end of the list, so that the indices of the remaining entries stay valid.
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
