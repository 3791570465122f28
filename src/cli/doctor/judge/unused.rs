//! The credentials that are configured for registries and are not used.

use std::collections::BTreeSet;

use crate::cli::doctor::judge::row::Row;
use tagpin_domain::image::DOCKER_HUB;
use tagpin_domain::remedy::{Entry, Holder, Setting, change};
use tagpin_registry::{LastAsked, UnusedCredential};

const CHECK: &str = "registries";

/// Returns a row for each credential that is configured for the registry and was not used, with the entry or the
/// command that makes it be used. `entry` is the `match` of the entry that covers the registry.
pub(super) fn unused<'a>(
    registry: &str,
    entry: Option<&str>,
    asked: impl Iterator<Item = &'a LastAsked>,
) -> Vec<Row> {
    let unused: BTreeSet<&UnusedCredential> = asked.flat_map(|last| &last.unused).collect();
    unused.into_iter().map(|unused| row(registry, entry, unused)).collect()
}

fn row(registry: &str, entry: Option<&str>, unused: &UnusedCredential) -> Row {
    let UnusedCredential { host, reason, about } = unused;
    let (detail, remedy) = match reason.as_str() {
        "region" => (
            format!("no credential for the region {about}, which is not in aws.regions"),
            format!(
                "add {about} to credentials.aws.regions of the entry match: \"{registry}\" in the values of tagpin"
            ),
        ),
        "realm" => {
            let trusted = Entry::new(host, entry, Setting::TrustedRealm(about));
            (
                format!("the credential is not sent to the token service at {about}"),
                format!("if {about} belongs to {host}, {}", change(&[trusted], Holder::Values)),
            )
        }
        "helper" => (
            format!("the pull secret {about} names a credential helper, and has no password"),
            recreate(host, about),
        ),
        "right" => (
            format!(
                "the identity in the cloud has no right {about}: an image in the archive counts as missing"
            ),
            format!("allow {about} to the role of tagpin, as docs/registries.md says"),
        ),
        // A replica of another version has other reasons.
        _ => return Row::note(CHECK, format!("{host}: a credential is not used: {reason} {about}"), None),
    };
    Row::note(CHECK, format!("{host}: {detail}"), Some(remedy))
}

/// Returns the command that writes a user and a password into a pull secret, given by namespace and name.
fn recreate(host: &str, secret: &str) -> String {
    let (namespace, name) = secret.split_once('/').unwrap_or(("default", secret));
    let server = if host == DOCKER_HUB { "https://index.docker.io/v1/" } else { host };
    format!(
        "kubectl -n {namespace} create secret docker-registry {name} --docker-server={server} --docker-username=USER \
         --docker-password=PASSWORD --dry-run=client -o yaml | kubectl apply -f -"
    )
}
