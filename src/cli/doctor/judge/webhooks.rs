//! The webhook configurations, the way from the API server to the webhook, and namespaces with a label of tagpin.

use std::collections::BTreeSet;

use crate::cli::doctor::findings::{Answer, Entry, Findings, IdleLabel, Policy};
use crate::cli::doctor::judge::row::{Row, known, logs, named, upgrade};
use tagpin_leader::webhook_config::TO_FILL_IT;
use tagpin_objects::conditions::ReadyReason;
use tagpin_objects::release;

pub(crate) fn filled(found: &Findings) -> Vec<Row> {
    let configurations = [
        (release::MUTATING, "pin.tagpin.dev", &found.mutating),
        (release::NAME, "validate.tagpin.dev", &found.validating),
    ];
    let mut rows: Vec<_> =
        configurations.into_iter().map(|(name, entry, asked)| one(found, name, entry, asked)).collect();
    rows.extend(contested(found));
    rows.extend(configurations.into_iter().filter_map(|(name, _, asked)| additions(name, asked)));
    rows
}

/// Judges by what the leader wrote into the status of policies, because a fight shows only over time.
fn contested(found: &Findings) -> Option<Row> {
    let message = told(found.policies.as_deref().unwrap_or_default(), ReadyReason::Contested)?;
    let remedy = "let that tool ignore the field /webhooks of both configurations (Argo CD: ignoreDifferences with \
                  jsonPointers [/webhooks], and RespectIgnoreDifferences=true)";
    Some(Row::red("webhooks", message, remedy))
}

/// Names what others added to the entries, which narrows what is judged.
fn additions(name: &str, asked: &Answer<Option<Vec<Entry>>>) -> Option<Row> {
    let entries = asked.as_ref().ok()?.as_deref()?;
    let mut added: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.added.iter().map(|added| format!("\"{added}\" to {}", entry.name)))
        .collect();
    added.sort();
    if added.is_empty() {
        return None;
    }
    let kind = if name == release::MUTATING { "mutating" } else { "validating" };
    let show = format!("kubectl get {kind}webhookconfiguration {name} -o yaml --show-managed-fields");
    let detail = format!("somebody added {}; requests outside of it are not judged", named(&added));
    Some(Row::note("webhooks", detail, Some(show)))
}

fn one(found: &Findings, name: &str, entry: &str, asked: &Answer<Option<Vec<Entry>>>) -> Row {
    const CHECK: &str = "webhooks";
    let entries = match asked {
        Err(cause) => return Row::unknown(CHECK, cause),
        Ok(None) => {
            let detail =
                format!("{name} does not exist, perhaps because somebody broke glass: nothing is judged");
            return Row::red(CHECK, detail, upgrade(found));
        }
        Ok(Some(entries)) => entries,
    };
    if !entries.iter().any(|held| held.name == entry) {
        // The leader empties the lists while the API server does not reach it.
        if unreachable(found).is_some() {
            let detail = format!(
                "{name} has no entry {entry}, because the API server does not reach the webhook; the leader puts it back \
                 once canaries arrive: nothing is judged"
            );
            return Row::red(CHECK, detail, look_at_endpoints(found));
        }
        let policies = found.policies.as_deref().unwrap_or_default();
        let told = told(policies, ReadyReason::WebhooksNotInstalled);
        if let Some((_, rearm)) = told.and_then(|message| message.split_once(TO_FILL_IT)) {
            let detail = format!("{name} came back after break glass and stays empty: nothing is judged");
            return Row::red(CHECK, detail, rearm);
        }
        let detail = format!("{name} has no entry {entry}: nothing is judged");
        return Row::red(CHECK, detail, logs(found));
    }
    if let Ok(Some(certificate)) = &found.certificate
        && entries.iter().any(|entry| entry.ca != certificate.ca)
    {
        let detail = format!("{name} trusts another authority than the one in the Secret tagpin-webhook-tls");
        return Row::red(CHECK, detail, logs(found));
    }
    let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    Row::ok(CHECK, format!("{name} has {}", named(&names)))
}

