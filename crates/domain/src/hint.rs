//! Guesses about a reference that failed: a placeholder that nobody replaced, a template that was not filled in, a
//! well-known host that was mistyped, an image that was built on a node. A reference that works is never guessed about: a
//! user may be called `username`.

use crate::denial::{Violation, shown};
use crate::fact::Unavailable;
use crate::image::{DOCKER_HUB, ImageRef};
use crate::wording::About;

/// Maximum number of characters of a placeholder in a sentence.
const SHOWN: usize = 63;
/// Maximum number of typing errors between a host and the well-known one that was meant.
const DISTANCE: usize = 2;

/// Names that manuals write for the reader to replace, without `-`, `_` and `.`.
const PLACEHOLDERS: [&str; 36] = [
    "accountid",
    "changeme",
    "dockerhubid",
    "dockerhubuser",
    "dockerhubusername",
    "dockerid",
    "dockeruser",
    "dockerusername",
    "imagename",
    "myusername",
    "orgname",
    "placeholder",
    "projectid",
    "reponame",
    "username",
    "youraccount",
    "yourapp",
    "yourcompany",
    "yourdockerhubid",
    "yourdockerhubuser",
    "yourdockerhubusername",
    "yourdockerid",
    "yourdockeruser",
    "yourdockerusername",
    "yourimage",
    "yourname",
    "yournamespace",
    "yourorg",
    "yourorganisation",
    "yourorganization",
    "yourproject",
    "yourregistry",
    "yourrepo",
    "yourrepository",
    "youruser",
    "yourusername",
];

/// Hosts of well-known registries.
const HOSTS: [&str; 21] = [
    "docker.io",
    "ghcr.io",
    "gcr.io",
    "us.gcr.io",
    "eu.gcr.io",
    "asia.gcr.io",
    "quay.io",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "registry.k8s.io",
    "registry.gitlab.com",
    "registry.access.redhat.com",
    "registry.redhat.io",
    "registry.opensuse.org",
    "registry.suse.com",
    "container-registry.oracle.com",
    "docker.elastic.co",
    "nvcr.io",
    "lscr.io",
    "icr.io",
    "cgr.dev",
];

/// Hosts of web pages, and the registries that belong to them.
const PAGES: [(&str, &str); 3] =
    [("hub.docker.com", "docker.io"), ("github.com", "ghcr.io"), ("gitlab.com", "registry.gitlab.com")];

/// A guess at the mistake in a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hint {
    /// This part of the reference is a placeholder that nobody replaced.
    Placeholder(String),
    /// A template or a variable was not filled in.
    Template,
    /// This well-known registry was probably meant.
    Host(&'static str),
    /// The image was probably built on a node and pushed nowhere.
    LocalBuild,
    /// `kubectl debug` took the name of the image for the container that it adds.
    Debug(DebugOf),
}

/// The object of a `kubectl debug` that makes a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DebugOf {
    /// `kubectl debug node/NODE`.
    Node,
    /// `kubectl debug POD --copy-to=NAME`.
    Copy,
}

impl DebugOf {
    /// Returns the command that made a container of this name; none if it was not `kubectl debug`.
    fn of(container: &str) -> Option<Self> {
        const RANDOM: usize = 5;
        match container.strip_prefix("debugger") {
            Some("") => Some(Self::Node),
            Some(rest) => rest.strip_prefix('-').filter(|rest| rest.len() == RANDOM).map(|_| Self::Copy),
            None => None,
        }
    }

    /// Returns the command with another image.
    pub(super) fn command(self, image: &str) -> String {
        match self {
            Self::Node => format!("kubectl debug node/NODE -it --image={image}"),
            Self::Copy => format!("kubectl debug POD -it --copy-to=NAME --image={image}"),
        }
    }
}

