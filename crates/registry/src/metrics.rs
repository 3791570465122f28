//! Metrics of asking registries. The label `registry` is the `match` of an entry of the configuration, `docker.io` or
//! `other`; every other label is a closed set of words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::observe::{Event, Observer, Skipped, Step, Unused};

/// Buckets of request durations, in seconds.
const BUCKETS: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Time for which a registry is reported as one whose credential was not used.
const UNUSED_FOR: Duration = Duration::from_secs(60 * 60);
/// Maximum number of credentials of one registry that are reported as not used.
const UNUSED: usize = 8;

/// Counters of requests to registries and to their token services.
#[derive(Debug, Clone)]
pub struct RegistryMetrics {
    requests: Family<Request, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
    remaining: Family<Asking, Gauge>,
    resolutions: Family<Resolution, Counter>,
    breakers: Counter,
    skipped: Family<Reason, Counter>,
    unused: Family<Reason, Counter>,
    clouds: Family<CloudLabels, Counter>,
    invalid: Gauge,
    unverified: Gauge,
    /// The last events for each value of the label `registry`, which is bounded.
    last: Arc<Mutex<BTreeMap<String, Last>>>,
}

/// The last events of a registry.
#[derive(Debug, Default)]
struct Last {
    result: Option<Outcome>,
    /// The credentials that were not used, with the time of the last event.
    unused: BTreeMap<UnusedCredential, Instant>,
}

/// The result of a request.
#[derive(Debug)]
struct Outcome {
    /// The status or the reason, in the words of the metric.
    word: &'static str,
    /// The origin that gave no usable response.
    failed: Option<String>,
    at: Instant,
}

impl Last {
    /// Remembers a credential that was not used now, in place of the one that was left unused the longest ago.
    fn leave_unused(&mut self, unused: UnusedCredential) {
        if self.unused.len() >= UNUSED && !self.unused.contains_key(&unused) {
            let oldest = self.unused.iter().min_by_key(|(_, at)| **at).map(|(oldest, _)| oldest.clone());
            oldest.and_then(|oldest| self.unused.remove(&oldest));
        }
        self.unused.insert(unused, Instant::now());
    }
}

/// A row of `GET /registries`: the last result of this replica with a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastAsked {
    /// The `match` of an entry of the configuration, `docker.io` or `other`.
    pub registry: String,
    /// The status of the last response, or the reason why there was none, in the words of the metric; none while
    /// nothing was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The age of that result, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ago: Option<u64>,
    /// The origin that gave that result, if it is a failure: the registry, a mirror or a token service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_host: Option<String>,
    /// Number of hosts of this registry that are not asked for a while because they failed.
    pub resting: usize,
    /// The origins that are not asked for a while because they failed; at most eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resting_hosts: Vec<String>,
    /// The credentials that are configured for this registry and were not used in the last hour; at most eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<UnusedCredential>,
}

