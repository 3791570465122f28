//! The order of an asker's credentials, and the result of the search for them.

use std::sync::Arc;

use super::memory::Reading;
use crate::credential::{Candidate, Credential, Source};
use crate::credentials::keyring::{self, Keyring};
use crate::credentials::provider::{Held, Search};
use crate::observe::Skipped;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::SecretProblem;
use tagpin_domain::image::ImageRef;

/// The pull secrets of an asker.
pub(super) enum Own {
    /// They may not be read.
    NotReadable,
    /// The asker's service account is not known, so nobody knows which they are.
    Unknown,
    /// They were read, as far as possible.
    Read(Vec<Named>),
}

/// A pull secret that an asker names.
pub(super) struct Named {
    /// Index of the name in the asker's list.
    pub(super) index: usize,
    pub(super) name: String,
    /// The content; none if it did not arrive in time.
    pub(super) reading: Option<Arc<Reading>>,
}

impl Own {
    /// Returns the secrets, as far as they are known.
    fn secrets(&self) -> &[Named] {
        match self {
            Self::NotReadable | Self::Unknown => &[],
            Self::Read(secrets) => secrets,
        }
    }

    /// Returns the names of the secrets that name a credential helper for the image.
    pub(super) fn helpers(&self, image: &ImageRef) -> impl Iterator<Item = &str> {
        let named = |secret: &&Named| secret.keyring().is_ok_and(|keyring| keyring.names_helper(image));
        self.secrets().iter().filter(named).map(|secret| secret.name.as_str())
    }
}

impl Named {
    fn keyring(&self) -> Result<&Keyring, Skipped> {
        self.reading.as_ref().map_or(Err(Skipped::Unavailable), |reading| reading.keyring())
    }
}

/// Returns the asker's own credentials before the operator's, each once, and then one that could not be obtained. The
/// list is never empty.
pub(super) fn in_order(own: &Own, operators: Vec<Candidate>, asker: &Asker, image: &ImageRef) -> Held {
    let secrets = own.secrets();
    let keyrings: Vec<&Keyring> = secrets.iter().filter_map(|secret| secret.keyring().ok()).collect();
    let mut candidates = keyring::look_up(&keyrings, image);
    let (absent, obtained): (Vec<_>, Vec<_>) =
        operators.into_iter().partition(|candidate| candidate.credential.absence().is_some());
    Candidate::add_new(&mut candidates, obtained);
    let unread = secrets.iter().find(|secret| matches!(secret.keyring(), Err(Skipped::Unavailable)));
    let unread = unread.map(|secret| Candidate::not_read(Source::PullSecret(secret.name.clone())));
    let unnamed = matches!(own, Own::Unknown).then(Candidate::not_named);
    // An asker that has a credential does not wait for that of a cloud, which may be configured for others.
    let has_own = !candidates.is_empty();
    let in_vain = |absent: &Candidate| has_own && matches!(absent.credential, Credential::NotGiven);
    Candidate::add_new(
        &mut candidates,
        unread.into_iter().chain(unnamed).chain(absent.into_iter().filter(|absent| !in_vain(absent))),
    );
    if candidates.is_empty() {
        candidates.push(Candidate::anonymous());
    }
    let search = search(own, &candidates, asker);
    Held { candidates: candidates.into(), search }
}

/// Returns the result of the search that found these candidates.
fn search(own: &Own, candidates: &[Candidate], asker: &Asker) -> Search {
    if candidates.iter().any(|candidate| candidate.credential.is_secret()) {
        return Search::Found;
    }
    let secrets = match own {
        Own::NotReadable => return Search::NotReadable,
        Own::Unknown => return Search::Unknown,
        Own::Read(_) if asker.secrets.names().iter().all(String::is_empty) => return Search::NoneNamed,
        Own::Read(secrets) => secrets,
    };
    let unusable = |secret: &Named| {
        let problem = match secret.keyring().err()? {
            Skipped::NotFound => SecretProblem::NotFound,
            Skipped::Forbidden => SecretProblem::Forbidden,
            Skipped::WrongType => SecretProblem::WrongType,
            Skipped::Malformed => SecretProblem::Malformed,
            Skipped::InvalidName | Skipped::Unavailable | Skipped::TooMany | Skipped::IdentityToken => {
                return None;
            }
        };
        Some(Search::Unusable { secret: secret.index, problem })
    };
    secrets.iter().find_map(unusable).unwrap_or(Search::NoneMatches)
}
