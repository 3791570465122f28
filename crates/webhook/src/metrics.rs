//! The metrics of admission. Labels have fixed words: never an image, a namespace or the text of an error.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::response::Decision;
use crate::trace;
use tagpin_domain::kind::Kind;
use tagpin_domain::subject::Phase;
use tagpin_domain::verdict::{Effect, PinSource, Verdict};

/// Upper bounds of the duration buckets in seconds, from an answer from memory to the API server's own limit.
const SECONDS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Sources of a pin's digest: another pod of the revision, the registry, or memory while the registry is unavailable.
const SIBLING: &str = "sibling";
const REGISTRY: &str = "registry";
const LAST_KNOWN: &str = "last_known";

/// The metrics of admission. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    mutate_duration: Histogram,
    validate_duration: Histogram,
    in_flight: Gauge<i64, AtomicI64>,
    turned_away: Family<TurnedLabels, Counter>,
    deadline_exceeded: Counter,
    images: Family<ImageLabels, Counter>,
    sibling_pins: Counter,
    registry_pins: Counter,
    last_known_pins: Counter,
    patch_operations: Counter,
    unmatched: Counter,
    foreign_owner: Counter,
    strangers: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    webhook: &'static str,
    operation: &'static str,
    kind: &'static str,
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TurnedLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ImageLabels {
    result: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PinLabels {
    source: &'static str,
}

/// The reason why a request got no review, or was answered without its object being judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Too many reviews were in flight.
    Shed,
    /// The body is larger than the limit.
    TooLarge,
    /// The body is not an admission review or did not arrive in time, or the object in it cannot be read.
    Unreadable,
    /// Policies of one kind needed too much work, and were left out of the review.
    Work,
    /// The review panicked.
    Panicked,
    /// The review took longer than its caller waits.
    Late,
    /// The path does not exist.
    NotFound,
}

impl Turned {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Shed,
        Self::TooLarge,
        Self::Unreadable,
        Self::Work,
        Self::Panicked,
        Self::Late,
        Self::NotFound,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Shed => "shed",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::Work => "work",
            Self::Panicked => "panicked",
            Self::Late => "late",
            Self::NotFound => "not_found",
        }
    }
}

/// One answered review.
#[derive(Debug)]
pub struct Decided<'a> {
    /// The webhook that was called.
    pub phase: Phase,
    /// `CREATE`, `UPDATE` or `other`.
    pub operation: &'static str,
    /// The kind, if tagpin judges it.
    pub kind: Option<Kind>,
    /// The decision.
    pub decision: Decision,
    /// The verdicts on the object's slots.
    pub verdicts: &'a [Verdict],
    /// Number of operations of the patch.
    pub patched: usize,
    /// Time from the whole body to the whole response.
    pub took: Duration,
}

