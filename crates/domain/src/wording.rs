//! The sentences about a violation: the problem, and what to do about it. `denial` names violations; `message` lays the
//! sentences out; `remedy` writes the entries of `registries`.

use crate::denial::{Code, Violation, shown};
use crate::digest::Digest;
use crate::hint::Hint;
use crate::image::{ImageRef, ReferenceErrorKind};
use crate::remedy::{Entry, HOST_LIMIT, Holder, Setting, change};
use crate::requirement::{REFERENCE_LIMIT, SLOT_LIMIT};

mod hidden;
mod unreached;

/// The problem of an image whose pin was undone.
pub const UNDONE: &str = "a webhook that ran after pin.tagpin.dev removed the digest";

/// The problem of an image whose pin does not fit into the pod.
pub const FULL: &str = "the pod's annotations leave no room for the pin (Kubernetes allows 256 KiB in all)";

/// Maximum number of characters of a name in a sentence (Kubernetes names have at most 253).
const NAME_LIMIT: usize = 253;
/// The advice for an image that exists only on a node.
const LOCAL_BUILD: &str =
    "if the image was built on the node, give it a tag of its own and write imagePullPolicy: Never";

/// The reference that a violation is about, and what is known about its registry.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The reference as the author wrote it.
    pub reference: &'a str,
    /// The parsed form of the reference, if a node could pull it.
    pub image: Option<&'a ImageRef>,
    /// The `match` of the entry of `registries` that covers the registry.
    pub entry: Option<&'a str>,
    /// True if the registry shows the repository to the asker, false if it shows nothing of it; none if that is not
    /// known.
    pub shown: Option<bool>,
    /// The name of the container, unless the reference is of an init container, an ephemeral container or a volume.
    pub container: Option<&'a str>,
}

/// The sentences about one violation. They contain nothing that a registry wrote, and each is built only when
/// it is read.
#[derive(Debug)]
pub struct Wording<'a> {
    violation: &'a Violation,
    image: Option<&'a ImageRef>,
    entry: Option<&'a str>,
    hint: Option<Hint>,
}

