//! The two webhook configurations as they should be, and whether they are. It reads and writes nothing.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ServiceReference, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};

use crate::webhook_config::entries::Configuration;
use tagpin_objects::kinds::Kinds;
use tagpin_objects::match_conditions::{
    all_rules, canary_conditions, canary_rules, match_conditions, pod_rules,
};
use tagpin_objects::release;

/// The entry that pins.
const PIN: &str = "pin.tagpin.dev";
/// The entry that judges.
const VALIDATE: &str = "validate.tagpin.dev";
/// The entry that judges namespaces that asked for more: what we do not answer is refused there.
const STRICT: &str = "validate-strict.tagpin.dev";
/// The entry of those of them that took that back.
const VALIDATE_BREAK_GLASS: &str = "validate-break-glass.tagpin.dev";
/// The entry that only proves that we are reached.
const CANARY: &str = "canary.tagpin.dev";
/// Entries are ours by their names, those of other versions too.
pub(crate) const OURS: &str = ".tagpin.dev";
/// The failure policy of an entry whose requests go on when we do not answer.
pub(crate) const IGNORE: &str = "Ignore";

/// The label of a namespace in which nothing changes that we have not judged.
pub const FAIL_CLOSED: &str = "tagpin.dev/fail-closed";
/// The label that takes that back for a while.
pub const BREAK_GLASS: &str = "tagpin.dev/break-glass";
/// The one value of both labels that counts.
pub const ON: &str = "true";

/// Seconds that the API server waits for a review; ours is answered well before.
const VALIDATE_SECONDS: i32 = 10;
/// The same for a canary, which costs no registry: three that get lost must not take long.
const CANARY_SECONDS: i32 = 3;

/// The label that the API server itself gives every namespace: nobody can forge it.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What the configurations depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where our Service is; the configurations go when this namespace does.
    pub namespace: String,
    /// That namespace's UID, which a chart can not know.
    pub namespace_uid: String,
    /// Namespaces that are never intercepted.
    pub excluded: BTreeSet<String>,
    /// Who signs our certificate, in PEM; none empties the lists.
    pub ca: Option<Vec<u8>>,
    /// Whether namespaces that ask for it refuse what we do not answer.
    pub fails_closed: bool,
    /// The kinds that are validated.
    pub kinds: Kinds,
}

/// What differs between the validating entries of namespaces.
struct Entry {
    name: &'static str,
    path: &'static str,
    failure_policy: &'static str,
    /// Conditions on the namespace's labels: key and operator, each with the value [`ON`].
    labels: &'static [(&'static str, &'static str)],
}

/// Every namespace has exactly one of these.
const CLOSED: [Entry; 3] = [
    Entry { name: VALIDATE, path: "/validate", failure_policy: "Ignore", labels: &[(FAIL_CLOSED, "NotIn")] },
    Entry {
        name: STRICT,
        path: "/validate",
        failure_policy: "Fail",
        labels: &[(FAIL_CLOSED, "In"), (BREAK_GLASS, "NotIn")],
    },
    Entry {
        name: VALIDATE_BREAK_GLASS,
        path: "/validate/break-glass",
        failure_policy: "Ignore",
        labels: &[(FAIL_CLOSED, "In"), (BREAK_GLASS, "In")],
    },
];

/// While nothing may be refused only because we do not answer, one entry has them all.
const OPEN: [Entry; 1] = [Entry { name: VALIDATE, path: "/validate", failure_policy: "Ignore", labels: &[] }];

impl Wanted {
    /// `zz-tagpin`, for the object with this UID: an apply that names it can not make a new one.
    #[must_use]
    pub fn mutating(&self, uid: Option<String>) -> MutatingWebhookConfiguration {
        let webhooks = self.ca.as_ref().map(|ca| {
            vec![MutatingWebhook {
                name: PIN.to_owned(),
                admission_review_versions: vec!["v1".to_owned()],
                client_config: self.client(ca, "/mutate"),
                failure_policy: Some("Ignore".to_owned()),
                match_conditions: Some(match_conditions(&self.kinds)),
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(self.namespaces(&[])),
                object_selector: Some(LabelSelector::default()),
                reinvocation_policy: Some("IfNeeded".to_owned()),
                rules: Some(pod_rules()),
                side_effects: "None".to_owned(),
                timeout_seconds: Some(5),
            }]
        });
        MutatingWebhookConfiguration { metadata: self.metadata(release::MUTATING, uid), webhooks }
    }

