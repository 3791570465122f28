//! The reason why a glob matches nothing, as advice for its author.

use super::Texts;

/// The reason why a glob matches nothing. Displayed as advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// `https://…`.
    #[error("write the name without a scheme")]
    Scheme,
    /// `GHCR.io/**`.
    #[error("names are in lower case")]
    UpperCase,
    /// `ghcr.io:443/**`.
    #[error("leave out the port 443, which is the default")]
    DefaultPort,
    /// `ghcr.io//web`, `ghcr.io/`.
    #[error("no part of a name is empty")]
    EmptyPart,
    /// `registry-1.docker.io/**`.
    #[error("every name of Docker Hub begins with docker.io/")]
    HubAlias,
    /// `docker.io/nginx`.
    #[error("Docker Hub's official images are docker.io/library/NAME")]
    HubLibrary,
    /// `ecr-public.aws.com/**`.
    #[error("every name of Amazon's public registry begins with public.ecr.aws/")]
    PublicEcrAlias,
    /// `nginx`.
    #[error("write the full name with its registry: docker.io/library/nginx")]
    NoHost,
    /// Anything else about a name.
    #[error("write a name without tag and digest, such as ghcr.io/acme/**")]
    Name,
    /// Anything about a tag.
    #[error("a tag has letters, digits, dots, dashes and underscores, and begins with no dot or dash")]
    Tag,
}

impl Reason {
    /// Returns the first reason that the text of a glob shows, if it matches none of these texts.
    pub(super) fn of(texts: Texts, glob: &str) -> Self {
        let starts = |host: &str| glob.strip_prefix(host).is_some_and(|rest| rest.starts_with('/'));
        let literal = || glob.split(['[', '{']).next().unwrap_or_default();
        match texts {
            Texts::Tags => Self::Tag,
            Texts::Names if glob.contains("://") => Self::Scheme,
            Texts::Names if literal().bytes().any(|byte| byte.is_ascii_uppercase()) => Self::UpperCase,
            Texts::Names if glob.contains(":443/") => Self::DefaultPort,
            Texts::Names if glob.contains("//") || glob.starts_with('/') || glob.ends_with('/') => {
                Self::EmptyPart
            }
            Texts::Names
                if ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"]
                    .into_iter()
                    .any(starts) =>
            {
                Self::HubAlias
            }
            Texts::Names if starts("docker.io") => Self::HubLibrary,
            Texts::Names if starts("ecr-public.aws.com") => Self::PublicEcrAlias,
            Texts::Names if !glob.contains('/') => Self::NoHost,
            Texts::Names => Self::Name,
        }
    }
}