impl<'a> Wording<'a> {
    /// Prepares the sentences about a violation of this reference.
    #[must_use]
    pub fn new(violation: &'a Violation, about: &About<'a>) -> Self {
        Self { violation, image: about.image, entry: about.entry, hint: Hint::of(violation, about) }
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
            Some(Hint::Template | Hint::Host(_) | Hint::LocalBuild | Hint::Debug(_)) | None => problem,
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
            Some(Hint::LocalBuild) => format!("{}; {LOCAL_BUILD}", self.plain_remedy()),
            Some(Hint::Debug(debug)) => {
                let name = self.image.map(ImageRef::written_name).unwrap_or_default();
                format!("name a version: {}", debug.command(&format!("{name}:VERSION")))
            }
            None => self.plain_remedy(),
        }
    }

    /// Returns the part of the remedy that the text of the reference shows, in few words; none if it shows nothing.
    pub(crate) fn advice(&self) -> Option<String> {
        match self.hint.as_ref()? {
            Hint::Host(host) => Some(format!("did you mean {host}?")),
            Hint::Placeholder(_) | Hint::Template | Hint::Debug(_) => Some(self.remedy()),
            Hint::LocalBuild => Some(LOCAL_BUILD.to_owned()),
        }
    }

    /// Returns the text to type for a reference that is suggested: the reference, or the command that takes it.
    pub(crate) fn typed(&self, reference: &str) -> String {
        match &self.hint {
            Some(Hint::Debug(debug)) => debug.command(reference),
            _ => reference.to_owned(),
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
                format!(
                    "{} of {repository} is in the archive of Amazon ECR and cannot be pulled",
                    self.part()
                )
            }
            Violation::ImageArchived { restoring: true } => {
                format!("{} of {repository} is being restored from the archive of Amazon ECR", self.part())
            }
            Violation::RepositoryNotFound => format!("{repository} does not exist"),
            Violation::RepositoryMissingOrPrivate(hidden) => hidden::missing_or_private(hidden, &repository),
            Violation::AccessDenied(hidden) => hidden::access_denied(hidden, &host, &repository),
            Violation::CredentialsRejected { secret: Some(secret) } => {
                format!("{host} rejected the credentials of pull secret \"{}\"", shown(secret, NAME_LIMIT))
            }
            Violation::CredentialsRejected { secret: None } => {
                format!("{host} rejected the credentials that are configured for it")
            }
            Violation::RateLimited => format!("the rate limit of {host} is reached"),
            Violation::RegistryUnavailable(cause) => unreached::unavailable(*cause, &host),
            Violation::RegistryForbidden(host) => unreached::forbidden(host),
            Violation::RealmNotTrusted(realm) => unreached::not_trusted(realm),
            Violation::RegistryAnswerInvalid => {
                format!("the content that {host} serves does not match its digest")
            }
            Violation::Schema1 => "the manifest has schema version 1, which nodes cannot run".to_owned(),
            Violation::NotAnImage => "this is not an image that a node can run".to_owned(),
            Violation::NotPinned => "pin.tagpin.dev did not pin this image to its digest".to_owned(),
            Violation::AnnotationsFull { .. } => FULL.to_owned(),
            Violation::PinUndone => UNDONE.to_owned(),
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
            Violation::ImageArchived { restoring: false } => match self.restoring_command() {
                Some(command) => format!("restore the image: {command}"),
                None => format!("ask the owner of {repository} to restore the image"),
            },
            Violation::ImageArchived { restoring: true } => {
                "wait until the image is restored, then apply again".to_owned()
            }
            Violation::RepositoryNotFound => {
                "check the name; if the image was just pushed, apply again in 10 s".to_owned()
            }
            Violation::RepositoryMissingOrPrivate(hidden) => {
                hidden::show(hidden, self.registry(), &repository)
            }
            Violation::AccessDenied(hidden) => hidden::allow(hidden, &repository),
            Violation::CredentialsRejected { secret: Some(secret) } => format!(
                "renew the pull secret \"{}\" for {host}; nodes send it for public images too",
                shown(secret, NAME_LIMIT)
            ),
            Violation::CredentialsRejected { secret: None } => match self.entry {
                Some(entry) => format!(
                    "ask the cluster admin to renew the credentials of the entry match: \"{}\" in the values of tagpin",
                    shown(entry, HOST_LIMIT)
                ),
                None => format!("ask the cluster admin to renew the credentials for {host}"),
            },
            Violation::RateLimited => format!(
                "wait, or add a pull secret for {host} to the pod, because each user has a rate limit of their own; \
                 for all pods, {}",
                self.registry().ask_for(Setting::Secret)
            ),
            Violation::RegistryUnavailable(cause) => unreached::availability(*cause, self.registry()),
            Violation::RegistryForbidden(host) => unreached::allow(host),
            Violation::RealmNotTrusted(realm) => unreached::trust(realm),
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
            Violation::AnnotationsFull { excess } => {
                let bytes = if *excess == 1 { "byte" } else { "bytes" };
                format!("shorten the annotations of the pod, or of its template, by {excess} {bytes} or more")
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
        self.registry().host()
    }

    const fn registry(&self) -> Registry<'a> {
        Registry { image: self.image, entry: self.entry }
    }

    /// Returns `tag "1.4"`, or the digest of a reference without a tag.
    fn part(&self) -> String {
        if self.tag().is_empty() {
            format!("digest {}", self.digest())
        } else {
            format!("tag \"{}\"", self.tag())
        }
    }

    /// Returns the command that restores the image from the archive of Amazon ECR; none if the registry is reached
    /// under a name that does not tell the account. The grammar of references leaves nothing for a shell to read.
    fn restoring_command(&self) -> Option<String> {
        let image = self.image?;
        let (account, region) = image.ecr_account()?;
        let id = match image.effective_tag() {
            Some(tag) => format!("imageTag={tag}"),
            None => format!("imageDigest={}", image.digest()?),
        };
        Some(format!(
            "aws ecr update-image-storage-class --registry-id {account} --region {region} --repository-name {} \
             --image-id {id} --target-storage-class STANDARD",
            image.path()
        ))
    }
}

/// The registry of a reference, and the entry that covers it.
#[derive(Debug, Clone, Copy)]
struct Registry<'a> {
    image: Option<&'a ImageRef>,
    entry: Option<&'a str>,
}

impl Registry<'_> {
    /// Returns the host, for a sentence.
    fn host(&self) -> String {
        self.image.map_or_else(|| "the registry".to_owned(), |image| shown(image.domain(), HOST_LIMIT))
    }

    /// Returns `ask the cluster admin to add …`, for this setting of the registry.
    fn ask_for(&self, setting: Setting<'_>) -> String {
        ask_for(&[self.with(setting)])
    }

    /// Returns the setting of the registry.
    fn with<'b>(&'b self, setting: Setting<'b>) -> Entry<'b> {
        Entry::new(self.image.map_or("HOST", ImageRef::domain), self.entry, setting)
    }
}

/// Returns `ask the cluster admin to add …`, for these settings.
fn ask_for(entries: &[Entry<'_>]) -> String {
    format!("ask the cluster admin to {}", change(entries, Holder::Values))
}

/// Returns the remedy for a reference that no node could pull.
fn spelling(kind: ReferenceErrorKind) -> String {
    match kind {
        ReferenceErrorKind::Scheme(scheme) => format!("leave out {scheme}"),
        ReferenceErrorKind::UpperCase => "write the repository name in lower case".to_owned(),
        _ => "write REPOSITORY:TAG or HOST/REPOSITORY:TAG, for example nginx:1.29.3".to_owned(),
    }
}

#[cfg(test)]
mod tests;
