//! Gauges of the state of the process, which each scrape reads anew.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// The values of the gauges.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// True if this replica holds the Lease.
    pub leads: bool,
    /// True if the webhook configurations are as they should be; only the leader knows.
    pub webhooks_installed: Option<bool>,
    /// True if fail-closed namespaces refuse unanswered requests; only the leader knows.
    pub webhooks_armed: Option<bool>,
    /// True if the webhooks are out of the way of an API server that does not reach tagpin; only the leader knows.
    pub webhooks_withdrawn: Option<bool>,
    /// True if somebody undoes the writes of a webhook configuration again and again; only the leader knows.
    pub webhooks_contested: Option<bool>,
    /// Number of parts that others added to the selectors and conditions of the webhooks; only the leader knows.
    pub selectors_added: Option<usize>,
    /// Number of namespaces that ask to fail closed; only the leader knows.
    pub fail_closed_namespaces: Option<usize>,
    /// Number of fields of the baseline policy that are not as the values of the release say; only the leader
    /// knows.
    pub baseline_differs: Option<usize>,
    /// Break glass: true if it is on for the whole cluster, and the number of namespaces; only the leader knows.
    pub break_glass: Option<(bool, usize)>,
    /// Time when the webhook's certificate expires, in seconds since 1970.
    pub certificate_expires: Option<i64>,
    /// Number of keys that pins are marked with.
    pub pin_keys: usize,
    /// Number of policies in force by kind and mode.
    pub policies: Vec<PolicyCount>,
    /// Number of policies whose newest generation does not compile.
    pub policies_invalid: usize,
    /// Number of exceptions of policies in force that expire soon.
    pub exceptions_expiring: usize,
    /// Number of violations in the statuses; only the leader knows.
    pub violations: Option<u32>,
    /// Number of users who are refused again and again for one image; only the leader knows.
    pub refused_again: Option<usize>,
    /// Number of objects in the stores by kind.
    pub objects: Vec<(&'static str, usize)>,
    /// Number of stored objects that cannot be read, by watch.
    pub unreadable: Vec<(&'static str, usize)>,
    /// Number of bytes that the stored objects take, and its maximum.
    pub stores: (usize, usize),
    /// Number of cached answers of registries, and their size in bytes.
    pub cache: (u64, u64),
}

/// Number of policies in force of one kind and mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyCount {
    /// `ClusterImagePolicy` or `ImagePolicy`.
    pub kind: &'static str,
    /// `Enforce`, `Warn` or `Audit`.
    pub mode: &'static str,
    /// Number of policies.
    pub count: usize,
}

/// Registers the gauges; each scrape calls `read`.
pub fn register(registry: &mut Registry, read: impl Fn() -> State + Send + Sync + 'static) {
    registry.register_collector(Box::new(Gauges(Box::new(read))));
}

