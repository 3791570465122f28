//! The policies, and the images that pull secrets would pin.

use crate::cli::doctor::findings::{Findings, Policy};
use crate::cli::doctor::judge::row::{Row, known, logs, named, upgrade};
use tagpin_domain::policy::PolicyId;
use tagpin_objects::conditions::ReadyReason;

pub(crate) fn policies(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "policies";
    known(CHECK, &found.policies, |policies| {
        if policies.is_empty() {
            let remedy = format!("{} --set baseline.enabled=true", upgrade(found));
            return vec![Row::note(
                CHECK,
                "no policy exists, so that nothing is judged or pinned",
                Some(remedy),
            )];
        }
        let mut rows: Vec<_> = policies.iter().filter_map(|policy| wrong(found, policy)).collect();
        if rows.is_empty() {
            rows.push(Row::ok(CHECK, format!("{} in force on every replica", policies.len())));
        }
        let noted = policies.iter().filter(|policy| !policy.notes.is_empty());
        rows.extend(noted.map(|policy| {
            Row::note(CHECK, format!("{}: {}", policy.id, named(&policy.notes)), Some(edit(&policy.id)))
        }));
        rows
    })
}

fn wrong(found: &Findings, policy: &Policy) -> Option<Row> {
    const CHECK: &str = "policies";
    let id = &policy.id;
    match &policy.ready {
        Some(ready) if !ready.holds => {
            let detail = format!("{id} is not ready: {}: {}", ready.reason, ready.message);
            return Some(Row::red(CHECK, detail, remedy(found, id, &ready.reason)));
        }
        Some(_) if policy.observed == Some(policy.generation) => {}
        _ => {
            let detail = format!("{id} has no status for its generation {}", policy.generation);
            return Some(Row::red(CHECK, detail, logs(found)));
        }
    }
    // The leader wrote the condition. The answers of the replicas may differ from it.
    let replicas = found.replicas.as_deref().unwrap_or_default();
    let behind: Vec<_> = replicas
        .iter()
        .filter(|replica| {
            replica.answers.as_ref().is_ok_and(|answers| {
                let in_force = answers.policies.iter().find(|held| held.uid == policy.uid);
                in_force.and_then(|held| held.generation) != Some(policy.generation)
            })
        })
        .map(|replica| replica.name.clone())
        .collect();
    if behind.is_empty() {
        return None;
    }
    let detail = format!("{id}: generation {} is not in force on {}", policy.generation, named(&behind));
    let restart = format!("kubectl -n {} delete pod {}", found.namespace, behind.join(" "));
    Some(Row::red(CHECK, detail, restart))
}

/// Returns the command that edits a policy.
pub(super) fn edit(PolicyId { namespace, name }: &PolicyId) -> String {
    match namespace {
        None => format!("kubectl edit clusterimagepolicies.tagpin.dev {name}"),
        Some(namespace) => format!("kubectl -n {namespace} edit imagepolicies.tagpin.dev {name}"),
    }
}

fn remedy(found: &Findings, id: &PolicyId, reason: &str) -> String {
    let PolicyId { namespace, name } = id;
    let reason_is = |wanted: ReadyReason| reason == wanted.as_str();
    if reason_is(ReadyReason::Invalid) {
        edit(id)
    } else if reason_is(ReadyReason::TooMany) {
        let namespace = namespace.as_deref().unwrap_or_default();
        format!("kubectl -n {namespace} delete imagepolicies.tagpin.dev NAME, of one that is not needed")
    } else if reason_is(ReadyReason::WebhooksNotInstalled) {
        upgrade(found)
    } else if reason_is(ReadyReason::NamespaceExcluded) {
        format!(
            "remove its namespace from the value excludedNamespaces, or run: kubectl -n {} delete imagepolicies.tagpin.dev {name}",
            namespace.as_deref().unwrap_or_default()
        )
    } else if reason_is(ReadyReason::Propagating) {
        format!("kubectl -n {} rollout status deployment/tagpin", found.namespace)
    } else {
        logs(found)
    }
}

/// Counts the images that cannot be pinned because tagpin may not read pull secrets.
pub(crate) fn pull_secrets(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "pull-secrets";
    let off = match &found.deployment {
        Err(cause) => return vec![Row::unknown(CHECK, cause)],
        Ok(None) => return vec![Row::unknown(CHECK, "the Deployment tagpin does not exist")],
        Ok(Some(deployment)) => deployment.pull_secrets_off,
    };
    if !off {
        return vec![Row::ok(CHECK, "pull secrets are read")];
    }
    known(CHECK, &found.behind_secrets, |behind| {
        if behind.is_empty() {
            return vec![Row::ok(
                CHECK,
                "pull secrets are not read, and no pod that names one has an image without a digest",
            )];
        }
        let images: usize = behind.iter().map(|behind| behind.images).sum();
        let namespaces: Vec<_> = behind.iter().map(|behind| behind.namespace.clone()).collect();
        let detail = format!(
            "pull secrets are not read: {images} images of pods that name one are not pinned, in {}",
            named(&namespaces)
        );
        let remedy = format!(
            "{} --set pullSecrets.mode=namespaces --set 'pullSecrets.namespaces={{{}}}'",
            upgrade(found),
            namespaces.join(",")
        );
        vec![Row::note(CHECK, detail, Some(remedy))]
    })
}
