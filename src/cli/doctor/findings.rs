//! What was found out about an installation, as plain values. Each part may be missing for a reason of its own.

use jiff::Timestamp;

use tagpin_domain::policy::PolicyId;
use tagpin_kube::policies::InForce;
use tagpin_kube::unreadable::Row;
use tagpin_registry::LastAsked;

/// What was asked for, or why nobody knows.
pub(crate) type Asked<T> = Result<T, String>;

/// Everything that is judged.
#[derive(Debug)]
pub(crate) struct Findings {
    /// When the questions were asked, by this machine's clock.
    pub(crate) now: Timestamp,
    /// Where tagpin is installed.
    pub(crate) namespace: String,
    /// The definitions that are established, of those that there should be.
    pub(crate) crds: Asked<Vec<Crd>>,
    /// `zz-tagpin`; none when it does not exist.
    pub(crate) mutating: Asked<Option<Vec<Entry>>>,
    /// `tagpin`.
    pub(crate) validating: Asked<Option<Vec<Entry>>>,
    /// From the Secret; none when it does not exist.
    pub(crate) certificate: Asked<Option<Certificate>>,
    /// Who holds the Lease; none when it does not exist.
    pub(crate) lease: Asked<Option<Holder>>,
    /// Rights that the service account should have and has not.
    pub(crate) denied: Asked<Vec<String>>,
    /// None when it does not exist.
    pub(crate) deployment: Asked<Option<Deployment>>,
    /// The pods of the Deployment.
    pub(crate) replicas: Asked<Vec<Replica>>,
    /// The configuration of registries as the cluster has it now; none when the Deployment names none.
    pub(crate) configuration: Asked<Option<Configuration>>,
    /// Every policy.
    pub(crate) policies: Asked<Vec<Policy>>,
    /// The namespaces with our labels.
    pub(crate) labelled: Asked<Labelled>,
    /// Images without a digest in pods that name a pull secret.
    pub(crate) behind_secrets: Asked<Vec<BehindSecrets>>,
}

/// One custom resource definition.
#[derive(Debug)]
pub(crate) struct Crd {
    pub(crate) name: String,
    pub(crate) established: bool,
}

/// One entry of a webhook configuration that is ours.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// It refuses when nobody answers.
    pub(crate) fails: bool,
    /// Who is trusted, in PEM.
    pub(crate) ca: Vec<u8>,
}

/// What the Secret with the certificate holds, but for its keys.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The authorities, in PEM.
    pub(crate) ca: Vec<u8>,
    /// What the webhook shows; none when it can not be read.
    pub(crate) leaf: Option<Validity>,
    /// The newest authority.
    pub(crate) authority: Option<Validity>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// What the Lease says.
#[derive(Debug)]
pub(crate) struct Holder {
    /// A pod's name and something random; empty when it was given back.
    pub(crate) identity: String,
    pub(crate) renewed: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Deployment {
    /// Replicas that it should have.
    pub(crate) wanted: i32,
    /// Pull secrets are not read.
    pub(crate) pull_secrets_off: bool,
}

/// What the check of the configuration of registries says.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What its author may not expect, or the mistake with its place.
    pub(crate) checked: Result<Vec<String>, String>,
    /// Folders of the pod whose files nobody can see from outside.
    pub(crate) unseen: Vec<String>,
}

/// One pod of ours.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) answers: Asked<Answers>,
}

/// What a replica says of itself.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Why it is not ready.
    pub(crate) waits: Option<String>,
    pub(crate) policies: Vec<InForce>,
    pub(crate) registries: Vec<LastAsked>,
    /// The stored objects that it cannot read.
    pub(crate) unreadable: Vec<Row>,
    pub(crate) counters: Counters,
}

/// Counters of one replica since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Reviews that it answered.
    pub(crate) reviews: u64,
    /// Slots left unpinned because a custom resource controls the pod.
    pub(crate) foreign_owner: u64,
    /// The newest configuration of registries can not be used; an earlier one is in force.
    pub(crate) earlier_configuration: bool,
    /// Findings of slots by code.
    pub(crate) codes: Vec<(String, u64)>,
}

/// One policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The generation that the status is about.
    pub(crate) observed: Option<i64>,
    pub(crate) ready: Option<Ready>,
    /// Images that it wants pinned and that carry no digest.
    pub(crate) unpinned: u32,
}

/// Its condition.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) is: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Namespaces by our labels.
#[derive(Debug, Default)]
pub(crate) struct Labelled {
    pub(crate) fail_closed: Vec<String>,
    pub(crate) break_glass: Vec<String>,
}

/// Images without a digest in the pods of one namespace that name a pull secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BehindSecrets {
    pub(crate) namespace: String,
    pub(crate) images: usize,
}
