//! The sentences about a violation: the problem, and what to do about it. `denial` names violations; `message` lays the
//! sentences out.

use crate::denial::{Code, Violation, shown};
use crate::digest::Digest;
use crate::fact::Unavailable;
use crate::hint::Hint;
use crate::image::{ImageRef, ReferenceErrorKind};
use crate::requirement::{REFERENCE_LIMIT, SLOT_LIMIT};

/// Maximum number of characters of a name in a sentence (Kubernetes names have at most 253).
const NAME_LIMIT: usize = 253;
/// Maximum number of characters of a host or repository in a sentence.
const HOST_LIMIT: usize = 255;

/// The sentences about one violation. They contain nothing that a registry wrote, and each is built only when
/// it is read.
#[derive(Debug)]
pub struct Wording<'a> {
    violation: &'a Violation,
    image: Option<&'a ImageRef>,
    hint: Option<Hint>,
}

impl<'a> Wording<'a> {
    /// Prepares the sentences about a violation of this reference. `image` is its parsed form, if a node could pull it.
    #[must_use]
    pub fn new(violation: &'a Violation, reference: &str, image: Option<&'a ImageRef>) -> Self {
        Self { violation, image, hint: Hint::of(violation.code(), reference, image) }
    }

    /// Returns the code of the violation.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.violation.code()
    }

    /// Returns the end of the first line: `tag "latest" is forbidden`.
    #[must_use]
    pub fn problem(&self) -> String {
        let problem = self.plain_problem();
        match &self.hint {
            Some(Hint::Placeholder(part)) => format!("{problem}; \"{part}\" is a placeholder"),
            Some(Hint::Template | Hint::Host(_)) | None => problem,
        }
    }

    /// Returns the remedy: what to do next, or whom to ask.
    #[must_use]
    pub fn remedy(&self) -> String {
        match &self.hint {
            Some(Hint::Placeholder(part)) => format!("replace \"{part}\" with the real name"),
            Some(Hint::Template) => {
                "fill in the part in <...>, ${...}, $(...) or {{...}}: Kubernetes replaces nothing in an image"
                    .to_owned()
            }
            Some(Hint::Host(host)) => format!("did you mean {host}? if not, {}", self.plain_remedy()),
            None => self.plain_remedy(),
        }
    }

    /// Returns the problem without a hint.
    fn plain_problem(&self) -> String {
        let (host, repository) = (self.host(), self.repository());
        match self.violation {
            Violation::ReferenceInvalid(kind) => kind.to_string(),
            Violation::TooManyImages => format!(
                "the object names more than {REFERENCE_LIMIT} different images, or more than {SLOT_LIMIT} images in \
                 all, and this one is beyond the limit"
            ),
            Violation::TagForbidden if self.omits_tag() => {
                format!("an omitted tag means \"{}\", which is forbidden", self.tag())
            }
            Violation::TagForbidden => format!("tag \"{}\" is forbidden", self.tag()),
            Violation::TagNotExplicit => "no tag is written".to_owned(),
            Violation::TagNotFound => format!("tag \"{}\" does not exist in {repository}", self.tag()),
            Violation::TagExpired => {
                format!("tag \"{}\" no longer exists in {repository}: it expired or was deleted", self.tag())
            }
            Violation::TagOnlyOnNodes => {
                format!("tag \"{}\" does not exist in {repository}; a node has the image", self.tag())
            }
            Violation::RepositoryOnlyOnNodes => format!("{repository} does not exist; a node has the image"),
            Violation::DigestNotFound => format!("digest {} does not exist in {repository}", self.digest()),
            Violation::ImageArchived { restoring: false } => {
                format!("tag \"{}\" of {repository} is in the archive of the registry", self.tag())
            }
            Violation::ImageArchived { restoring: true } => {
                format!("tag \"{}\" of {repository} is being restored from the archive", self.tag())
            }
            Violation::RepositoryNotFound => format!("{repository} does not exist"),
            Violation::RepositoryMissingOrPrivate(_) => format!("{repository} does not exist or is private"),
            Violation::AccessDenied(_) => {
                format!("{host} does not allow the credentials of this pod to read {repository}")
            }
            Violation::CredentialsRejected { secret: Some(secret) } => {
                format!("{host} rejected the credentials of pull secret \"{}\"", shown(secret, NAME_LIMIT))
            }
            Violation::CredentialsRejected { secret: None } => {
                format!("{host} rejected the credentials that are configured for it")
            }
            Violation::RateLimited => format!("the rate limit of {host} is reached"),
            Violation::RegistryUnavailable(cause) => unavailable(*cause, &host),
            Violation::RegistryForbidden(host) => {
                format!("tagpin may not reach {}", shown(&host.authority, HOST_LIMIT))
            }
            Violation::RealmNotTrusted(realm) => {
                let registry = shown(&realm.registry, HOST_LIMIT);
                let realm = shown(&realm.realm, HOST_LIMIT);
                format!("{registry} wants its credentials at {realm}, where tagpin does not send them")
            }
            Violation::RegistryAnswerInvalid => {
                format!("the content that {host} serves does not match its digest")
            }
            Violation::Schema1 => "the manifest has schema version 1, which nodes cannot run".to_owned(),
            Violation::NotAnImage => "this is not an image that a node can run".to_owned(),
            Violation::NotPinned => "pin.tagpin.dev did not pin this image to its digest".to_owned(),
            Violation::PinUndone => "a webhook that ran after pin.tagpin.dev removed the digest".to_owned(),
        }
    }

    /// Returns the remedy without a hint.
    fn plain_remedy(&self) -> String {
        let (host, repository) = (self.host(), self.repository());
        match self.violation {
            Violation::ReferenceInvalid(kind) => spelling(*kind),
            Violation::TooManyImages => {
                format!(
                    "split the object, so that each part names at most {REFERENCE_LIMIT} different images"
                )
            }
            Violation::TagForbidden => format!("write the tag of a version: {}:VERSION", self.name()),
            Violation::TagNotExplicit => format!("write a tag: {}:VERSION", self.name()),
            Violation::TagNotFound => "check the tag; if it was just pushed, apply again in 10 s".to_owned(),
            Violation::TagOnlyOnNodes | Violation::RepositoryOnlyOnNodes => {
                "push the image; if the nodes are to have it already, set imagePullPolicy: Never".to_owned()
            }
            Violation::TagExpired => {
                format!("write a tag that exists, or ask the owner of {repository} to restore this one")
            }
            Violation::DigestNotFound => {
                "check the digest; if the image was just pushed, apply again in 10 s".to_owned()
            }
            Violation::ImageArchived { restoring: false } => {
                format!("ask the owner of {repository} to restore the image")
            }
            Violation::ImageArchived { restoring: true } => {
                "wait until the image is restored, then apply again".to_owned()
            }
            Violation::RepositoryNotFound => {
                "check the name; if the image was just pushed, apply again in 10 s".to_owned()
            }
            Violation::RepositoryMissingOrPrivate(_) => format!(
                "check the name; if the repository is private, add a pull secret for {host} to the pod or its service \
                 account (imagePullSecrets)"
            ),
            Violation::AccessDenied(_) => {
                format!("ask the owner of {repository} to give read access to the user of the pull secret")
            }
            Violation::CredentialsRejected { secret: Some(secret) } => format!(
                "renew the pull secret \"{}\" for {host}; nodes send it for public images too",
                shown(secret, NAME_LIMIT)
            ),
            Violation::CredentialsRejected { secret: None } => format!(
                "ask the cluster admin to renew the credentials of the entry for {host} in `registries:`"
            ),
            Violation::RateLimited => format!(
                "wait, or add a pull secret for {host} to the pod: each user has a rate limit of their own"
            ),
            Violation::RegistryUnavailable(cause) => availability(*cause, &host),
            Violation::RegistryForbidden(host) => format!(
                "ask the cluster admin to add registries: [{{ match: \"{}\", allowPrivate: true }}] to the values of \
                 tagpin",
                shown(&host.authority, HOST_LIMIT)
            ),
            Violation::RealmNotTrusted(realm) => format!(
                "ask the cluster admin to add registries: [{{ match: \"{}\", trustedRealms: [\"{}\"] }}] to the values \
                 of tagpin",
                shown(&realm.registry, HOST_LIMIT),
                shown(&realm.realm, HOST_LIMIT)
            ),
            Violation::RegistryAnswerInvalid => {
                format!("push the image again; if that does not help, ask the administrator of {host}")
            }
            Violation::Schema1 => "build and push the image again with a current tool".to_owned(),
            Violation::NotAnImage => {
                "check the name: charts, signatures and other artifacts are not container images".to_owned()
            }
            Violation::NotPinned => {
                "apply the pod again; if that does not help, ask the cluster admin to check that \
                                     pin.tagpin.dev answers"
                    .to_owned()
            }
            Violation::PinUndone => {
                "ask the cluster admin which webhook rewrites images: the name of its configuration \
                                     must sort before zz-tagpin"
                    .to_owned()
            }
        }
    }

    /// Returns the author's spelling of the name, without tag and digest.
    fn name(&self) -> String {
        self.image.map_or_else(|| "NAME".to_owned(), |image| shown(image.written_name(), HOST_LIMIT))
    }

    fn tag(&self) -> &str {
        self.image.and_then(ImageRef::effective_tag).unwrap_or_default()
    }

    fn digest(&self) -> &str {
        self.image.and_then(ImageRef::digest).map(Digest::as_str).unwrap_or_default()
    }

    fn omits_tag(&self) -> bool {
        self.image.is_none_or(|image| image.tag().is_none())
    }

    fn repository(&self) -> String {
        let shown = |image: &ImageRef| shown(image.repository(), HOST_LIMIT);
        self.image.map_or_else(|| "the repository".to_owned(), shown)
    }

    fn host(&self) -> String {
        self.image.map_or_else(|| "the registry".to_owned(), |image| shown(image.domain(), HOST_LIMIT))
    }
}

