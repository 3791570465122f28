//! The sentences about repositories that a registry does not show: the credentials that it was asked with, and who can
//! give better ones.

use super::{NAME_LIMIT, Registry};
use crate::denial::shown;
use crate::fact::{AskedWith, Cloud, Hidden, SecretProblem};
use crate::image::{DOCKER_HUB, ImageRef};
use crate::object_name::is_object_name;
use crate::remedy::{HOST_LIMIT, Setting};

/// Maximum number of pull secrets that a sentence names.
const NAMES: usize = 4;
/// Maximum number of characters of each of several names.
const SHORT: usize = 63;
/// The server under which clients keep the credentials for Docker Hub.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Returns the problem of a repository that is missing or private.
pub(super) fn missing_or_private(hidden: &Hidden, repository: &str) -> String {
    let problem = format!("{repository} does not exist or is private");
    let asked = match &hidden.with {
        AskedWith::Unknown => return problem,
        AskedWith::NoneNamed => "without credentials".to_owned(),
        AskedWith::NotReadable { named, .. } if named.is_empty() => {
            "without credentials, because tagpin may not read pull secrets here".to_owned()
        }
        AskedWith::NotReadable { named, .. } => {
            format!("without {}, which tagpin may not read", secrets(named))
        }
        AskedWith::NoneMatches(named) => {
            let have = if named.len() == 1 { "has" } else { "have" };
            format!("without credentials, because {} {have} none for it", secrets(named))
        }
        AskedWith::Unusable { secret, problem } => {
            format!("without credentials, because pull secret \"{}\" {}", name(secret), unusable(*problem))
        }
        AskedWith::Secret(secret) => format!("with pull secret \"{}\"", name(secret)),
        AskedWith::Entry(entry) => format!("with {}", of_entry(entry)),
    };
    format!("{problem}; the registry was asked {asked}")
}

/// Returns the problem of credentials that may not read a repository.
pub(super) fn access_denied(hidden: &Hidden, host: &str, repository: &str) -> String {
    let who = match &hidden.with {
        AskedWith::Secret(secret) => format!("the user of pull secret \"{}\"", name(secret)),
        AskedWith::Entry(entry) => of_entry(entry),
        _ => "the credentials of this pod".to_owned(),
    };
    format!("{host} does not allow {who} to read {repository}")
}

/// Returns the remedy for credentials that may not read a repository.
pub(super) fn allow(hidden: &Hidden, repository: &str) -> String {
    let who = match &hidden.with {
        AskedWith::Secret(secret) => format!("the user of pull secret \"{}\"", name(secret)),
        AskedWith::Entry(entry) => format!("the user in the entry match: \"{}\"", shown(entry, HOST_LIMIT)),
        _ => "the user of the pull secret".to_owned(),
    };
    format!("ask the owner of {repository} to give read access to {who}")
}

/// Returns the remedy for a repository that is missing or private.
pub(super) fn show(hidden: &Hidden, registry: Registry<'_>, repository: &str) -> String {
    let host = registry.host();
    let remedy = match (&hidden.with, hidden.cloud) {
        (AskedWith::Secret(_) | AskedWith::Entry(_), _) => allow(hidden, repository),
        (AskedWith::NotReadable { namespace, named }, _) if !named.is_empty() => {
            return format!("the image may be fine; {}", let_read(namespace));
        }
        (AskedWith::NoneMatches(named), _) => {
            let which = if named.len() == 1 { secrets(named) } else { "one of the pull secrets".to_owned() };
            format!("if the repository is private, add credentials for {host} to {which}")
        }
        (AskedWith::Unusable { secret, problem }, _) => repair(secret, *problem, registry),
        (AskedWith::Unknown | AskedWith::NoneNamed | AskedWith::NotReadable { .. }, Some(cloud)) => {
            machine(cloud, registry)
        }
        (AskedWith::NotReadable { namespace, .. }, None) => {
            format!("{}, and {}", name_secret(&host), let_read(namespace))
        }
        (AskedWith::Unknown | AskedWith::NoneNamed, None) => name_secret(&host),
    };
    format!("check the name; {remedy}")
}

fn name_secret(host: &str) -> String {
    format!(
        "if the repository is private, add a pull secret for {host} to the pod or its service account \
         (imagePullSecrets)"
    )
}

/// Returns the values that let tagpin read the pull secrets of a namespace.
fn let_read(namespace: &str) -> String {
    let namespace = name(namespace);
    format!(
        "ask the cluster admin to let tagpin read the pull secrets of the namespace {namespace}, with pullSecrets: {{ \
         mode: namespaces, namespaces: [{namespace}] }} in the values of tagpin"
    )
}

/// Returns the remedy for a registry of a cloud whose nodes need no pull secret.
fn machine(cloud: Cloud, registry: Registry<'_>) -> String {
    let region = registry.image.and_then(ImageRef::ecr_account).map(|(_, region)| region);
    let setting = registry.ask_for(Setting::Cloud(cloud, region));
    format!(
        "nodes may pull the image with the identity of their machine; for tagpin to check the image, {setting}"
    )
}

/// Returns the remedy for a pull secret that cannot be used.
fn repair(secret: &str, problem: SecretProblem, registry: Registry<'_>) -> String {
    let what = match problem {
        SecretProblem::NotFound => "create the pull secret",
        SecretProblem::WrongType | SecretProblem::Malformed => "delete the pull secret and create it again",
        SecretProblem::Forbidden => {
            return "ask the cluster admin to let tagpin read the pull secrets of the namespace, with pullSecrets in \
                    the values of tagpin"
                .to_owned();
        }
    };
    let server = match registry.image.map(ImageRef::domain) {
        Some(DOCKER_HUB) => HUB_SERVER.to_owned(),
        _ => registry.host(),
    };
    // The command is for a shell, which a name that the API server would not take may upset.
    let secret = if is_object_name(secret) { secret } else { "NAME" };
    format!(
        "{what}: kubectl create secret docker-registry {secret} --docker-server={server} --docker-username=USER \
         --docker-password=PASSWORD"
    )
}

/// Returns the end of the sentence about a pull secret.
const fn unusable(problem: SecretProblem) -> &'static str {
    match problem {
        SecretProblem::NotFound => "does not exist",
        SecretProblem::Forbidden => "may not be read by tagpin",
        SecretProblem::WrongType => "is empty or not of the type kubernetes.io/dockerconfigjson",
        SecretProblem::Malformed => "is not a docker configuration",
    }
}

/// Returns `pull secret "a"`, or `pull secrets "a", "b"` for several.
fn secrets(named: &[String]) -> String {
    if let [secret] = named {
        return format!("pull secret \"{}\"", name(secret));
    }
    let quoted = |secret: &String| format!("\"{}\"", shown(secret, SHORT));
    let mut names: Vec<String> = named.iter().take(NAMES).map(quoted).collect();
    if let Some(more) = named.len().checked_sub(NAMES).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    format!("pull secrets {}", names.join(", "))
}

fn of_entry(entry: &str) -> String {
    format!("the credentials of the entry match: \"{}\"", shown(entry, HOST_LIMIT))
}

fn name(text: &str) -> String {
    shown(text, NAME_LIMIT)
}
