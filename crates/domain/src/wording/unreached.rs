//! The sentences about registries that gave no answer, and about hosts that tagpin may not reach or trust.

use super::{Registry, ask_for};
use crate::denial::shown;
use crate::fact::{ForbiddenHost, Position, Realm, Unavailable};
use crate::hint::is_well_known;
use crate::image::{ImageRef, without_port};
use crate::remedy::{Entry, HOST_LIMIT, Setting};

/// Maximum number of characters of a host with a repository in a sentence.
const REPOSITORY_LIMIT: usize = 2 * HOST_LIMIT;

/// Returns the problem of a registry that gave no usable answer.
pub(super) fn unavailable(cause: Unavailable, host: &str) -> String {
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
        Unavailable::ServiceAccount => {
            format!(
                "the pull secrets of the service account are not known, and {host} shows nothing without one"
            )
        }
        Unavailable::NotInCache => format!("{host} is a cache of another registry and does not have the tag"),
        Unavailable::NoTagList => format!("{host} does not list tags"),
        Unavailable::Busy => format!("tagpin is busy and did not ask {host}"),
        Unavailable::Proxy => format!("cannot reach {host} through the proxy"),
    }
}

/// Returns the remedy for a registry that gave no usable answer.
pub(super) fn availability(cause: Unavailable, registry: Registry<'_>) -> String {
    let host = registry.host();
    match cause {
        Unavailable::Dns => {
            format!("check the spelling of {host}, and that the name resolves on the nodes")
        }
        Unavailable::Tls if is_well_known(registry.image.map_or("", ImageRef::domain)) => {
            registry.ask_for(Setting::CaFile)
        }
        Unavailable::Tls => format!(
            "{}; if {host} speaks plain http, the keys are {} instead",
            registry.ask_for(Setting::CaFile),
            registry.with(Setting::PlainHttp).keys()
        ),
        Unavailable::Unreadable => format!("check that {host} is a registry"),
        Unavailable::NotByDigest => {
            format!(
                "if {host} is a cache of another registry, pull the tag through it once, then apply again"
            )
        }
        Unavailable::NoCredential => no_credential(registry),
        Unavailable::PullSecret => {
            "apply again; if that does not help, ask the cluster admin to check that the API server answers"
                .to_owned()
        }
        Unavailable::ServiceAccount => {
            "create the service account if it does not exist, and apply again; if that does not help, ask the cluster admin \
             to check that the API server answers"
                .to_owned()
        }
        Unavailable::NotInCache => format!(
            "check that the registry that {host} caches has the tag, and that {host} has the right to fetch it"
        ),
        Unavailable::NoTagList => {
            let name = registry.image.map_or("REPOSITORY", ImageRef::written_name);
            format!("ask for one tag: tagpin resolve {}:TAG", shown(name, REPOSITORY_LIMIT))
        }
        Unavailable::Busy => "apply again".to_owned(),
        Unavailable::Proxy => {
            format!(
                "ask the cluster admin to check that the proxy runs and that it connects tagpin to {host}"
            )
        }
        // A client error is about the request, not about the health of the host.
        Unavailable::Status(400..=499) => format!("check the name of the image: {host} does not accept it"),
        Unavailable::Timeout | Unavailable::Connect | Unavailable::Status(_) | Unavailable::BreakerOpen => {
            format!("check that {host} runs and that the nodes can reach it")
        }
    }
}

/// Returns the remedy for a cloud that gave no credential. An entry for many regions may not list the one of the
/// registry.
fn no_credential(registry: Registry<'_>) -> String {
    let log = "ask the cluster admin to search the log of tagpin for \"no credential\"";
    let region = registry.image.and_then(ImageRef::ecr_account).map(|(_, region)| region);
    match (registry.entry, region) {
        (Some(entry), Some(region)) => format!(
            "{log}, and, if aws.regions does not list {region}, to add {region} to credentials.aws.regions of the entry \
             match: \"{}\" in the values of tagpin",
            shown(entry, HOST_LIMIT)
        ),
        _ => log.to_owned(),
    }
}

/// Returns the problem of a host that tagpin may not reach.
pub(super) fn forbidden(host: &ForbiddenHost) -> String {
    let (authority, registry) = names(host);
    let role = match host.position {
        Position::Registry => String::new(),
        Position::Mirror => format!(", a mirror of {registry}"),
        Position::TokenService => format!(", the token service of {registry}"),
        Position::Redirect => format!(", to which {registry} redirects"),
    };
    let address = if host.never { "reserved, or one of a metadata service" } else { "private" };
    format!("tagpin may not reach {authority}{role}: the address is {address}")
}

/// Returns the remedy for a host that tagpin may not reach. The entry of a registry decides for its mirrors too; any
/// other host has an entry of its own.
pub(super) fn allow(host: &ForbiddenHost) -> String {
    let (authority, registry) = names(host);
    if host.never {
        let fix = match host.position {
            Position::Registry => format!("check the spelling of {registry}"),
            Position::Mirror => format!("ask the cluster admin to correct the mirror {authority}"),
            Position::TokenService | Position::Redirect => {
                format!("ask the administrator of {registry} to correct its answer")
            }
        };
        return format!("{fix}: no value of tagpin allows that address");
    }
    let of_registry = |setting| Entry::new(&host.registry, host.entry.as_deref(), setting);
    if matches!(host.position, Position::Registry | Position::Mirror) {
        return ask_for(&[of_registry(Setting::AllowPrivate)]);
    }
    let own = Entry::new(&host.authority, host.own_entry.as_deref(), Setting::AllowPrivate);
    if host.untrusted {
        return ask_for(&[of_registry(Setting::TrustedRealm(without_port(&host.authority))), own]);
    }
    ask_for(&[own])
}

/// Returns the host and the registry, for a sentence.
fn names(host: &ForbiddenHost) -> (String, String) {
    (shown(&host.authority, HOST_LIMIT), shown(&host.registry, HOST_LIMIT))
}

/// Returns the problem of a token service that may not see the credentials.
pub(super) fn not_trusted(realm: &Realm) -> String {
    let registry = shown(&realm.registry, HOST_LIMIT);
    let realm = shown(&realm.realm, HOST_LIMIT);
    format!("{registry} wants the credentials of this pod at {realm}, to which tagpin does not send them")
}

/// Returns the remedy for a token service that may not see the credentials.
pub(super) fn trust(realm: &Realm) -> String {
    let setting = Setting::TrustedRealm(&realm.realm);
    ask_for(&[Entry::new(&realm.registry, realm.entry.as_deref(), setting)])
}
