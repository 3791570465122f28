//! The names of the pull secrets of each service account, with which its pods ask registries. The content of
//! a Secret is never read here.

use std::collections::HashMap;

use crate::budget::{Budget, Charge};
use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::slim::SlimServiceAccount;
use parking_lot::RwLock;

/// Name of the service account of a pod that names none.
const DEFAULT: &str = "default";
/// Maximum number of pull secrets of one account that are used, as of one pod.
const SECRET_LIMIT: usize = 64;
/// Maximum length of the name of a Secret.
const NAME_LIMIT: usize = 253;
/// Number of bytes that an entry takes beside its name.
const ENTRY: usize = 64;

/// Names of pull secrets, by namespace and service account. Accounts without pull secrets are not kept.
#[derive(Debug, Default)]
pub struct Accounts {
    secrets: RwLock<ByName>,
    budget: Budget,
    changes: Changes,
}

type ByName = HashMap<String, HashMap<String, PullSecrets>>;

/// The pull secrets of one service account, and the room that they take.
#[derive(Debug)]
struct PullSecrets {
    names: Vec<String>,
    charge: Charge,
}

/// A service account with pull secrets, as its watch reports it.
#[derive(Debug)]
pub struct Account {
    namespace: String,
    name: String,
    secrets: PullSecrets,
}

impl Accounts {
    pub(crate) fn new(budget: Budget, changes: Changes) -> Self {
        Self { budget, changes, ..Self::default() }
    }

    /// Records the pull secrets of a service account that was reported.
    pub fn apply(&self, namespace: String, name: String, secrets: Vec<String>) {
        self.put(Account {
            namespace,
            name,
            secrets: PullSecrets { names: secrets, charge: Charge::default() },
        });
    }

    fn put(&self, Account { namespace, name, secrets }: Account) {
        if secrets.names.is_empty() {
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

    /// Returns the names of the account's pull secrets, in the account's order. An empty name means the
    /// account `default`.
    #[must_use]
    pub fn pull_secrets(&self, namespace: &str, service_account: &str) -> Vec<String> {
        let name = if service_account.is_empty() { DEFAULT } else { service_account };
        let held = self.secrets.read();
        held.get(namespace)
            .and_then(|accounts| accounts.get(name))
            .map(|secrets| secrets.names.clone())
            .unwrap_or_default()
    }
}

impl Sink<SlimServiceAccount> for Accounts {
    type Item = Account;

    fn parse(&self, object: SlimServiceAccount) -> Result<Option<Account>, Box<Unreadable>> {
        let metadata = &object.metadata;
        let Some((namespace, name)) = metadata.namespace.clone().zip(metadata.name.clone()) else {
            return Ok(None);
        };
        let usable = |name: &String| (1..=NAME_LIMIT).contains(&name.len());
        let names = object.image_pull_secrets.into_iter().map(|secret| secret.name).filter(usable);
        let names: Vec<_> = names.take(SECRET_LIMIT).collect();
        if names.is_empty() {
            return Ok(Some(Account {
                namespace,
                name,
                secrets: PullSecrets { names, charge: Charge::default() },
            }));
        }
        let bytes = names.iter().map(|name| ENTRY + name.len()).sum::<usize>() + namespace.len() + name.len();
        let charge = {
            let held = self.secrets.read();
            let before = held.get(&namespace).and_then(|accounts| accounts.get(&name));
            self.budget.take(&namespace, ENTRY + bytes, before.map(|before| &before.charge))
        };
        let charge = charge.map_err(|refused| Box::new(Unreadable::without_room(metadata, refused)))?;
        Ok(Some(Account { namespace, name, secrets: PullSecrets { names, charge } }))
    }

    fn apply(&self, account: Account) {
        self.put(account);
    }

    fn delete(&self, gone: &Identity) {
        self.delete(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
    }

    fn replace(&self, items: Vec<Account>, _: &[Unreadable]) {
        let mut new = ByName::default();
        for Account { namespace, name, secrets } in items {
            if !secrets.names.is_empty() {
                new.entry(namespace).or_default().insert(name, secrets);
            }
        }
        *self.secrets.write() = new;
        self.changes.announce();
    }

    fn lose(&self, object: &Identity) {
        Sink::delete(self, object);
    }
}
