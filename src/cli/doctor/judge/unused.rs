//! The credentials that are configured for registries and are not used.

use std::collections::BTreeSet;

use crate::cli::doctor::judge::row::Row;
use tagpin_domain::image::DOCKER_HUB;
use tagpin_registry::{LastAsked, UnusedCredential};

const CHECK: &str = "registries";
/// The label of registries that no entry names.
const OTHER: &str = "other";

/// Returns a row for each credential that is configured for the registry and was not used, with the entry or the
/// command that makes it be used.
pub(super) fn unused<'a>(registry: &str, asked: impl Iterator<Item = &'a LastAsked>) -> Vec<Row> {
    let unused: BTreeSet<&UnusedCredential> = asked.flat_map(|last| &last.unused).collect();
    unused.into_iter().map(|unused| row(registry, unused)).collect()
}

fn row(registry: &str, unused: &UnusedCredential) -> Row {
    let UnusedCredential { host, reason, about } = unused;
    let (detail, remedy) = match reason.as_str() {
        "region" => (
            format!("no credential for the region {about}, which is not in aws.regions"),
            format!("add {about} to aws.regions of the entry match: \"{registry}\" in the values of tagpin"),
        ),
        "realm" => {
            let pattern = if registry == OTHER { host } else { registry };
            (
                format!("the credential is not sent to the token service at {about}"),
                format!("if {about} belongs to {host}, {}", trust(pattern, about)),
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

/// Returns what to do so that a token service may see the credentials for a registry.
fn trust(pattern: &str, realm: &str) -> String {
    format!(
        "add registries: [{{ match: \"{pattern}\", trustedRealms: [\"{realm}\"] }}] to the values of tagpin"
    )
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