impl Hint {
    /// Returns the most likely mistake in a reference that failed with this violation.
    pub(super) fn of(violation: &Violation, about: &About<'_>) -> Option<Self> {
        let Some(image) = about.image else {
            let Violation::ReferenceInvalid(_) = violation else { return None };
            let template = ["<", "${", "$(", "{{"].iter().any(|mark| about.reference.contains(mark));
            let parts = about.reference.split(['/', ':', '@']);
            return if template { Some(Self::Template) } else { placeholder(parts) };
        };
        let built_locally =
            || (about.shown != Some(true) && names_no_owner(image)).then_some(Self::LocalBuild);
        match violation {
            Violation::RepositoryNotFound | Violation::RepositoryMissingOrPrivate(_) => {
                placeholder(image.path().split('/'))
                    .or_else(|| mistyped(image.domain()))
                    .or_else(built_locally)
            }
            Violation::RegistryUnavailable(cause) => {
                host(image).or_else(|| matches!(cause, Unavailable::Dns).then(built_locally).flatten())
            }
            Violation::RegistryForbidden(_) | Violation::RealmNotTrusted(_) => host(image),
            Violation::TagForbidden | Violation::TagNotExplicit => {
                about.container.and_then(DebugOf::of).map(Self::Debug).or_else(built_locally)
            }
            _ => None,
        }
    }
}

/// Returns true for the host of a well-known registry.
pub(crate) fn is_well_known(host: &str) -> bool {
    HOSTS.contains(&host)
}

/// Returns true for a name like `webapi`: it stands for an official image of Docker Hub, but tools that build an image
/// take it too.
fn names_no_owner(image: &ImageRef) -> bool {
    image.domain() == DOCKER_HUB && !image.written_name().contains('/')
}

/// Returns the most likely mistake in the host of a reference.
fn host(image: &ImageRef) -> Option<Hint> {
    placeholder(image.domain().split(['.', ':'])).or_else(|| mistyped(image.domain()))
}

/// Returns the first part that manuals write for the reader to replace.
fn placeholder<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Hint> {
    let part = parts.find(|part| {
        let part = part.to_ascii_lowercase();
        let folded = part.replace(['-', '_', '.'], "");
        part.starts_with("your-")
            || part.starts_with("your_")
            || PLACEHOLDERS.binary_search(&folded.as_str()).is_ok()
    })?;
    Some(Hint::Placeholder(shown(part, SHOWN)))
}

