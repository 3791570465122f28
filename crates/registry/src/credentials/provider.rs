//! The trait of everything that finds credentials for an asker.

use std::borrow::Cow;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::credential::Candidate;
use crate::profile::endpoint::RegistryProfile;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::AskedWith;
use tagpin_domain::image::ImageRef;

/// The credentials of an asker for an image.
#[derive(Debug, Clone)]
pub struct Held {
    /// The credentials to try, in order. The list is never empty: it is anonymous if nothing matches.
    pub candidates: Cow<'static, [Candidate]>,
    /// The same credentials in the words of the asker, for a registry that shows nothing with them.
    pub with: AskedWith,
}

/// Finds the credentials that an asker holds for an image.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Returns the credentials. Secrets are read until the deadline; a secret that cannot be read is skipped, as the
    /// kubelet does.
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Held;

    /// Returns the same credentials if no secret has to be read for it. The profile is that of the image's registry, from
    /// the configuration that the credentials come from.
    fn at_hand(&self, asker: &Asker, image: &ImageRef, profile: &RegistryProfile) -> Option<Held>;
}

/// Holds these credentials, with nothing known about them.
impl<C: Into<Cow<'static, [Candidate]>>> From<C> for Held {
    fn from(candidates: C) -> Self {
        Self { candidates: candidates.into(), with: AskedWith::Unknown }
    }
}
