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

use crate::k8s::match_conditions::{all_rules, match_conditions, pod_rules};

/// The mutating configuration: they run in the order of their names, and injectors come first.
pub const MUTATING: &str = "zz-tagpin";
/// The validating configuration.
pub const VALIDATING: &str = "tagpin";

/// The entry that pins.
const PIN: &str = "pin.tagpin.dev";
/// The entry that judges.
const VALIDATE: &str = "validate.tagpin.dev";
/// Entries are ours by their names, those of other versions too.
const OURS: &str = ".tagpin.dev";

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
}

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
                match_conditions: Some(match_conditions()),
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(self.namespaces()),
                object_selector: Some(LabelSelector::default()),
                reinvocation_policy: Some("IfNeeded".to_owned()),
                rules: Some(pod_rules()),
                side_effects: "None".to_owned(),
                timeout_seconds: Some(5),
            }]
        });
        MutatingWebhookConfiguration { metadata: self.metadata(MUTATING, uid), webhooks }
    }

    /// `tagpin`, for the object with this UID.
    #[must_use]
    pub fn validating(&self, uid: Option<String>) -> ValidatingWebhookConfiguration {
        let webhooks = self.ca.as_ref().map(|ca| {
            vec![ValidatingWebhook {
                name: VALIDATE.to_owned(),
                admission_review_versions: vec!["v1".to_owned()],
                client_config: self.client(ca, "/validate"),
                failure_policy: Some("Ignore".to_owned()),
                match_conditions: Some(match_conditions()),
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(self.namespaces()),
                object_selector: Some(LabelSelector::default()),
                rules: Some(all_rules()),
                side_effects: "None".to_owned(),
                timeout_seconds: Some(10),
            }]
        });
        ValidatingWebhookConfiguration { metadata: self.metadata(VALIDATING, uid), webhooks }
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
                name: "tagpin".to_owned(),
                namespace: self.namespace.clone(),
                path: Some(path.to_owned()),
                port: Some(443),
            }),
            url: None,
        }
    }

    fn namespaces(&self) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: NAMESPACE_NAME.to_owned(),
                operator: "NotIn".to_owned(),
                values: Some(self.excluded.iter().cloned().collect()),
            }]),
            match_labels: None,
        }
    }
}

/// Every entry that is wanted is there as it should be, and no other one of ours.
fn same<W: PartialEq>(live: &Option<Vec<W>>, wanted: &Option<Vec<W>>, name: impl Fn(&W) -> &String) -> bool {
    let wanted = wanted.as_deref().unwrap_or_default();
    let ours: Vec<&W> = live.iter().flatten().filter(|webhook| name(webhook).ends_with(OURS)).collect();
    ours.len() == wanted.len() && wanted.iter().all(|webhook| ours.contains(&webhook))
}