    /// `tagpin`, for the object with this UID.
    #[must_use]
    pub fn validating(&self, uid: Option<String>) -> ValidatingWebhookConfiguration {
        let webhooks = self.ca.as_ref().map(|ca| {
            let entries: &[Entry] = if self.fails_closed { &CLOSED } else { &OPEN };
            let mut webhooks: Vec<_> = entries.iter().map(|entry| self.validate(ca, entry)).collect();
            webhooks.push(self.canary(ca));
            webhooks
        });
        ValidatingWebhookConfiguration { metadata: self.metadata(release::NAME, uid), webhooks }
    }

    fn validate(&self, ca: &[u8], entry: &Entry) -> ValidatingWebhook {
        ValidatingWebhook {
            name: entry.name.to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: self.client(ca, entry.path),
            failure_policy: Some(entry.failure_policy.to_owned()),
            match_conditions: Some(match_conditions(&self.kinds)),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(self.namespaces(entry.labels)),
            object_selector: Some(LabelSelector::default()),
            rules: Some(all_rules(&self.kinds)),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(VALIDATE_SECONDS),
        }
    }

    fn canary(&self, ca: &[u8]) -> ValidatingWebhook {
        let ours = requirement(NAMESPACE_NAME, "In", vec![self.namespace.clone()]);
        ValidatingWebhook {
            match_conditions: Some(canary_conditions()),
            namespace_selector: Some(LabelSelector {
                match_expressions: Some(vec![ours]),
                match_labels: None,
            }),
            rules: Some(canary_rules()),
            timeout_seconds: Some(CANARY_SECONDS),
            ..self.validate(
                ca,
                &Entry { name: CANARY, path: "/validate", failure_policy: "Ignore", labels: &[] },
            )
        }
    }

    /// Whether the mutating configuration is as it should be. Entries of others are theirs.
    #[must_use]
    pub fn mutating_is(&self, live: &MutatingWebhookConfiguration) -> bool {
        let wanted = self.mutating(None);
        self.owns(&live.metadata) && same(&live.webhooks, &wanted.webhooks, |webhook| &webhook.name)
    }

    /// Whether the validating configuration is as it should be.
    #[must_use]
    pub fn validating_is(&self, live: &ValidatingWebhookConfiguration) -> bool {
        let wanted = self.validating(None);
        self.owns(&live.metadata) && same(&live.webhooks, &wanted.webhooks, |webhook| &webhook.name)
    }

    fn metadata(&self, name: &str, uid: Option<String>) -> ObjectMeta {
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: self.namespace.clone(),
            uid: self.namespace_uid.clone(),
            ..OwnerReference::default()
        };
        ObjectMeta {
            name: Some(name.to_owned()),
            uid,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        }
    }

    fn owns(&self, live: &ObjectMeta) -> bool {
        live.owner_references.iter().flatten().any(|owner| owner.uid == self.namespace_uid)
    }

    fn client(&self, ca: &[u8], path: &str) -> WebhookClientConfig {
        WebhookClientConfig {
            ca_bundle: Some(ByteString(ca.to_vec())),
            service: Some(ServiceReference {
                name: release::NAME.to_owned(),
                namespace: self.namespace.clone(),
                path: Some(path.to_owned()),
                port: Some(443),
            }),
            url: None,
        }
    }

    /// The namespaces that are not excluded, and meet these conditions on their labels.
    fn namespaces(&self, labels: &[(&str, &str)]) -> LabelSelector {
        let excluded = self.excluded.iter().cloned().collect();
        let mut expressions = vec![requirement(NAMESPACE_NAME, "NotIn", excluded)];
        expressions
            .extend(labels.iter().map(|(key, operator)| requirement(key, operator, vec![ON.to_owned()])));
        LabelSelector { match_expressions: Some(expressions), match_labels: None }
    }
}

fn requirement(key: &str, operator: &str, values: Vec<String>) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values: Some(values) }
}

/// Whether a canary would be asked about.
#[must_use]
pub fn has_canary(live: &ValidatingWebhookConfiguration) -> bool {
    live.webhooks.iter().flatten().any(|webhook| webhook.name == CANARY)
}

/// Returns true if an entry of ours refuses what we do not answer, whoever wrote it so.
#[must_use]
pub fn fails_closed(live: &ValidatingWebhookConfiguration) -> bool {
    live.entries().iter().any(|entry| entry.is_closed())
}

/// Every entry that is wanted is there as it should be, and no other one of ours.
fn same<W: PartialEq>(live: &Option<Vec<W>>, wanted: &Option<Vec<W>>, name: impl Fn(&W) -> &String) -> bool {
    let wanted = wanted.as_deref().unwrap_or_default();
    let ours: Vec<&W> = live.iter().flatten().filter(|webhook| name(webhook).ends_with(OURS)).collect();
    ours.len() == wanted.len() && wanted.iter().all(|webhook| ours.contains(&webhook))
}
