//! One valid entry of `registries`.

use std::sync::Arc;

use crate::credentials::cloud::Access;
use crate::credentials::keyring::labels_match;
use crate::credentials::operator::SecretRef;
use crate::profile::endpoint::{Confirm, Endpoint, ResolveFrom};
use crate::profile::host::split;
use crate::profile::tls::Tls;

/// One valid entry of `registries`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pattern: Pattern,
    pub(super) allow_private: bool,
    pub(super) tls: Option<Tls>,
    pub(super) trusted_realms: Arc<[String]>,
    pub(super) confirm: Confirm,
    pub(super) pull_through: Arc<[String]>,
    /// True if a 404 of the registry, or of a mirror from the file of the nodes, is a proof.
    pub(super) not_found_is_proof: bool,
    pub(super) offline: bool,
    pub(super) credentials: Option<EntryCredential>,
    pub(super) resolve_from: ResolveFrom,
    pub(super) mirrors: Vec<Mirror>,
}

/// The credential of an entry.
#[derive(Debug)]
pub(super) enum EntryCredential {
    Secret(SecretRef),
    Cloud(Access),
}

/// A mirror of an entry.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) endpoint: Endpoint,
    /// True if the mirror may see the pull secrets of the asker.
    pub(super) shows_pull_secrets: bool,
}

/// The hosts of an entry: labels with `*`, and a port as text.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The pattern as typed, which names the entry in messages and metrics.
    pub(super) typed: Arc<str>,
    pub(super) host: String,
    pub(super) port: Option<String>,
}

impl Pattern {
    /// Returns true if the entry is for this host. A literal IPv6 address, whose brackets are no label, has to be the
    /// same text.
    pub(super) fn covers(&self, domain: &str) -> bool {
        let (host, port) = split(domain);
        self.port.as_deref() == port && (self.host == host || labels_match(&self.host, host))
    }

    pub(super) fn has_star(&self) -> bool {
        self.host.contains('*')
    }

    /// Returns the host of a pattern without wildcards.
    pub(super) fn domain(&self) -> String {
        match &self.port {
            None => self.host.clone(),
            Some(port) => format!("{}:{port}", self.host),
        }
    }
}