/// Judges whether the webhook configurations belong to this release.
pub(crate) fn release(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "release";
    let asked = [&found.mutating, &found.validating];
    if let Some(cause) = asked.iter().find_map(|asked| asked.as_ref().err()) {
        return vec![Row::unknown(CHECK, cause)];
    }
    let entries = asked.into_iter().flatten().flatten().flatten();
    let others: BTreeSet<&str> = entries
        .filter_map(|entry| entry.namespace.as_deref())
        .filter(|namespace| *namespace != found.namespace)
        .collect();
    let rows = others.into_iter().map(|other| {
        let detail = format!(
            "the webhook configurations call the Service tagpin in {other}, and this release is in {}",
            found.namespace
        );
        Row::red(CHECK, detail, format!("tagpin doctor -n {other}"))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        vec![Row::ok(CHECK, "the webhook configurations are of this release")]
    } else {
        rows
    }
}

/// Judges by what the leader wrote into the status of policies, and by the reviews that the replicas counted. A request
/// of the doctor itself would prove less.
pub(crate) fn reached(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "reached";
    known(CHECK, &found.policies, |policies| {
        if let Some(message) = told(policies, ReadyReason::WebhookUnreachable) {
            let detail = format!("the API server does not reach the webhook: {message}");
            return vec![Row::red(CHECK, detail, look_at_endpoints(found))];
        }
        let replicas = found.replicas.as_deref().unwrap_or_default();
        let answered = replicas.iter().filter_map(|replica| replica.answers.as_ref().ok());
        let reviews: u64 = answered.map(|answers| answers.counters.reviews).sum();
        if reviews > 0 {
            let detail =
                format!("the replicas answered {reviews} reviews of the API server since they started");
            return vec![Row::ok(CHECK, detail)];
        }
        let detail = "no policy reports that the webhook is unreachable, and no review has come yet";
        let try_it = "kubectl create deployment doctor --image=doctor:latest --dry-run=server -n default";
        vec![Row::note(CHECK, detail, Some(try_it.to_owned()))]
    })
}

/// Returns the message of the first policy that is not ready for this reason.
fn told(policies: &[Policy], reason: ReadyReason) -> Option<&str> {
    let mut ready = policies.iter().filter_map(|policy| policy.ready.as_ref());
    ready.find(|ready| ready.reason == reason.as_str()).map(|ready| ready.message.as_str())
}

fn unreachable(found: &Findings) -> Option<&str> {
    told(found.policies.as_deref().unwrap_or_default(), ReadyReason::WebhookUnreachable)
}

fn look_at_endpoints(found: &Findings) -> String {
    format!(
        "kubectl -n {} get endpointslices -l kubernetes.io/service-name=tagpin (then check that no firewall keeps the API \
         server from these addresses)",
        found.namespace
    )
}

pub(crate) fn namespaces(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "namespaces";
    known(CHECK, &found.labelled, |labelled| {
        let mut rows = Vec::new();
        if !labelled.fail_closed.is_empty() {
            rows.push(fail_closed(found, &labelled.fail_closed));
        }
        for namespace in &labelled.break_glass {
            let detail =
                format!("break glass: {namespace} accepts every image unchecked, and tagpin pins none there");
            let remedy = format!("kubectl label namespace {namespace} tagpin.dev/break-glass-");
            rows.push(Row::note(CHECK, detail, Some(remedy)));
        }
        for IdleLabel { namespace, label, value } in &labelled.idle {
            let detail = format!("{namespace} has {label}={value}, which has no effect: only \"true\" has");
            let remedy = format!("kubectl label namespace {namespace} --overwrite {label}=true");
            rows.push(Row::note(CHECK, detail, Some(remedy)));
        }
        if rows.is_empty() {
            rows.push(Row::ok(CHECK, "no namespace is labelled fail-closed or break-glass"));
        }
        rows
    })
}

fn fail_closed(found: &Findings, namespaces: &[String]) -> Row {
    const CHECK: &str = "namespaces";
    let names = named(namespaces);
    let entries = match &found.validating {
        Err(cause) => return Row::unknown(CHECK, cause),
        Ok(entries) => entries.as_deref().unwrap_or_default(),
    };
    if entries.iter().any(|entry| entry.fails) {
        return Row::ok(CHECK, format!("fail-closed: {names}"));
    }
    let detail = format!(
        "fail-closed is asked for in {names}, but no entry refuses requests while tagpin is unreachable"
    );
    match &found.deployment {
        Ok(Some(deployment)) if deployment.wanted < 2 => {
            Row::red(CHECK, detail, format!("{} --set replicas=2", upgrade(found)))
        }
        _ => Row::red(CHECK, detail, logs(found)),
    }
}
