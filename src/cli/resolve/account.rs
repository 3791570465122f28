//! `--as NAMESPACE/NAME`: asks as a service account of the cluster, with the pull secrets that it names.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use parking_lot::Mutex;

use crate::cli::asking;
use crate::cli::exit::Failure;
use crate::surroundings::Process;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Cloud;
use tagpin_domain::object_name::is_object_name;
use tagpin_kube::client;
use tagpin_registry::{Clouds, Current, Event, Observer, PullSecrets, Readable, Skipped, Transport};

/// A service account, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    namespace: String,
    name: String,
}

/// The error for a text that does not name a service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the namespace and the name of a service account, as shop/default")]
pub(super) struct NoAccount;

/// Events about credentials that may surprise a person: pull secrets that were not used, and clouds that were asked.
#[derive(Default)]
pub(super) struct Passed {
    secrets: Mutex<Vec<Skipped>>,
    /// The clouds that were asked, each with the reason why it gave no credential, if it gave none.
    clouds: Mutex<Vec<(Cloud, Option<String>)>>,
    /// The sentences about configured credentials that were not used.
    unused: Mutex<BTreeSet<String>>,
}

impl Account {
    /// Returns the asker and its credentials: those of a pod of this account that names no secret itself. A cloud is
    /// asked with the identity of this process, because only tagpin's own pod has tagpin's identity.
    pub(super) async fn find(
        &self,
        registries: Arc<Current>,
        transport: Arc<Transport>,
        passed: Arc<Passed>,
    ) -> Result<(Asker, PullSecrets), Failure> {
        let Self { namespace, name } = self;
        let client = client::connect().await.map_err(Failure::could_not_find_out)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let account = match accounts.get(name).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(Failure::wrong_use(anyhow!("there is no service account {namespace}/{name}")));
            }
            found => found.with_context(|| format!("read the service account {namespace}/{name}")),
        };
        let secrets = account.map_err(Failure::could_not_find_out)?.image_pull_secrets.unwrap_or_default();
        let pull_secrets = secrets.into_iter().map(|secret| secret.name).collect();
        let asker = Asker::new(namespace.clone(), pull_secrets);
        let clouds =
            Clouds::new(transport, Arc::new(Process), Arc::clone(&registries) as _, Arc::clone(&passed) as _);
        let secrets = PullSecrets::new(client, registries, Readable::Everybodys, passed);
        Ok((asker, secrets.with_clouds(clouds)))
    }
}

impl FromStr for Account {
    type Err = NoAccount;

    fn from_str(text: &str) -> Result<Self, NoAccount> {
        match text.split_once('/') {
            Some((namespace, name)) if is_object_name(namespace) && is_object_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(NoAccount),
        }
    }
}

impl Passed {
    /// Returns one sentence for each event.
    pub(super) fn notes(&self) -> Vec<String> {
        let secrets = self.secrets.lock();
        let clouds = self.clouds.lock();
        let secret =
            |why: &Skipped| format!("a pull secret of the service account is not used: {}", why.word());
        let asked = |(cloud, failed): &(Cloud, Option<String>)| {
            let cloud = cloud.word();
            let answer = match failed {
                None => format!("{cloud} gave you a credential"),
                Some(why) => format!("{cloud} gave you no credential: {why}"),
            };
            format!("{answer}; in the cluster, tagpin's own pod asks it")
        };
        let unused = self.unused.lock();
        secrets.iter().map(secret).chain(clouds.iter().map(asked)).chain(unused.iter().cloned()).collect()
    }
}

impl Observer for Passed {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::SecretSkipped(why) => self.secrets.lock().push(*why),
            Event::CloudAsked { cloud, error } => {
                self.clouds.lock().push((*cloud, error.map(ToString::to_string)));
            }
            Event::CredentialUnused { host, reason, about, .. } => {
                self.unused.lock().insert(asking::unused(host, *reason, about));
            }
            Event::Step { .. } | Event::Answered(_) | Event::BreakerOpened => {}
        }
    }

    fn wants_headers(&self) -> bool {
        false
    }
}