/// Returns the remedy for a reference that no node could pull.
fn spelling(kind: ReferenceErrorKind) -> String {
    match kind {
        ReferenceErrorKind::Scheme(scheme) => format!("leave out {scheme}"),
        ReferenceErrorKind::UpperCase => "write the repository name in lower case".to_owned(),
        _ => "write REPOSITORY:TAG or HOST/REPOSITORY:TAG, for example nginx:1.29.3".to_owned(),
    }
}

/// Returns the problem of a registry that gave no usable answer.
fn unavailable(cause: Unavailable, host: &str) -> String {
    match cause {
        Unavailable::Timeout => format!("{host} did not answer in time"),
        Unavailable::Dns => format!("cannot reach {host}: the host name does not resolve"),
        Unavailable::Connect => format!("cannot reach {host}: the connection failed or was closed"),
        Unavailable::Tls => {
            format!("cannot reach {host}: the certificate is not trusted, or the server does not speak TLS")
        }
        Unavailable::Status(status) => format!("{host} answered with status {status}"),
        Unavailable::Unreadable => format!("the answer of {host} is not a valid registry response"),
        Unavailable::BreakerOpen => format!("{host} failed a moment ago and is not asked again yet"),
        Unavailable::NotByDigest => format!("{host} lists the tag, but does not serve its digest"),
        Unavailable::NoCredential => format!("the cloud gave tagpin no credential for {host}"),
        Unavailable::PullSecret => format!("a pull secret for {host} could not be read in time"),
        Unavailable::NotInCache => format!("{host} is a cache of another registry and does not have the tag"),
        Unavailable::NoTagList => format!("{host} does not list tags"),
        Unavailable::Busy => format!("tagpin is busy and did not ask {host}"),
        Unavailable::Proxy => format!("cannot reach {host} through the proxy"),
    }
}