struct Gauges(Box<dyn Fn() -> State + Send + Sync>);

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = (self.0)();
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        gauge("leader", "1 if this replica holds the Lease", i64::from(state.leads))?;
        if let Some(installed) = state.webhooks_installed {
            let help = "1 if the webhook configurations are as they should be; only on the leader";
            gauge("webhook_config_in_sync", help, i64::from(installed))?;
        }
        if let Some(armed) = state.webhooks_armed {
            let help = "1 if requests that tagpin does not answer are refused in fail-closed namespaces; only on the leader";
            gauge("webhook_armed", help, i64::from(armed))?;
        }
        if let Some(withdrawn) = state.webhooks_withdrawn {
            let help = "1 while the webhooks are out of the way of an API server that does not reach tagpin; only on the leader";
            gauge("webhook_withdrawn", help, i64::from(withdrawn))?;
        }
        if let Some(contested) = state.webhooks_contested {
            let help = "1 while somebody undoes the leader's writes of a webhook configuration again and again; only on the leader";
            gauge("webhook_contested", help, i64::from(contested))?;
        }
        if let Some(added) = state.selectors_added {
            let help = "Number of parts that others added to the selectors and conditions of the webhooks; only on the leader";
            gauge("webhook_selectors_added", help, count(added))?;
        }
        if let Some(namespaces) = state.fail_closed_namespaces {
            let help = "Number of namespaces with the label tagpin.dev/fail-closed=true; only on the leader";
            gauge("fail_closed_namespaces", help, count(namespaces))?;
        }
        if let Some(fields) = state.baseline_differs {
            let help = "Number of fields of the policy baseline that are not as the values of the release say; only on the leader";
            gauge("baseline_differs", help, count(fields))?;
        }
        if let Some(expires) = state.certificate_expires {
            let help = "Time when the webhook's certificate expires, in seconds since 1970";
            gauge("certificate_expiry_timestamp_seconds", help, expires)?;
        }
        gauge(
            "pin_keys",
            "Number of keys that pins are marked with; without a key no pin is marked",
            count(state.pin_keys),
        )?;
        if let Some(violations) = state.violations {
            let help = "Number of violations in the statuses of all policies; only on the leader";
            gauge("violations", help, violations.into())?;
        }
        if let Some(refused) = state.refused_again {
            let help = "Number of refusals in the statuses of all policies that happened ten times or more, the last within the last hour; only on the leader";
            gauge("refused_again", help, count(refused))?;
        }
        gauge(
            "policy_invalid",
            "Number of policies whose newest generation does not compile",
            count(state.policies_invalid),
        )?;
        gauge(
            "exceptions_expiring",
            "Number of exceptions of policies in force that expire within a week",
            count(state.exceptions_expiring),
        )?;
        let (entries, bytes) = state.cache;
        gauge(
            "cache_entries",
            "Number of answers of registries in the cache",
            i64::try_from(entries).unwrap_or(i64::MAX),
        )?;
        gauge(
            "cache_bytes",
            "Approximate size of the cache of answers of registries, in bytes",
            i64::try_from(bytes).unwrap_or(i64::MAX),
        )?;

        let (bytes, limit) = state.stores;
        gauge("store_bytes", "Memory that the objects in the stores take, in bytes", count(bytes))?;
        let help = "Maximum memory that the objects in the stores may take, in bytes";
        gauge("store_bytes_limit", help, count(limit))?;
        if let Some((cluster, namespaces)) = state.break_glass {
            let help = "Number of namespaces in which break glass is on, or 1 for the whole cluster";
            let scopes = [("cluster", usize::from(cluster)), ("namespace", namespaces)];
            family(&mut encoder, "break_glass", help, scopes.map(|(scope, on)| ([("scope", scope)], on)))?;
        }
        let policies = state.policies.iter();
        let policies = policies.map(|policy| ([("kind", policy.kind), ("mode", policy.mode)], policy.count));
        family(&mut encoder, "policies", "Number of policies in force", policies)?;
        let objects = state.objects.iter().map(|(kind, count)| ([("kind", *kind)], *count));
        family(&mut encoder, "store_objects", "Number of objects in the stores", objects)?;
        let unreadable = state.unreadable.iter().map(|(kind, count)| ([("kind", *kind)], *count));
        let help = "Number of stored objects that cannot be read; their content counts as unknown";
        family(&mut encoder, "unreadable_objects", help, unreadable)
    }
}

fn family<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    members: impl IntoIterator<Item = ([(&'static str, &'static str); N], usize)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in members {
        ConstGauge::new(count(value)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn shown(state: State) -> String {
        let mut registry = Registry::with_prefix("tagpin");
        register(&mut registry, move || state.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_is_held_is_shown() {
        let text = shown(State {
            leads: true,
            webhooks_installed: Some(false),
            webhooks_armed: Some(true),
            break_glass: Some((true, 2)),
            webhooks_withdrawn: Some(true),
            webhooks_contested: Some(true),
            selectors_added: Some(4),
            fail_closed_namespaces: Some(3),
            baseline_differs: Some(1),
            policies: vec![PolicyCount { kind: "ImagePolicy", mode: "Warn", count: 2 }],
            objects: vec![("pods", 7), ("namespaces", 3)],
            unreadable: vec![("serviceaccounts", 1)],
            stores: (4096, 8192),
            ..State::default()
        });
        for line in [
            "tagpin_leader 1",
            "tagpin_webhook_config_in_sync 0",
            "tagpin_webhook_armed 1",
            "tagpin_webhook_withdrawn 1",
            "tagpin_webhook_contested 1",
            "tagpin_webhook_selectors_added 4",
            "tagpin_fail_closed_namespaces 3",
            "tagpin_baseline_differs 1",
            r#"tagpin_break_glass{scope="cluster"} 1"#,
            r#"tagpin_break_glass{scope="namespace"} 2"#,
            r#"tagpin_policies{kind="ImagePolicy",mode="Warn"} 2"#,
            r#"tagpin_store_objects{kind="pods"} 7"#,
            r#"tagpin_store_objects{kind="namespaces"} 3"#,
            r#"tagpin_unreadable_objects{kind="serviceaccounts"} 1"#,
            "tagpin_store_bytes 4096",
            "tagpin_store_bytes_limit 8192",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = shown(State::default());
        for unknown in [
            "webhook_config_in_sync",
            "webhook_armed",
            "break_glass",
            "violations",
            "webhook_withdrawn",
            "webhook_contested",
            "webhook_selectors_added",
            "fail_closed_namespaces",
            "baseline_differs",
        ] {
            assert!(!text.contains(unknown), "{unknown}\n{text}");
        }
    }
}