/// A credential that is configured for a registry and was not used.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct UnusedCredential {
    /// The host of the registry.
    pub host: String,
    /// The reason, in the words of the metric.
    pub reason: String,
    /// Object of the reason: the region, the host of the token service, the namespace and name of the pull secret,
    /// or the right.
    pub about: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    registry: String,
    operation: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    registry: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asking {
    registry: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resolution {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloudLabels {
    cloud: &'static str,
    result: &'static str,
}

impl RegistryMetrics {
    /// Registers the metrics.
    pub fn register(metrics: &mut Registry) -> Self {
        let this = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            remaining: Family::default(),
            resolutions: Family::default(),
            breakers: Counter::default(),
            skipped: Family::default(),
            unused: Family::default(),
            clouds: Family::default(),
            invalid: Gauge::default(),
            unverified: Gauge::default(),
            last: Arc::default(),
        };
        // A rate needs a value from before the first time.
        for reason in [Unused::Region, Unused::Realm, Unused::Helper, Unused::Right] {
            drop(this.unused.get_or_create(&Reason { reason: reason.word() }));
        }
        for reason in Skipped::ALL {
            drop(this.skipped.get_or_create(&Reason { reason: reason.word() }));
        }
        metrics.register(
            "registry_requests",
            "Requests to registries and token services, by the status of the response or the reason why there was none",
            this.requests.clone(),
        );
        metrics.register_with_unit(
            "registry_request_duration",
            "Duration of requests to registries and token services, body included",
            Unit::Seconds,
            this.durations.clone(),
        );
        metrics.register(
            "registry_ratelimit_remaining",
            "Requests that the registry's own limit still allows, as its last response says",
            this.remaining.clone(),
        );
        metrics.register(
            "resolution",
            "Look-ups of tags, by the source of the answer",
            this.resolutions.clone(),
        );
        metrics.register(
            "registry_breaker_opened",
            "Number of times that a host failed and tagpin stopped asking it for a while",
            this.breakers.clone(),
        );
        metrics.register(
            "pull_secrets_skipped",
            "Pull secrets that were named by a pod or service account and not used",
            this.skipped.clone(),
        );
        metrics.register(
            "credentials_unused",
            "Times that a credential that is configured for a registry was not used",
            this.unused.clone(),
        );
        metrics.register(
            "cloud_credentials",
            "Requests to clouds for the credential of a registry",
            this.clouds.clone(),
        );
        metrics.register(
            "registries_invalid",
            "1 while the newest configuration of registries cannot be used and the previous one stays in force",
            this.invalid.clone(),
        );
        metrics.register(
            "registries_unverified",
            "Hosts whose certificates are not verified, because the configuration says so",
            this.unverified.clone(),
        );
        this
    }

    /// Returns the last result for each registry. It knows of no resting hosts.
    #[must_use]
    pub fn last(&self) -> Vec<LastAsked> {
        let last = self.last.lock();
        let recent = |(unused, at): (&UnusedCredential, &Instant)| {
            (at.elapsed() <= UNUSED_FOR).then(|| unused.clone())
        };
        let rows = last.iter().map(|(registry, Last { result, unused })| LastAsked {
            registry: registry.clone(),
            last: result.as_ref().map(|result| result.word.to_owned()),
            seconds_ago: result.as_ref().map(|result| result.at.elapsed().as_secs()),
            failed_host: result.as_ref().and_then(|result| result.failed.clone()),
            unused: unused.iter().filter_map(recent).collect(),
            ..LastAsked::default()
        });
        rows.collect()
    }

    /// Records whether the newest configuration of registries is in force, and how many hosts are asked without
    /// verifying their certificates.
    pub fn configured(&self, newest: bool, unverified: usize) {
        self.invalid.set(i64::from(!newest));
        self.unverified.set(i64::try_from(unverified).unwrap_or(i64::MAX));
    }

    fn step(&self, registry: &str, step: &Step<'_>) {
        match step {
            Step::Answered { url, purpose, status, took, remaining } => {
                let failed = (*status >= 500).then_some(*url);
                self.count(registry, purpose.word(), word(*status), failed, *took);
                if let Some(remaining) = remaining {
                    let asking = Asking { registry: registry.to_owned() };
                    let remaining = i64::try_from(*remaining).unwrap_or(i64::MAX);
                    self.remaining.get_or_create(&asking).set(remaining);
                }
            }
            Step::Failed { url, purpose, failure, took } => {
                self.count(registry, purpose.word(), failure.word(), Some(url), *took);
            }
            Step::Asked { .. }
            | Step::Headers { .. }
            | Step::Challenged { .. }
            | Step::Withheld { .. }
            | Step::RealmRefused
            | Step::Confirmed { .. }
            | Step::Spared
            | Step::EndpointSkipped { .. }
            | Step::Concluded { .. } => {}
        }
    }

    fn count(
        &self,
        registry: &str,
        operation: &'static str,
        result: &'static str,
        failed: Option<&Url>,
        took: Duration,
    ) {
        let registry = registry.to_owned();
        let failed = failed.map(|url| url.origin().ascii_serialization());
        let mut last = self.last.lock();
        last.entry(registry.clone()).or_default().result =
            Some(Outcome { word: result, failed, at: Instant::now() });
        drop(last);
        self.durations
            .get_or_create(&Asked { registry: registry.clone(), operation })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&Request { registry, operation, result }).inc();
    }
}

