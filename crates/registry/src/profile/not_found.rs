//! The meaning of a registry's 404: whether it proves that something does not exist, or may hide what is private.

use crate::profile::cloud_host::{AcrHost, EcrHost, is_google};
use crate::profile::host::normal;
use tagpin_domain::image::DOCKER_HUB;

/// The meaning of a 404 of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotFound {
    /// The 404 proves that the tag or the repository does not exist, whoever asks.
    Proof,
    /// The 404 proves it to an asker whose credential the registry accepted, and to others as [`Self::IfShown`] does.
    ProofToCredential,
    /// The 404 proves that the tag does not exist only if the registry shows the repository to the asker.
    #[default]
    IfShown,
    /// The 404 proves nothing, because the endpoint caches another registry and may fetch the tag later.
    Never,
}

/// Registries that answer with 401 or 403 for what the asker may not see, and those where everything is public.
const TELLING: [&str; 5] = [DOCKER_HUB, "quay.io", "ghcr.io", "mcr.microsoft.com", "registry.k8s.io"];
/// Cache of Docker Hub at a host of Google.
const CACHE_OF_HUB: &str = "mirror.gcr.io";

impl NotFound {
    /// Returns the meaning of a 404 of the registry with this domain itself, which says nothing about its mirrors.
    #[must_use]
    pub(crate) fn of(domain: &str) -> Self {
        let host = normal(domain);
        match EcrHost::parse(&host) {
            Some(EcrHost::Public) => return Self::Proof,
            Some(EcrHost::Private { .. }) => return Self::ProofToCredential,
            None => {}
        }
        if TELLING.contains(&&*host) {
            Self::Proof
        } else if host != CACHE_OF_HUB && (is_google(&host) || AcrHost::parse(&host).is_some()) {
            Self::ProofToCredential
        } else {
            Self::IfShown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_that_tell_the_two_apart_are_believed_by_their_names() {
        for (meaning, domains) in [
            (
                NotFound::Proof,
                &[
                    "docker.io",
                    "quay.io",
                    "GHCR.io:443",
                    "mcr.microsoft.com",
                    "registry.k8s.io",
                    "public.ecr.aws",
                    "ecr-public.aws.com",
                ][..],
            ),
            (
                NotFound::ProofToCredential,
                &[
                    "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                    "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
                    "europe-docker.pkg.dev",
                    "gcr.io",
                    "eu.gcr.io",
                    "acme.azurecr.io",
                ],
            ),
            (
                NotFound::IfShown,
                &[
                    "registry.example.com",
                    "registry.gitlab.com",
                    "mirror.gcr.io",
                    "sub.quay.io",
                    "quay.io.example.com",
                    "quay.io:5000",
                    "acme.azurecr.io.example.com",
                    "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
                    "public.ecr.aws:8443",
                ],
            ),
        ] {
            for domain in domains {
                assert_eq!(NotFound::of(domain), meaning, "{domain}");
            }
        }
    }
}
