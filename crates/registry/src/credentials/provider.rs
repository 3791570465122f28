//! The trait of everything that finds credentials for an asker.

use std::borrow::Cow;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::credential::Candidate;
use crate::profile::endpoint::RegistryProfile;
use tagpin_domain::asker::Asker;
use tagpin_domain::image::ImageRef;

/// Finds the credentials that an asker holds for an image.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Returns the credentials to try, in order. The list is never empty: it is anonymous if nothing matches. Secrets
    /// are read until the deadline; a secret that cannot be read is skipped, as the kubelet does.
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Vec<Candidate>;

    /// Returns the same list if no secret has to be read for it. The profile is that of the image's registry, from
    /// the configuration that the credentials come from.
    fn at_hand(
        &self,
        asker: &Asker,
        image: &ImageRef,
        profile: &RegistryProfile,
    ) -> Option<Cow<'static, [Candidate]>>;
}
