//! From what a watch reports to what a store holds.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::Cluster;
use crate::follow::Sink;
use crate::image_policy::PolicyObject;
use crate::object::{Object, OldRevision};
use crate::policies::Reported;
use crate::store::Store;
use tagpin_domain::policy::{Labels, PolicyId, PolicyKind};
use tagpin_domain::slot::Kind;
use tagpin_objects::image_policy::PolicySpec;
use tagpin_objects::item::{Identity, Unreadable};
use tagpin_objects::slim::{Slim, SlimNamespace, SlimServiceAccount, Unparsed};

pub(crate) struct PolicySink<K> {
    cluster: Arc<Cluster>,
    object: PhantomData<fn() -> K>,
}

impl<K: PolicyObject> PolicySink<K> {
    pub(crate) const fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, object: PhantomData }
    }

    const STORE: Store = match K::Spec::KIND {
        PolicyKind::ClusterImagePolicy => Store::ClusterImagePolicies,
        PolicyKind::ImagePolicy => Store::ImagePolicies,
    };
}

impl<K: PolicyObject> Sink for PolicySink<K> {
    type Object = Unparsed<K>;
    type Item = Reported;

    fn parse(&self, object: Unparsed<K>) -> Option<Reported> {
        object.metadata.uid.as_ref()?;
        Some(Reported::parse::<K>(&object.metadata, object.spec, object.status))
    }

    fn apply(&self, item: Reported) {
        self.cluster.policies.apply(item);
    }

    fn delete(&self, gone: &Identity) {
        self.cluster.policies.delete(&id(gone), &gone.uid);
    }

    fn replace(&self, items: Vec<Reported>, unreadable: &[Unreadable]) {
        let unreadable = unreadable.iter().map(|object| id(&object.identity)).collect();
        self.cluster.policies.replace_readable(K::Spec::KIND, items, &unreadable);
        self.cluster.synced.fill(Self::STORE);
    }

    /// The last good generation stays in force, as where a newer one does not compile: nobody turns a policy off by
    /// making it unreadable.
    fn lose(&self, _: &Identity) {}

    fn failed(&self) {
        self.cluster.watches.restarted(Self::STORE.name());
    }

    fn unknown(&self) {
        self.cluster.policies.replace(K::Spec::KIND, Vec::new());
        self.cluster.synced.unknown(Self::STORE);
    }
}

fn id(object: &Identity) -> PolicyId {
    PolicyId { namespace: object.namespace.clone(), name: object.name.clone() }
}

pub(crate) struct NamespaceSink(pub(crate) Arc<Cluster>);

impl Sink for NamespaceSink {
    type Object = SlimNamespace;
    type Item = (String, Labels);

    fn parse(&self, object: SlimNamespace) -> Option<(String, Labels)> {
        Some((object.metadata.name?, object.metadata.labels.unwrap_or_default()))
    }

    fn apply(&self, (name, labels): (String, Labels)) {
        self.0.namespaces.apply(name, labels);
    }

    fn delete(&self, gone: &Identity) {
        self.0.namespaces.delete(&gone.name);
    }

    fn replace(&self, items: Vec<(String, Labels)>, _: &[Unreadable]) {
        self.0.namespaces.replace(items);
        self.0.synced.fill(Store::Namespaces);
    }

    fn failed(&self) {
        self.0.watches.restarted(Store::Namespaces.name());
    }
}

pub(crate) struct AccountSink(pub(crate) Arc<Cluster>);

impl Sink for AccountSink {
    type Object = SlimServiceAccount;
    type Item = (String, String, Vec<String>);

    fn parse(&self, object: SlimServiceAccount) -> Option<(String, String, Vec<String>)> {
        let secrets = object.image_pull_secrets.into_iter().map(|secret| secret.name);
        let secrets = secrets.filter(|name| !name.is_empty()).collect();
        Some((object.metadata.namespace?, object.metadata.name?, secrets))
    }

    fn apply(&self, (namespace, name, secrets): (String, String, Vec<String>)) {
        self.0.accounts.apply(namespace, name, secrets);
    }

    fn delete(&self, gone: &Identity) {
        self.0.accounts.delete(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
    }

    fn replace(&self, items: Vec<(String, String, Vec<String>)>, _: &[Unreadable]) {
        self.0.accounts.replace(items);
        self.0.synced.fill(Store::ServiceAccounts);
    }

    fn failed(&self) {
        self.0.watches.restarted(Store::ServiceAccounts.name());
    }
}

/// Workloads and pods.
pub(crate) struct ObjectSink {
    cluster: Arc<Cluster>,
    kind: Kind,
}

impl ObjectSink {
    pub(crate) const fn new(cluster: Arc<Cluster>, kind: Kind) -> Self {
        Self { cluster, kind }
    }
}

impl Sink for ObjectSink {
    type Object = Slim;
    type Item = Object;

    fn parse(&self, object: Slim) -> Option<Object> {
        Object::new(self.kind, &object)
    }

    fn apply(&self, item: Object) {
        match self.kind {
            Kind::Pod => self.cluster.pods.apply(item),
            _ => self.cluster.workloads.apply(item),
        }
    }

    fn delete(&self, gone: &Identity) {
        match self.kind {
            Kind::Pod => self.cluster.pods.delete(&gone.uid),
            kind => self.cluster.workloads.delete(kind, &gone.uid),
        }
    }

    fn replace(&self, items: Vec<Object>, _: &[Unreadable]) {
        match self.kind {
            Kind::Pod => self.cluster.pods.replace(items),
            kind => self.cluster.workloads.replace(kind, items),
        }
        self.cluster.synced.fill(Store::Objects(self.kind));
    }

    fn failed(&self) {
        self.cluster.watches.restarted(Store::Objects(self.kind).name());
    }
}

pub(crate) struct RevisionSink(pub(crate) Arc<Cluster>);

impl Sink for RevisionSink {
    type Object = Slim;
    type Item = OldRevision;

    fn parse(&self, object: Slim) -> Option<OldRevision> {
        OldRevision::new(&object)
    }

    fn apply(&self, item: OldRevision) {
        self.0.workloads.apply_revision(item);
    }

    fn delete(&self, gone: &Identity) {
        self.0.workloads.delete_revision(&gone.uid);
    }

    fn replace(&self, items: Vec<OldRevision>, _: &[Unreadable]) {
        self.0.workloads.replace_revisions(items);
        self.0.synced.fill(Store::ControllerRevisions);
    }

    fn failed(&self) {
        self.0.watches.restarted(Store::ControllerRevisions.name());
    }
}
