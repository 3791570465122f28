//! The Secret with the webhook's certificate, which every replica watches. The leader makes the certificate.

use std::convert::Infallible;
use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use secrecy::{ExposeSecret, SecretSlice};
use tokio::sync::watch;

use crate::follow::Observed;
use crate::secret;
use crate::unreadable::{Unreadables, Watched};
use tagpin_objects::release;

/// Key of the CA certificates in the Secret.
const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The content of the Secret, in PEM. A part that is missing is empty.
#[derive(Clone)]
pub struct Pems {
    /// Certificates of the authorities that clients trust, the newest first.
    pub ca: Vec<u8>,
    /// Private key of the newest authority.
    pub ca_key: SecretSlice<u8>,
    /// The webhook's certificate.
    pub certificate: Vec<u8>,
    /// Private key of the webhook's certificate.
    pub key: SecretSlice<u8>,
}

impl Pems {
    /// Returns the content of this Secret.
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

    /// Returns the data for the Secret, by key.
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

/// Follows the Secret for ever; `seen` holds the version that was last reported.
pub async fn watch(
    client: Client,
    namespace: &str,
    seen: watch::Sender<Observed<Secret>>,
    unreadable: &Unreadables,
) -> Infallible {
    secret::follow(client, namespace, release::CERTIFICATE, seen, unreadable, Watched::Certificate).await
}
