//! The names of the pull secrets of each service account, with which its pods ask registries. The content of
//! a Secret is never read here.

use std::collections::HashMap;

use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::slim::SlimServiceAccount;
use parking_lot::RwLock;

/// Name of the service account of a pod that names none.
const DEFAULT: &str = "default";

/// Names of pull secrets, by namespace and service account. Accounts without pull secrets are not kept.
#[derive(Debug, Default)]
pub struct Accounts {
    secrets: RwLock<HashMap<String, HashMap<String, Vec<String>>>>,
    changes: Changes,
}

impl Accounts {
    pub(crate) fn new(changes: Changes) -> Self {
        Self { changes, ..Self::default() }
    }

    /// Records the pull secrets of a service account that was reported.
    pub fn apply(&self, namespace: String, name: String, secrets: Vec<String>) {
        if secrets.is_empty() {
            return self.delete(&namespace, &name);
        }
        self.secrets.write().entry(namespace).or_default().insert(name, secrets);
        self.changes.announce();
    }

    /// Removes a service account that was deleted.
    pub fn delete(&self, namespace: &str, name: &str) {
        let mut held = self.secrets.write();
        let Some(accounts) = held.get_mut(namespace) else { return };
        let gone = accounts.remove(name).is_some();
        if accounts.is_empty() {
            held.remove(namespace);
        }
        drop(held);
        if gone {
            self.changes.announce();
        }
    }

    /// Replaces all accounts with this list of namespaces, names and names of pull secrets.
    pub fn replace(&self, all: impl IntoIterator<Item = (String, String, Vec<String>)>) {
        let mut new: HashMap<String, HashMap<String, Vec<String>>> = HashMap::new();
        for (namespace, name, secrets) in all {
            if !secrets.is_empty() {
                new.entry(namespace).or_default().insert(name, secrets);
            }
        }
        *self.secrets.write() = new;
        self.changes.announce();
    }

    /// Returns the names of the account's pull secrets, in the account's order. An empty name means the
    /// account `default`.
    #[must_use]
    pub fn pull_secrets(&self, namespace: &str, service_account: &str) -> Vec<String> {
        let name = if service_account.is_empty() { DEFAULT } else { service_account };
        let held = self.secrets.read();
        held.get(namespace).and_then(|accounts| accounts.get(name)).cloned().unwrap_or_default()
    }
}

impl Sink<SlimServiceAccount> for Accounts {
    type Item = (String, String, Vec<String>);

    fn parse(&self, object: SlimServiceAccount) -> Result<Option<Self::Item>, Box<Unreadable>> {
        let secrets = object.image_pull_secrets.into_iter().map(|secret| secret.name);
        let secrets = secrets.filter(|name| !name.is_empty()).collect();
        let (namespace, name) = (object.metadata.namespace, object.metadata.name);
        Ok(namespace.zip(name).map(|(namespace, name)| (namespace, name, secrets)))
    }

    fn apply(&self, (namespace, name, secrets): Self::Item) {
        self.apply(namespace, name, secrets);
    }

    fn delete(&self, gone: &Identity) {
        self.delete(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
    }

    fn replace(&self, items: Vec<Self::Item>, _: &[Unreadable]) {
        self.replace(items);
    }

    fn lose(&self, object: &Identity) {
        Sink::delete(self, object);
    }
}