/// Counts one review in flight until it is dropped.
#[derive(Debug)]
#[must_use = "it counts while it lives"]
pub struct InFlight(Gauge<i64, AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers the counters.
    pub fn register(registry: &mut Registry) -> Self {
        // The series that every review uses are looked up once, here. A series exists before its first
        // event, so that the first event is an increase from 0.
        let duration: Family<WebhookLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(SECONDS));
        let lasted = |phase| duration.get_or_create_owned(&WebhookLabels { webhook: trace::webhook(phase) });
        let pins: Family<PinLabels, Counter> = Family::default();
        let pinned = |source| pins.get_or_create_owned(&PinLabels { source });
        let metrics = Self {
            requests: Family::default(),
            mutate_duration: lasted(Phase::Mutate),
            validate_duration: lasted(Phase::Validate),
            in_flight: Gauge::default(),
            turned_away: Family::default(),
            deadline_exceeded: Counter::default(),
            images: Family::default(),
            sibling_pins: pinned(SIBLING),
            registry_pins: pinned(REGISTRY),
            last_known_pins: pinned(LAST_KNOWN),
            patch_operations: Counter::default(),
            unmatched: Counter::default(),
            foreign_owner: Counter::default(),
            strangers: Counter::default(),
        };
        for why in Turned::ALL {
            drop(metrics.turned_away.get_or_create(&TurnedLabels { reason: why.word() }));
        }
        let all = metrics.clone();
        registry.register("admission_requests", "Reviews answered", all.requests);
        registry.register(
            "admission_duration_seconds",
            "Duration of reviews, from the complete request body to the complete response",
            duration,
        );
        registry.register("admission_inflight", "Reviews in progress", all.in_flight);
        registry.register(
            "admission_turned_away",
            "Requests that got no review, or whose object could not be read",
            all.turned_away,
        );
        registry.register(
            "admission_deadline_exceeded",
            "Reviews answered after their deadline",
            all.deadline_exceeded,
        );
        registry.register(
            "images_evaluated",
            "Findings of /validate, by code; a slot without a finding counts once, with the code none",
            all.images,
        );
        registry.register("pins", "Slots pinned, by the source of the digest", pins);
        registry.register(
            "patch_operations",
            "Operations in JSON patches, each of which writes a reference or an annotation",
            all.patch_operations,
        );
        registry.register("unmatched_images", "Slots that no policy matched", all.unmatched);
        registry.register(
            "foreign_owner_images",
            "Slots left unpinned because a custom resource controls the pod",
            all.foreign_owner,
        );
        registry.register(
            "admission_strangers",
            "Reviews from callers that showed no valid token, answered from memory",
            all.strangers,
        );
        metrics
    }

    /// Counts a review in flight.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a request that got no review, or whose object could not be read.
    pub fn turned_away(&self, why: Turned) {
        self.turned_away.get_or_create(&TurnedLabels { reason: why.word() }).inc();
    }

    /// Counts a review whose caller does not count as the API server.
    pub(crate) fn stranger(&self) {
        self.strangers.inc();
    }

    /// Counts a review that was answered late.
    pub fn deadline_exceeded(&self) {
        self.deadline_exceeded.inc();
    }

    /// Counts an answered review.
    pub fn decided(&self, decided: &Decided<'_>) {
        let webhook = trace::webhook(decided.phase);
        let duration = match decided.phase {
            Phase::Mutate => &self.mutate_duration,
            Phase::Validate => &self.validate_duration,
        };
        let decision = decided.decision.word();
        let kind = decided.kind.map_or("other", Kind::name);
        trace::decided(kind, decided.operation, decision);
        let labels = RequestLabels { webhook, operation: decided.operation, kind, decision };
        self.requests.get_or_create(&labels).inc();
        duration.observe(decided.took.as_secs_f64());
        self.patch_operations.inc_by(u64::try_from(decided.patched).unwrap_or(u64::MAX));
        for verdict in decided.verdicts {
            self.judged(decided.phase, verdict);
        }
    }

    fn judged(&self, phase: Phase, verdict: &Verdict) {
        match phase {
            Phase::Mutate => {
                if let Some(pinned) = &verdict.pinned {
                    let pins = match pinned.source {
                        PinSource::Sibling => &self.sibling_pins,
                        PinSource::Registry => &self.registry_pins,
                        PinSource::LastKnown { .. } => &self.last_known_pins,
                    };
                    pins.inc();
                }
                if verdict.foreign_owner {
                    self.foreign_owner.inc();
                }
            }
            Phase::Validate => {
                if !verdict.matched {
                    self.unmatched.inc();
                }
                let found = verdict.findings.iter().map(|finding| ImageLabels {
                    result: effect(finding.effect),
                    code: finding.code().as_str(),
                });
                let fine = verdict.findings.is_empty() && verdict.matched;
                let fine = fine.then_some(ImageLabels { result: Decision::Allow.word(), code: "none" });
                for labels in found.chain(fine) {
                    self.images.get_or_create(&labels).inc();
                }
            }
        }
    }
}

/// The metrics of connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    open: Family<WhoLabels, Gauge>,
    closed: Family<ClosedLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhoLabels {
    who: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

/// The caller at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// It has shown a valid token.
    Known,
    /// It has not.
    Stranger,
}

/// The reason why the connection of a stranger was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// All places of strangers were taken.
    Full,
    /// It showed no token in time.
    Late,
}

impl Who {
    const ALL: [Self; 2] = [Self::Known, Self::Stranger];

    const fn labels(self) -> WhoLabels {
        WhoLabels {
            who: match self {
                Self::Known => "known",
                Self::Stranger => "stranger",
            },
        }
    }
}

impl Closed {
    const ALL: [Self; 2] = [Self::Full, Self::Late];

    const fn labels(self) -> ClosedLabels {
        ClosedLabels {
            reason: match self {
                Self::Full => "full",
                Self::Late => "late",
            },
        }
    }
}

impl Connections {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for who in Who::ALL {
            drop(metrics.open.get_or_create(&who.labels()));
        }
        for why in Closed::ALL {
            drop(metrics.closed.get_or_create(&why.labels()));
        }
        registry.register(
            "webhook_connections",
            "Open connections to the webhook's port, by what is known of the caller",
            metrics.open.clone(),
        );
        registry.register(
            "webhook_strangers_closed",
            "Connections that were closed before their caller showed a valid token",
            metrics.closed.clone(),
        );
        metrics
    }

    pub(crate) fn entered(&self, who: Who) {
        self.open.get_or_create(&who.labels()).inc();
    }

    pub(crate) fn left(&self, who: Who) {
        self.open.get_or_create(&who.labels()).dec();
    }

    pub(crate) fn closed(&self, why: Closed) {
        self.closed.get_or_create(&why.labels()).inc();
    }

    /// Returns the open known connections and strangers, and the strangers that were closed for want of places and
    /// late.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (i64, i64, u64, u64) {
        let open = |who: Who| self.open.get_or_create(&who.labels()).get();
        let closed = |why: Closed| self.closed.get_or_create(&why.labels()).get();
        (open(Who::Known), open(Who::Stranger), closed(Closed::Full), closed(Closed::Late))
    }
}

const fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Audit => Decision::Audit.word(),
        Effect::Warn => Decision::Warn.word(),
        Effect::Deny => Decision::Deny.word(),
    }
}
