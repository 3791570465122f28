//! The Secret with the webhook's certificate, as every replica watches it. It makes no certificate; the leader does.

use std::convert::Infallible;
use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretSlice};
use tokio::sync::watch;
use tracing::{Instrument, info_span};

use crate::follow::{Seen, follow_one};
use crate::unreadable::{Unreadables, Watched};
use tagpin_objects::release;

/// The keys of its data.
const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What the Secret holds, in PEM. A part that is missing is empty.
#[derive(Clone)]
pub struct Pems {
    /// The authorities that clients trust, the newest first.
    pub ca: Vec<u8>,
    /// The key of the newest authority.
    pub ca_key: SecretSlice<u8>,
    /// What the webhook shows.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: SecretSlice<u8>,
}

impl Pems {
    /// What this Secret holds.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let part = |key: &str| {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            data.map(|data| data.0.clone()).unwrap_or_default()
        };
        Self {
            ca: part(CA),
            ca_key: part(CA_KEY).into(),
            certificate: part(CERTIFICATE),
            key: part(KEY).into(),
        }
    }

    /// The data of the Secret.
    pub fn data(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        [
            (CA, self.ca.as_slice()),
            (CA_KEY, self.ca_key.expose_secret()),
            (CERTIFICATE, &self.certificate),
            (KEY, self.key.expose_secret()),
        ]
        .into_iter()
        .map(|(name, pem)| (name.to_owned(), pem.to_vec()))
    }
}

impl fmt::Debug for Pems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pems")
    }
}

/// Follows the Secret for ever; `seen` always has the newest.
pub async fn watch(
    client: Client,
    namespace: &str,
    seen: watch::Sender<Seen<Secret>>,
    unreadable: &Unreadables,
) -> Infallible {
    follow_one(
        Api::namespaced(client, namespace),
        release::CERTIFICATE,
        seen,
        unreadable,
        Watched::Certificate,
    )
    .instrument(info_span!("watch", store = "certificate"))
    .await
}
