//! The two webhook configurations as they should be, and their comparison with live ones. It reads and writes nothing.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ServiceReference, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};

use crate::webhook_config::additions::{Webhook, added, contains, keep};
use crate::webhook_config::entries::{Entries, IGNORE, OURS};
use tagpin_objects::door::{self, Token};
use tagpin_objects::kinds::Kinds;
use tagpin_objects::match_conditions::{
    all_rules, canary_conditions, canary_rules, match_conditions, pod_rules,
};
use tagpin_objects::release;

/// Name of the entry that pins.
const PIN: &str = "pin.tagpin.dev";
/// Name of the entry that judges.
const VALIDATE: &str = "validate.tagpin.dev";
/// Name of the entry for fail-closed namespaces, in which unanswered requests are refused.
pub(crate) const STRICT: &str = "validate-strict.tagpin.dev";
/// Name of the entry for namespaces in which break glass is on.
const VALIDATE_BREAK_GLASS: &str = "validate-break-glass.tagpin.dev";
/// Name of the entry for canaries, which prove that the API server reaches tagpin.
const CANARY: &str = "canary.tagpin.dev";

/// Label of a namespace in which unanswered requests are refused.
pub const FAIL_CLOSED: &str = "tagpin.dev/fail-closed";
/// Label of a namespace in which nothing is judged, pinned or refused.
pub(crate) const BREAK_GLASS: &str = "tagpin.dev/break-glass";
/// The only value of both labels that has an effect.
pub const ON: &str = "true";

/// Time limit of the API server for a review, in seconds. tagpin answers well before.
const VALIDATE_SECONDS: i32 = 10;
/// Time limit of the API server for a canary, in seconds. A canary needs no registry, and three lost canaries
/// must not take long.
const CANARY_SECONDS: i32 = 3;

/// Label that the API server sets on every namespace, so that nobody can forge it.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A webhook configuration that can be made from [`Wanted`] and compared with it.
pub(crate) trait Configuration: Entries {
    /// Returns the configuration as it should be in the place of the live one, with what others added to its selectors.
    fn document(wanted: &Wanted, live: &Self) -> Self;

    /// Returns true if this configuration is as it should be.
    fn matches(&self, wanted: &Wanted) -> bool;
}

impl Configuration for MutatingWebhookConfiguration {
    fn document(wanted: &Wanted, live: &Self) -> Self {
        let mut made = wanted.mutating(live.metadata.uid.clone());
        keep(&mut made.webhooks, &live.webhooks);
        made
    }

    fn matches(&self, wanted: &Wanted) -> bool {
        wanted.matches_mutating(self)
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn document(wanted: &Wanted, live: &Self) -> Self {
        let mut made = wanted.validating(live.metadata.uid.clone());
        keep(&mut made.webhooks, &live.webhooks);
        made
    }

    fn matches(&self, wanted: &Wanted) -> bool {
        wanted.matches_validating(self)
    }
}

/// Everything that the two configurations depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace of the release; the configurations are deleted with it.
    pub namespace: String,
    /// UID of that namespace, which a chart cannot know.
    pub namespace_uid: String,
    /// Namespaces that are never intercepted.
    pub excluded: BTreeSet<String>,
    /// The authorities of the webhook's certificate, in PEM; none empties the lists.
    pub ca: Option<Vec<u8>>,
    /// True if fail-closed namespaces refuse unanswered requests.
    pub fails_closed: bool,
    /// True if the entry for canaries alone stays, so that nobody waits for the others.
    pub withdrawn: bool,
    /// The kinds that are validated.
    pub kinds: Kinds,
    /// The token in the paths; none while a replica may not know it.
    pub door: Option<Token>,
}

/// The fields in which the validating entries differ.
struct Entry {
    name: &'static str,
    path: &'static str,
    failure_policy: &'static str,
    /// Conditions on labels of the namespace: key and operator, each with the value [`ON`].
    labels: &'static [(&'static str, &'static str)],
}

/// The entries while fail-closed namespaces are in effect; each namespace belongs to exactly one.
const CLOSED: [Entry; 3] = [
    Entry {
        name: VALIDATE,
        path: door::VALIDATE,
        failure_policy: IGNORE,
        labels: &[(FAIL_CLOSED, "NotIn"), (BREAK_GLASS, "NotIn")],
    },
    Entry {
        name: STRICT,
        path: door::VALIDATE,
        failure_policy: "Fail",
        labels: &[(FAIL_CLOSED, "In"), (BREAK_GLASS, "NotIn")],
    },
    GLASS,
];

/// The entries while no unanswered request is refused; each namespace belongs to exactly one.
const OPEN: [Entry; 2] = [
    Entry { name: VALIDATE, path: door::VALIDATE, failure_policy: IGNORE, labels: &[(BREAK_GLASS, "NotIn")] },
    GLASS,
];

/// The entry for namespaces in which break glass is on.
const GLASS: Entry = Entry {
    name: VALIDATE_BREAK_GLASS,
    path: door::BREAK_GLASS,
    failure_policy: IGNORE,
    labels: &[(BREAK_GLASS, "In")],
};

