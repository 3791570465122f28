//! The replicas: how many run, which one leads, and the answers that they get from registries.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::cli::doctor::findings::{Answers, Findings};
use crate::cli::doctor::judge::row::{Row, known, logs, named};
use crate::cli::doctor::judge::unused::unused;
use tagpin_domain::image::DOCKER_HUB;
use tagpin_domain::remedy::{Entry, Holder, Setting, change};
use tagpin_objects::release;
use tagpin_registry::LastAsked;

/// Time without a renewal after which the Lease counts as not held, by the clocks of two machines.
const SILENT: SignedDuration = SignedDuration::from_secs(60);
/// Age in seconds up to which the last result of a registry counts.
const RECENT: u64 = 15 * 60;
/// Results that mean that the registry gave no answer.
const FAILURES: [&str; 11] = [
    "5xx",
    "429",
    "dns",
    "connect",
    "tls",
    "timeout",
    "address-forbidden",
    "address-blocked",
    "unreadable",
    "redirect",
    "proxy",
];
/// The label of registries that no entry names. One typo in an image is enough to make them fail.
const OTHER: &str = "other";

pub(crate) fn replicas(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "replicas";
    let wanted = match &found.deployment {
        Err(cause) => return vec![Row::unknown(CHECK, cause)],
        Ok(None) => {
            let detail = format!("there is no Deployment tagpin in the namespace {}", found.namespace);
            let remedy = "tagpin doctor --namespace NAMESPACE (helm list -A names it)";
            return vec![Row::red(CHECK, detail, remedy)];
        }
        Ok(Some(deployment)) => deployment.wanted,
    };
    if wanted < 1 {
        return vec![Row::red(CHECK, "the Deployment is scaled to 0", scale(found))];
    }
    known(CHECK, &found.replicas, |replicas| {
        let mut rows: Vec<_> = replicas
            .iter()
            .filter_map(|replica| match &replica.answers {
                Err(cause) => Some(Row::unknown(CHECK, &format!("{}: {cause}", replica.name))),
                Ok(Answers { waits: Some(why), .. }) => {
                    let detail = format!("{} is not ready: {why}", replica.name);
                    let look = format!("kubectl -n {} logs {} --tail=50", found.namespace, replica.name);
                    Some(Row::red(CHECK, detail, look))
                }
                Ok(_) => None,
            })
            .collect();
        if replicas.len() < usize::try_from(wanted).unwrap_or_default() {
            let detail = format!("{} of {wanted} replicas run", replicas.len());
            let look = format!(
                "kubectl -n {} describe replicasets,pods -l {}",
                found.namespace,
                release::POD_SELECTOR
            );
            rows.push(Row::red(CHECK, detail, look));
        }
        if rows.is_empty() {
            rows.push(Row::ok(CHECK, format!("{} replicas are ready", replicas.len())));
        }
        rows
    })
}

pub(crate) fn leader(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "leader";
    known(CHECK, &found.lease, |lease| {
        let remedy = match &found.deployment {
            Ok(Some(deployment)) if deployment.wanted < 1 => scale(found),
            _ => logs(found),
        };
        let Some(holder) = lease.as_ref().filter(|holder| !holder.identity.is_empty()) else {
            let detail = "nobody holds the Lease tagpin: statuses, certificate and webhook configurations are not updated";
            return vec![Row::red(CHECK, detail, remedy)];
        };
        let pod = holder.identity.rsplit_once('_').map_or(holder.identity.as_str(), |(pod, _)| pod);
        if let Ok(replicas) = &found.replicas
            && !replicas.iter().any(|replica| replica.name == pod)
        {
            return vec![Row::red(CHECK, format!("the Lease is held by {pod}, which does not run"), remedy)];
        }
        match holder.renewed {
            Some(renewed) if found.now.duration_since(renewed) > SILENT => {
                let detail = format!("{pod} holds the Lease and has not renewed it since {renewed}");
                vec![Row::red(CHECK, detail, remedy)]
            }
            _ => vec![Row::ok(CHECK, pod)],
        }
    })
}

