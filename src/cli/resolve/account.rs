//! `--as NAMESPACE/NAME`: a service account of the cluster asks, with the pull secrets that it names.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use crate::cli::Failure;
use crate::cluster::client;
use crate::domain::asker::Asker;
use crate::registry::current::Current;
use crate::registry::pull_secrets::{PullSecrets, Readable};
use crate::registry::tally::{AnsweredBy, Skipped, Tally};

/// A service account, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    namespace: String,
    name: String,
}

/// Why a text names no service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the namespace and the name of a service account, as shop/default")]
pub(super) struct NoAccount;

/// Why pull secrets were not used.
#[derive(Default)]
pub(super) struct Passed(Mutex<Vec<Skipped>>);

impl Account {
    /// Who asks, and whose secrets count: what a pod of this account that names no secret itself would have.
    pub(super) async fn find(
        &self,
        registries: Arc<Current>,
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
        let asker = Asker { namespace: namespace.clone(), pull_secrets };
        Ok((asker, PullSecrets::new(client, registries, Readable::Everybodys, passed)))
    }
}

impl FromStr for Account {
    type Err = NoAccount;

    fn from_str(text: &str) -> Result<Self, NoAccount> {
        let plain = |text: &str| {
            let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            !text.is_empty() && text.len() <= 253 && text.bytes().all(byte)
        };
        match text.split_once('/') {
            Some((namespace, name)) if plain(namespace) && plain(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(NoAccount),
        }
    }
}

impl Passed {
    /// The reasons, each once for each secret.
    pub(super) fn reasons(&self) -> Vec<Skipped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tally for Passed {
    fn answered(&self, _by: AnsweredBy) {}

    fn breaker_opened(&self) {}

    fn secret_skipped(&self, why: Skipped) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    }

    fn cloud_asked(&self, _cloud: &'static str, _gave: bool) {}
}