impl Wanted {
    /// Returns `zz-tagpin` for the object with this UID: an apply with a UID cannot create an object.
    #[must_use]
    pub fn mutating(&self, uid: Option<String>) -> MutatingWebhookConfiguration {
        let webhooks = self.ca.as_ref().filter(|_| !self.withdrawn).map(|ca| {
            vec![MutatingWebhook {
                name: PIN.to_owned(),
                admission_review_versions: vec!["v1".to_owned()],
                client_config: self.client(ca, door::MUTATE),
                failure_policy: Some(IGNORE.to_owned()),
                match_conditions: Some(match_conditions(&self.kinds)),
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(self.namespaces(&[(BREAK_GLASS, "NotIn")])),
                object_selector: Some(LabelSelector::default()),
                reinvocation_policy: Some("IfNeeded".to_owned()),
                rules: Some(pod_rules()),
                side_effects: "None".to_owned(),
                timeout_seconds: Some(5),
            }]
        });
        MutatingWebhookConfiguration { metadata: self.metadata(release::MUTATING, uid), webhooks }
    }

    /// Returns `tagpin` for the object with this UID.
    #[must_use]
    pub fn validating(&self, uid: Option<String>) -> ValidatingWebhookConfiguration {
        let webhooks = self.ca.as_ref().map(|ca| {
            let entries: &[Entry] = match (self.withdrawn, self.fails_closed) {
                (true, _) => &[],
                (false, true) => &CLOSED,
                (false, false) => &OPEN,
            };
            let mut webhooks: Vec<_> = entries.iter().map(|entry| self.validate(ca, entry)).collect();
            webhooks.push(self.canary(ca));
            webhooks
        });
        ValidatingWebhookConfiguration { metadata: self.metadata(release::NAME, uid), webhooks }
    }

    /// Returns true if pods are sent to be pinned.
    pub(crate) const fn pins(&self) -> bool {
        self.ca.is_some() && !self.withdrawn
    }

    /// Returns true if unanswered requests are refused.
    pub(crate) const fn closes(&self) -> bool {
        self.fails_closed && self.pins()
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
                &Entry { name: CANARY, path: door::VALIDATE, failure_policy: IGNORE, labels: &[] },
            )
        }
    }

    /// Returns true if the mutating configuration is as it should be, apart from entries of others.
    #[must_use]
    pub(crate) fn matches_mutating(&self, live: &MutatingWebhookConfiguration) -> bool {
        let wanted = self.mutating(None);
        self.owns(&live.metadata) && same(&live.webhooks, &wanted.webhooks)
    }

    /// Returns true if the validating configuration is as it should be, apart from entries of others.
    #[must_use]
    pub fn matches_validating(&self, live: &ValidatingWebhookConfiguration) -> bool {
        let wanted = self.validating(None);
        self.owns(&live.metadata) && same(&live.webhooks, &wanted.webhooks)
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
                path: Some(self.door.map_or_else(|| path.to_owned(), |token| token.path(path))),
                port: Some(443),
            }),
            url: None,
        }
    }

    /// Returns a selector of the namespaces that are not excluded and meet these conditions on their labels.
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

/// Returns true if the configuration has the entry for canaries.
#[must_use]
pub(crate) fn has_canary(live: &ValidatingWebhookConfiguration) -> bool {
    live.webhooks.iter().flatten().any(|webhook| webhook.name == CANARY)
}

/// Returns true if the configuration has the entry for canaries and no other entry of tagpin.
#[must_use]
pub(crate) fn has_only_canary(live: &ValidatingWebhookConfiguration) -> bool {
    let mut ours = live.webhooks.iter().flatten().filter(|webhook| webhook.name.ends_with(OURS));
    ours.next().is_some_and(|webhook| webhook.name == CANARY) && ours.next().is_none()
}

/// Returns true if an entry of tagpin refuses unanswered requests.
#[must_use]
pub(crate) fn fails_closed(live: &ValidatingWebhookConfiguration) -> bool {
    live.entries().iter().any(|entry| entry.is_closed())
}

/// Returns true if tagpin's live entries are the wanted ones, apart from additions of others.
fn same<W: Webhook>(live: &Option<Vec<W>>, wanted: &Option<Vec<W>>) -> bool {
    let wanted = wanted.as_deref().unwrap_or_default();
    let ours: Vec<&W> = live.iter().flatten().filter(|webhook| webhook.name().ends_with(OURS)).collect();
    let is_there = |wanted: &W| ours.iter().any(|live| contains(*live, wanted));
    ours.len() == wanted.len() && wanted.iter().all(is_there)
}

/// Returns the number of additions of others to tagpin's entries.
pub(crate) fn additions(
    mutating: Option<&MutatingWebhookConfiguration>,
    validating: Option<&ValidatingWebhookConfiguration>,
) -> usize {
    let mutating = mutating.into_iter().flat_map(|live| live.webhooks.iter().flatten());
    let mutating = mutating.filter(|webhook| webhook.name.ends_with(OURS)).map(|webhook| {
        let (namespaces, objects) = (&webhook.namespace_selector, &webhook.object_selector);
        added(namespaces.as_ref(), objects.as_ref(), webhook.match_conditions.as_ref()).len()
    });
    let validating = validating.into_iter().flat_map(|live| live.webhooks.iter().flatten());
    let validating = validating.filter(|webhook| webhook.name.ends_with(OURS)).map(|webhook| {
        let (namespaces, objects) = (&webhook.namespace_selector, &webhook.object_selector);
        added(namespaces.as_ref(), objects.as_ref(), webhook.match_conditions.as_ref()).len()
    });
    mutating.chain(validating).sum()
}