/// Returns the remedy for a registry that gave no usable answer.
fn availability(cause: Unavailable, host: &str) -> String {
    match cause {
        Unavailable::Dns => {
            format!("check the spelling of {host}, and that the name resolves on the nodes")
        }
        Unavailable::Tls => format!(
            "ask the cluster admin to add registries: [{{ match: \"{host}\", tls: {{ caFile: PATH }} }}] to the values \
             of tagpin"
        ),
        Unavailable::Unreadable => format!("check that {host} is a registry"),
        Unavailable::NotByDigest => {
            format!(
                "if {host} is a cache of another registry, pull the tag through it once, then apply again"
            )
        }
        Unavailable::NoCredential => {
            "ask the cluster admin to search the log of tagpin for \"no credential of the cloud\"".to_owned()
        }
        Unavailable::PullSecret => {
            "apply again; if that does not help, ask the cluster admin to check that the API server answers"
                .to_owned()
        }
        Unavailable::NotInCache => format!(
            "check that the registry that {host} caches has the tag, and that {host} has the right to fetch it"
        ),
        Unavailable::NoTagList => "to ask for one tag, run tagpin resolve".to_owned(),
        Unavailable::Busy => "apply again".to_owned(),
        Unavailable::Proxy => {
            format!(
                "ask the cluster admin to check that the proxy runs and that it connects tagpin to {host}"
            )
        }
        Unavailable::Status(400..=499) => format!("check the name: {host} does not accept it"),
        Unavailable::Timeout | Unavailable::Connect | Unavailable::Status(_) | Unavailable::BreakerOpen => {
            format!("check that {host} runs and that the nodes can reach it")
        }
    }
}
