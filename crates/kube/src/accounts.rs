//! The names of the pull secrets of each service account, with which its pods ask registries. The content of
//! a Secret is never read here.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use crate::budget::{Budget, Charge};
use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::reader::{Reader, held_or_read};
use crate::slim::{Named, SlimServiceAccount};
use parking_lot::RwLock;
use tagpin_domain::workload::Known;
use tokio::time::Instant;

mod reads;

use reads::Reads;

/// Name of the service account of a pod that names none.
const DEFAULT: &str = "default";
/// Maximum number of pull secrets of one account that are used, as of one pod.
const SECRET_LIMIT: usize = 64;
/// Maximum length of the name of a Secret.
const NAME_LIMIT: usize = 253;
/// Number of bytes that an entry takes beside its name.
const ENTRY: usize = 64;
/// Maximum number of accounts of one namespace that are kept as accounts without pull secrets. Further ones are unknown.
const WITHOUT_LIMIT: usize = 4096;

/// Names of pull secrets, by namespace and service account. An account that no watch has reported is unknown.
#[derive(Debug, Default)]
pub struct Accounts {
    held: RwLock<Held>,
    reads: Reads,
    budget: Budget,
    changes: Changes,
}

/// The accounts that were reported.
#[derive(Debug, Default)]
struct Held {
    namespaces: HashMap<String, Namespace>,
    hasher: RandomState,
}

/// The accounts of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    /// The accounts with pull secrets, by name.
    with: HashMap<String, PullSecrets>,
    /// Keyed hashes of the names of the accounts without pull secrets: nearly all accounts.
    without: HashSet<u64>,
}

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

    fn put(&self, account: Account) {
        if self.held.write().put(account) {
            self.changes.announce();
        }
    }

    /// Removes a service account that was deleted. It is unknown from then on.
    pub fn delete(&self, namespace: &str, name: &str) {
        if self.held.write().remove(namespace, name) {
            self.changes.announce();
        }
    }

    /// Returns the names of the account's pull secrets, in the account's order; none if no watch has reported the account.
    /// An empty name means the account `default`.
    #[must_use]
    pub fn pull_secrets(&self, namespace: &str, service_account: &str) -> Option<Vec<String>> {
        self.held.read().get(namespace, or_default(service_account))
    }

    /// Waits for an account that no watch has reported yet, and then reads it. An object that is created together with its
    /// account must not be judged as if it had no pull secrets.
    pub(crate) async fn held_or_read(
        &self,
        namespace: &str,
        service_account: &str,
        reader: &dyn Reader,
        deadline: Instant,
    ) -> Known<Vec<String>> {
        let name = or_default(service_account);
        let held = || {
            let reported = self.pull_secrets(namespace, name).map(Known::Yes);
            reported.or_else(|| self.reads.recent(namespace, name))
        };
        let read = async {
            let read = reader.pull_secrets(namespace, name, deadline);
            Some(self.reads.join(namespace, name, deadline, read).await)
        };
        held_or_read(&mut self.changes.watch(), deadline, held, read).await.unwrap_or(Known::Unknown)
    }
}

impl Held {
    fn get(&self, namespace: &str, name: &str) -> Option<Vec<String>> {
        let namespace = self.namespaces.get(namespace)?;
        if let Some(secrets) = namespace.with.get(name) {
            return Some(secrets.names.clone());
        }
        namespace.without.contains(&self.hasher.hash_one(name)).then(Vec::new)
    }

    /// Returns true if this was not known before.
    fn put(&mut self, Account { namespace, name, secrets }: Account) -> bool {
        let hash = self.hasher.hash_one(name.as_str());
        let namespace = self.namespaces.entry(namespace).or_default();
        if secrets.names.is_empty() {
            let had_secrets = namespace.with.remove(&name).is_some();
            let has_room = namespace.without.len() < WITHOUT_LIMIT;
            return (has_room && namespace.without.insert(hash)) || had_secrets;
        }
        namespace.without.remove(&hash);
        namespace.with.insert(name, secrets);
        true
    }

    /// Returns true if the account was known.
    fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(accounts) = self.namespaces.get_mut(namespace) else { return false };
        let had_secrets = accounts.with.remove(name).is_some();
        let had_none = accounts.without.remove(&self.hasher.hash_one(name));
        if accounts.with.is_empty() && accounts.without.is_empty() {
            self.namespaces.remove(namespace);
        }
        had_secrets || had_none
    }
}

fn or_default(service_account: &str) -> &str {
    if service_account.is_empty() { DEFAULT } else { service_account }
}

/// Returns the names of the pull secrets of an account that may be used.
pub(crate) fn usable(secrets: Vec<Named>) -> Vec<String> {
    let usable = |name: &String| (1..=NAME_LIMIT).contains(&name.len());
    secrets.into_iter().map(|secret| secret.name).filter(usable).take(SECRET_LIMIT).collect()
}

impl Sink<SlimServiceAccount> for Accounts {
    type Item = Account;

    fn parse(&self, object: SlimServiceAccount) -> Result<Option<Account>, Box<Unreadable>> {
        let metadata = &object.metadata;
        let Some((namespace, name)) = metadata.namespace.clone().zip(metadata.name.clone()) else {
            return Ok(None);
        };
        let names = usable(object.image_pull_secrets);
        if names.is_empty() {
            return Ok(Some(Account {
                namespace,
                name,
                secrets: PullSecrets { names, charge: Charge::default() },
            }));
        }
        let bytes = names.iter().map(|name| ENTRY + name.len()).sum::<usize>() + namespace.len() + name.len();
        let charge = {
            let held = self.held.read();
            let before = held.namespaces.get(&namespace).and_then(|accounts| accounts.with.get(&name));
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
        let mut new = Held::default();
        for account in items {
            new.put(account);
        }
        *self.held.write() = new;
        self.changes.announce();
    }

    fn lose(&self, object: &Identity) {
        Sink::delete(self, object);
    }
}
