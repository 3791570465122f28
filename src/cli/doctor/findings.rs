//! The answers of the cluster about an installation, as plain values. Each part can be missing for a reason of its own.

use jiff::Timestamp;

use serde_json::Value;
use tagpin_domain::policy::PolicyId;
use tagpin_kube::policies::InForce;
use tagpin_kube::unreadable::Row;
use tagpin_objects::image_policy::{Refused, Unpinned};
use tagpin_registry::LastAsked;

/// An answer, or the reason why there is none.
pub(crate) type Answer<T> = Result<T, String>;

/// All answers that are judged.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Time of the questions, by the clock of this machine.
    pub(crate) now: Timestamp,
    /// The namespace that tagpin is installed in.
    pub(crate) namespace: String,
    /// The custom resource definitions that tagpin needs.
    pub(crate) crds: Answer<Vec<Crd>>,
    /// The entries of tagpin in the configuration `zz-tagpin`; none if that does not exist.
    pub(crate) mutating: Answer<Option<Vec<Entry>>>,
    /// The entries of tagpin in the configuration `tagpin`; none if that does not exist.
    pub(crate) validating: Answer<Option<Vec<Entry>>>,
    /// The certificate in the Secret; none if the Secret does not exist.
    pub(crate) certificate: Answer<Option<Certificate>>,
    /// The holder of the Lease; none if the Lease does not exist.
    pub(crate) lease: Answer<Option<Holder>>,
    /// Rights of the chart that the service account does not have.
    pub(crate) denied: Answer<Vec<String>>,
    /// The Deployment; none if it does not exist.
    pub(crate) deployment: Answer<Option<Deployment>>,
    /// The pods of the Deployment.
    pub(crate) replicas: Answer<Vec<Replica>>,
    /// The configuration of registries that is stored in the cluster; none if the Deployment names none.
    pub(crate) configuration: Answer<Option<Configuration>>,
    /// All policies.
    pub(crate) policies: Answer<Vec<Policy>>,
    /// The policy `baseline`, and what the values say about it.
    pub(crate) baseline: Answer<Baseline>,
    /// The namespaces that carry a label of tagpin.
    pub(crate) labelled: Answer<Labelled>,
    /// Images without a digest in pods that name a pull secret.
    pub(crate) behind_secrets: Answer<Vec<BehindSecrets>>,
}

/// One custom resource definition.
#[derive(Debug)]
pub(crate) struct Crd {
    pub(crate) name: String,
    pub(crate) established: bool,
}

/// One entry of tagpin in a webhook configuration.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// True if requests are refused while no replica answers.
    pub(crate) fails: bool,
    /// The authorities that the API server trusts, in PEM.
    pub(crate) ca: Vec<u8>,
    /// Parts of its selectors and conditions that somebody else added.
    pub(crate) added: Vec<String>,
    /// The namespace of the Service that is called.
    pub(crate) namespace: Option<String>,
}

/// The content of the Secret with the certificate, without its keys.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The authorities, in PEM.
    pub(crate) ca: Vec<u8>,
    /// Validity of the webhook's certificate; none if it cannot be read.
    pub(crate) leaf: Option<Validity>,
    /// Validity of the newest authority; none if it cannot be read.
    pub(crate) authority: Option<Validity>,
}

/// The time in which a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// The holder of the Lease.
#[derive(Debug)]
pub(crate) struct Holder {
    /// The pod's name and a random suffix; empty after the Lease was released.
    pub(crate) identity: String,
    pub(crate) renewed: Option<Timestamp>,
}

/// The Deployment of tagpin.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// Number of replicas that the Deployment asks for.
    pub(crate) wanted: i32,
    /// True if tagpin reads no pull secrets.
    pub(crate) pull_secrets_off: bool,
}

/// The result of checking the configuration of registries.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// Warnings, or the mistake with its place.
    pub(crate) checked: Result<Vec<String>, String>,
    /// The `match` of each entry, if the configuration is valid.
    pub(crate) entries: Vec<String>,
    /// Folders of the pod whose files cannot be read from outside.
    pub(crate) unseen: Vec<String>,
}

/// One pod of the Deployment.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) answers: Answer<Answers>,
}

/// The answers of one replica.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The reason why the replica is not ready; none if it is ready.
    pub(crate) waits: Option<String>,
    pub(crate) policies: Vec<InForce>,
    pub(crate) registries: Vec<LastAsked>,
    /// Stored objects that the replica cannot read.
    pub(crate) unreadable: Vec<Row>,
    pub(crate) counters: Counters,
}

/// Counters of one replica since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Number of reviews that the replica answered.
    pub(crate) reviews: u64,
    /// Number of slots left unpinned because a custom resource controls the pod.
    pub(crate) foreign_owner: u64,
    /// True if the newest configuration of registries is invalid, so that an earlier one is in force.
    pub(crate) earlier_configuration: bool,
    /// Number of findings by code.
    pub(crate) codes: Vec<(String, u64)>,
}

/// One policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The generation that the status describes.
    pub(crate) observed: Option<i64>,
    pub(crate) ready: Option<Ready>,
    /// The parts of the policy that have no effect, in words.
    pub(crate) notes: Vec<String>,
    /// Number of images that the policy wants pinned and that carry no digest.
    pub(crate) unpinned: u32,
    /// Some of these images, and images of custom resources.
    pub(crate) without_digest: Vec<Unpinned>,
    /// The requests that the policy refused most often.
    pub(crate) refused: Vec<Refused>,
}

/// The condition `Ready` of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) holds: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The policy `baseline`, and what the values say about it.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    /// The spec that the values give; none if they switch the baseline off.
    pub(crate) wanted: Option<Value>,
    /// The policy in the cluster; none if it does not exist.
    pub(crate) held: Option<HeldBaseline>,
}

/// The policy `baseline` in the cluster.
#[derive(Debug)]
pub(crate) struct HeldBaseline {
    /// True if it carries the label of tagpin.
    pub(crate) ours: bool,
    pub(crate) spec: Value,
}

/// The namespaces that carry a label of tagpin.
#[derive(Debug, Default)]
pub(crate) struct Labelled {
    pub(crate) fail_closed: Vec<String>,
    pub(crate) break_glass: Vec<String>,
    /// Labels of tagpin with a value that has no effect.
    pub(crate) idle: Vec<IdleLabel>,
}

/// A label of tagpin on a namespace, with a value that has no effect.
#[derive(Debug)]
pub(crate) struct IdleLabel {
    pub(crate) namespace: String,
    pub(crate) label: &'static str,
    pub(crate) value: String,
}

/// Images without a digest in the pods of one namespace that name a pull secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BehindSecrets {
    pub(crate) namespace: String,
    pub(crate) images: usize,
}