/// Returns the well-known registry whose name was probably meant by this host.
fn mistyped(host: &str) -> Option<Hint> {
    if is_well_known(host) {
        return None;
    }
    let page = PAGES.iter().find(|(page, _)| *page == host).map(|(_, registry)| *registry);
    let near = || {
        // Among equally close hosts, one of the same length: letters are swapped more often than left out.
        let distances = HOSTS.iter().map(|known| {
            (strsim::damerau_levenshtein(host, known), host.len().abs_diff(known.len()), *known)
        });
        distances.filter(|(distance, ..)| *distance <= DISTANCE).min().map(|(.., known)| known)
    };
    page.or_else(near).map(Hint::Host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{AskedWith, Hidden};
    use crate::image::ReferenceErrorKind;

    const MISSING: Violation = Violation::RepositoryNotFound;
    const HIDDEN: Violation =
        Violation::RepositoryMissingOrPrivate(Hidden { with: AskedWith::Unknown, cloud: None });
    const UNREACHED: Violation = Violation::RegistryUnavailable(Unavailable::Connect);
    const INVALID: Violation = Violation::ReferenceInvalid(ReferenceErrorKind::Path);

    fn hint(violation: &Violation, reference: &str) -> Option<Hint> {
        hint_if(violation, reference, None)
    }

    fn hint_if(violation: &Violation, reference: &str, shown: Option<bool>) -> Option<Hint> {
        let image = ImageRef::parse(reference).ok();
        Hint::of(violation, &About { reference, image: image.as_ref(), entry: None, shown, container: None })
    }

    #[test]
    fn the_list_can_be_searched() {
        assert!(PLACEHOLDERS.is_sorted());
    }

    #[test]
    fn what_manuals_write_is_a_placeholder() {
        for (reference, part) in [
            ("yourusername/app", "yourusername"),
            ("your-dockerhub-username/app:1", "your-dockerhub-username"),
            ("your_docker_id/app", "your_docker_id"),
            ("ghcr.io/your-org/app:1", "your-org"),
            ("username/app", "username"),
            ("acme/your-app:1", "your-app"),
            ("docker.io/your.name/app", "your.name"),
        ] {
            for violation in [MISSING, HIDDEN] {
                assert_eq!(hint(&violation, reference), Some(Hint::Placeholder(part.into())), "{reference}");
            }
            // The repository exists, so its name is not a mistake.
            assert_eq!(hint(&Violation::TagNotFound, reference), None, "{reference}");
        }
        let host = hint(&UNREACHED, "your-registry.com:5000/app:1");
        assert_eq!(host, Some(Hint::Placeholder("your-registry".into())));
        let capitals = hint(&INVALID, "YOUR_USERNAME/app:1");
        assert_eq!(capitals, Some(Hint::Placeholder("YOUR_USERNAME".into())));
        for reference in ["yours/app", "acme/username-service:1", "docker.io/nginx", "youtube/app"] {
            assert_eq!(hint(&HIDDEN, reference), None, "{reference}");
        }
    }

    #[test]
    fn what_was_to_be_filled_in_is_a_template() {
        for reference in
            ["<your-username>/app", "ghcr.io/acme/app:${TAG}", "{{ .Values.image }}", "$(REGISTRY)/app:1"]
        {
            assert_eq!(hint(&INVALID, reference), Some(Hint::Template), "{reference}");
        }
        assert_eq!(hint(&INVALID, "nginx:1:2"), None);
    }

    #[test]
    fn a_name_without_an_owner_that_no_registry_shows_is_a_local_build() {
        let dns = Violation::RegistryUnavailable(Unavailable::Dns);
        for violation in [MISSING, HIDDEN, dns, Violation::TagForbidden, Violation::TagNotExplicit] {
            for shown in [None, Some(false)] {
                let hint = hint_if(&violation, "webapi:latest", shown);
                assert_eq!(hint, Some(Hint::LocalBuild), "{violation:?}");
            }
            assert_eq!(hint_if(&violation, "webapi:latest", Some(true)), None, "{violation:?}");
            for reference in
                ["acme/webapi:latest", "docker.io/webapi:latest", "registry.example.com/webapi:latest"]
            {
                assert_eq!(hint(&violation, reference), None, "{violation:?} {reference}");
            }
        }
        for violation in [UNREACHED, Violation::RateLimited, Violation::TagNotFound] {
            assert_eq!(hint(&violation, "webapi:latest"), None, "{violation:?}");
        }
    }

    #[test]
    fn a_container_that_kubectl_debug_names_is_one_of_its_pods() {
        let image = ImageRef::parse("busybox").unwrap();
        let hint = |container| {
            let about = About {
                reference: "busybox",
                image: Some(&image),
                entry: None,
                shown: None,
                container: Some(container),
            };
            Hint::of(&Violation::TagForbidden, &about)
        };
        assert_eq!(hint("debugger"), Some(Hint::Debug(DebugOf::Node)));
        assert_eq!(hint("debugger-x7k2p"), Some(Hint::Debug(DebugOf::Copy)));
        for other in ["web", "debugger-tool", "debuggers", "my-debugger"] {
            assert_eq!(hint(other), Some(Hint::LocalBuild), "{other}");
        }
    }

    #[test]
    fn a_host_close_to_a_well_known_one_is_a_slip_and_a_known_one_is_none() {
        for (host, known) in [
            ("gchr.io", "ghcr.io"),
            ("ghrc.io", "ghcr.io"),
            ("qauy.io", "quay.io"),
            ("quay.oi", "quay.io"),
            ("dokcer.io", "docker.io"),
            ("registry.k8.io", "registry.k8s.io"),
            ("mcr.microsft.com", "mcr.microsoft.com"),
            ("hub.docker.com", "docker.io"),
            ("github.com", "ghcr.io"),
        ] {
            let reference = format!("{host}/acme/app:1");
            assert_eq!(hint(&UNREACHED, &reference), Some(Hint::Host(known)), "{host}");
        }
        for host in
            HOSTS.iter().chain(&["registry.example.com", "localhost:5000", "10.0.0.7", "harbor.acme.io"])
        {
            assert_eq!(hint(&UNREACHED, &format!("{host}/acme/app:1")), None, "{host}");
        }
    }
}