/// Returns a row for each registry that a replica asked. One replica that fails makes the row red.
pub(crate) fn registries(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "registries";
    known(CHECK, &found.replicas, |replicas| {
        let mut seen: BTreeMap<&str, Vec<(&str, &LastAsked)>> = BTreeMap::new();
        for replica in replicas {
            let asked = replica.answers.iter().flat_map(|answers| &answers.registries);
            for last in asked {
                seen.entry(&last.registry).or_default().push((&replica.name, last));
            }
        }
        if seen.is_empty() && replicas.iter().all(|replica| replica.answers.is_err()) {
            return vec![Row::unknown(CHECK, "no replica answered")];
        }
        if seen.is_empty() {
            return vec![Row::note(CHECK, "no replica has asked a registry yet", None)];
        }
        let configuration = found.configuration.iter().flatten();
        let entries: Vec<_> = configuration.flat_map(|configuration| &configuration.entries).collect();
        // Other labels are the `match` of an entry; Docker Hub has one label, with or without an entry.
        let is_entry = |registry: &str| match registry {
            OTHER => false,
            DOCKER_HUB => entries.iter().any(|entry| *entry == registry),
            _ => true,
        };
        let mut rows = Vec::new();
        let mut unused_rows = Vec::new();
        for (registry, asked) in seen {
            let entry = is_entry(registry).then_some(registry);
            unused_rows.extend(unused(registry, entry, asked.iter().map(|(_, last)| *last)));
            rows.push(registry_row(registry, entry, &asked));
        }
        rows.extend(unused_rows);
        rows
    })
}

fn registry_row(registry: &str, entry: Option<&str>, asked: &[(&str, &LastAsked)]) -> Row {
    const CHECK: &str = "registries";
    let failing: Vec<_> = asked
        .iter()
        .filter(|(_, last)| {
            last.resting > 0 || (failed(last) && last.seconds_ago.is_some_and(|ago| ago <= RECENT))
        })
        .map(|(replica, last)| format!("{replica} {}", said(last)))
        .collect();
    if failing.is_empty() {
        let said: Vec<_> = asked.iter().map(|(replica, last)| format!("{replica} {}", said(last))).collect();
        return Row::ok(CHECK, format!("{registry}: {}", named(&said)));
    }
    let detail = format!("{registry}: {}", named(&failing));
    let limited = asked.iter().any(|(_, last)| last.last.as_deref() == Some("429"));
    let forbidden = asked.iter().any(|(_, last)| last.last.as_deref() == Some("address-forbidden"));
    let add = |setting| change(&[Entry::new(registry, entry, setting)], Holder::Values);
    let remedy = if registry == OTHER {
        return Row::note(CHECK, detail, None);
    } else if limited {
        format!("give tagpin credentials with a higher limit: {}", add(Setting::Secret))
    } else if forbidden {
        format!(
            "{}; if the address is of a token service or of a redirect, tagpin resolve IMAGE says what to add",
            add(Setting::AllowPrivate)
        )
    } else {
        // The host that fails may be a mirror of the registry.
        let resting = asked.iter().find_map(|(_, last)| last.resting_hosts.first());
        let failed = resting.or_else(|| asked.iter().find_map(|(_, last)| last.failed_host.as_ref()));
        let origin = failed.cloned().unwrap_or_else(|| format!("https://{registry}"));
        format!("try it from the node of that replica: curl -v {origin}/v2/")
    };
    Row::red(CHECK, detail, remedy)
}

fn failed(last: &LastAsked) -> bool {
    last.last.as_deref().is_some_and(|result| FAILURES.contains(&result))
}

fn said(last: &LastAsked) -> String {
    let mut words = match (&last.last, last.seconds_ago) {
        (Some(result), Some(ago)) => match &last.failed_host {
            Some(host) => format!("heard {result} from {host} {ago} s ago"),
            None => format!("heard {result} {ago} s ago"),
        },
        _ => "has not asked".to_owned(),
    };
    if last.resting > 0 {
        let hosts = named(&last.resting_hosts);
        let asks = if hosts.is_empty() { "asks" } else { "asks " };
        words.push_str(&format!(", and {asks}{hosts} again in a moment"));
    }
    words
}

fn scale(found: &Findings) -> String {
    format!("kubectl -n {} scale deployment/tagpin --replicas=2", found.namespace)
}