impl Observer for RegistryMetrics {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Step { registry, step } => self.step(registry, step),
            Event::Answered(by) => {
                self.resolutions.get_or_create(&Resolution { source: by.word() }).inc();
            }
            Event::BreakerOpened => {
                self.breakers.inc();
            }
            Event::SecretSkipped(why) => {
                self.skipped.get_or_create(&Reason { reason: why.word() }).inc();
            }
            Event::CredentialUnused { registry, host, reason, about } => {
                let reason = reason.word();
                let (host, about) = ((*host).to_owned(), (*about).to_owned());
                let mut last = self.last.lock();
                last.entry((*registry).to_owned()).or_default().leave_unused(UnusedCredential {
                    host,
                    reason: reason.to_owned(),
                    about,
                });
                drop(last);
                self.unused.get_or_create(&Reason { reason }).inc();
            }
            Event::CloudAsked { cloud, error } => {
                let result = if error.is_none() { "given" } else { "failed" };
                self.clouds.get_or_create(&CloudLabels { cloud: cloud.word(), result }).inc();
            }
        }
    }

    fn wants_headers(&self) -> bool {
        false
    }
}

/// Returns the status if it has a meaning of its own, or its class.
const fn word(status: u16) -> &'static str {
    match status {
        401 => "401",
        403 => "403",
        404 => "404",
        429 => "429",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::observe::{Failure, Purpose};

    fn answered(
        metrics: &RegistryMetrics,
        registry: &str,
        purpose: Purpose,
        status: u16,
        remaining: Option<u64>,
    ) {
        let url = &Url::parse("https://mirror.example/v2/x").unwrap();
        let step = Step::Answered { url, purpose, status, took: Duration::from_millis(30), remaining };
        metrics.observe(&Event::Step { registry, step });
    }

    fn failed(metrics: &RegistryMetrics, registry: &str, purpose: Purpose, failure: Failure) {
        let url = &Url::parse("https://mirror.example:5000/v2/x").unwrap();
        let step = Step::Failed { url, purpose, failure, took: Duration::from_secs(1) };
        metrics.observe(&Event::Step { registry, step });
    }

    #[test]
    fn names_and_labels_are_those_that_dashboards_use() {
        let mut metrics = Registry::with_prefix("tagpin");
        let registry = RegistryMetrics::register(&mut metrics);
        answered(&registry, "docker.io", Purpose::Manifest, 429, Some(0));
        failed(&registry, "other", Purpose::Token, Failure::Dns);
        let mut text = String::new();
        encode(&mut text, &metrics).unwrap();
        for line in [
            r#"tagpin_registry_requests_total{registry="docker.io",operation="manifest",result="429"} 1"#,
            r#"tagpin_registry_requests_total{registry="other",operation="token",result="dns"} 1"#,
            r#"tagpin_registry_request_duration_seconds_count{registry="other",operation="token"} 1"#,
            r#"tagpin_registry_ratelimit_remaining{registry="docker.io"} 0"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_last_result_of_each_registry_is_kept() {
        let registry_metrics = RegistryMetrics::register(&mut Registry::default());
        answered(&registry_metrics, "docker.io", Purpose::Token, 200, None);
        failed(&registry_metrics, "docker.io", Purpose::Manifest, Failure::Connect);
        answered(&registry_metrics, "other", Purpose::Manifest, 404, None);
        let unused = |registry: &str, reason, about: &str| {
            let host = "a.example";
            registry_metrics.observe(&Event::CredentialUnused { registry, host, reason, about });
        };
        unused("gcr.io", Unused::Right, "x");
        unused("other", Unused::Realm, "auth.example");
        unused("other", Unused::Realm, "auth.example");
        for number in 0..20 {
            unused("*.corp", Unused::Realm, &format!("auth-{number}.example"));
        }
        let registry = registry_metrics;
        let last = registry.last();
        let said: Vec<_> = last.iter().map(|row| (row.registry.as_str(), row.last.as_deref())).collect();
        assert_eq!(
            said,
            [("*.corp", None), ("docker.io", Some("connect")), ("gcr.io", None), ("other", Some("404"))]
        );
        let failed: Vec<_> = last.iter().map(|row| row.failed_host.as_deref()).collect();
        assert_eq!(failed, [None, Some("https://mirror.example:5000"), None, None]);
        let unused: Vec<_> = last.iter().map(|row| row.unused.as_slice()).collect();
        let one = |reason: &str, about: &str| UnusedCredential {
            host: "a.example".to_owned(),
            reason: reason.to_owned(),
            about: about.to_owned(),
        };
        assert_eq!(unused[1..], [&[][..], &[one("right", "x")], &[one("realm", "auth.example")]]);
        assert_eq!((unused[0].len(), unused[0].contains(&one("realm", "auth-19.example"))), (8, true));
    }
}
