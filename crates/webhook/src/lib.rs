//! Admission reviews in, answers out: what is read of a request, which answer follows, and the server around it.
//! Every replica answers from its own memory; the decision itself is the pipeline's.

pub mod metrics;
pub mod server;
pub mod tls;
mod trace;

mod patience;
mod router;

mod body;
mod in_time;
mod review;

mod mutate;
mod unreadable;
mod validate;

mod response;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::info;

use crate::metrics::{Decided, Decision, Metrics};
use crate::response::Answer;
use crate::review::{Operation, Request};
use tagpin_domain::denial::{Code, shown};
use tagpin_domain::policy::PolicySet;
use tagpin_domain::subject::{Phase, Subject, Suggestions};
use tagpin_domain::unreadable::Unreadable;
use tagpin_objects::canary;
use tagpin_objects::kinds::{Kinds, POD_TEMPLATE, Row};
use tagpin_objects::reader::{Document, Wanted};
use tagpin_review::{self as pipeline, Pins, Ports, Resolve, Review, Suggest, Surroundings};

pub use body::BODY_LIMIT;
pub use router::router;

/// The sub-resource through which ephemeral containers are added.
const EPHEMERAL_CONTAINERS: &str = "ephemeralcontainers";
/// Characters of a name in a log line.
const NAME_SHOWN: usize = 253;

/// What admission is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// User names of the built-in controllers, whose objects are children.
    pub controller_identities: BTreeSet<String>,
    /// Namespaces of which nothing is judged, whoever sends us their reviews.
    pub excluded_namespaces: BTreeSet<String>,
    /// Reviews that are worked on at the same time; more are turned away with 503.
    pub in_flight: usize,
    /// The kinds that are judged.
    pub kinds: Kinds,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Everything that reviews ask registries.
#[derive(Clone)]
pub struct Registries {
    /// What they say of tags.
    pub resolve: Arc<dyn Resolve>,
    /// What to type instead.
    pub suggest: Arc<dyn Suggest>,
}

/// Answers reviews.
pub struct Admission {
    surroundings: Arc<dyn Surroundings>,
    pins: Arc<dyn Pins>,
    registries: Registries,
    settings: Settings,
    metrics: Metrics,
}

/// A review that arrived.
struct Asked<'a> {
    phase: Phase,
    /// The entry of namespaces with break glass brought it.
    break_glass: bool,
    request: &'a Request<'a>,
    /// The object, if it was read with the request.
    read: Option<Box<Document<'a>>>,
    arrived: Instant,
    deadline: Instant,
}

/// What a review is about, when it is ours to judge.
struct Judged<'a> {
    object: Box<Document<'a>>,
    /// Only ephemeral containers are added, by their sub-resource.
    ephemeral: bool,
    subject: Subject,
    review: Review,
}

impl Admission {
    /// Joins the parts.
    #[must_use]
    pub const fn new(
        surroundings: Arc<dyn Surroundings>,
        pins: Arc<dyn Pins>,
        registries: Registries,
        settings: Settings,
        metrics: Metrics,
    ) -> Self {
        Self { surroundings, pins, registries, settings, metrics }
    }

    /// The bytes of the answer to one review.
    async fn answer(&self, asked: Asked<'_>) -> String {
        let Asked { phase, break_glass, request, read, arrived, deadline } = asked;
        let row = request.row();
        let canary = self.canary(phase, request);
        let judged = match row {
            Some(row) if canary.is_none() && !break_glass => {
                match self.judge(phase, row, request, read, deadline).await {
                    Ok(judged) => judged.map(Ok),
                    Err(why) => Some(Err(self.unreadable(phase, row, request, why, deadline).await)),
                }
            }
            _ => None,
        };
        let (answer, judged) = match judged {
            None if break_glass => (self.break_glass(request), None),
            None => (canary.unwrap_or_else(|| Answer::new(Decision::Skip)), None),
            Some(Err(unreadable)) => (unreadable, None),
            Some(Ok(judged)) => {
                let answer = match phase {
                    Phase::Mutate => {
                        let keys = self.surroundings.keys();
                        let signer = keys.as_ref().and_then(|keys| keys.signer((self.settings.now)()));
                        mutate::answer(&judged, signer)
                    }
                    Phase::Validate => validate::answer(&judged),
                };
                (answer, Some(judged))
            }
        };
        let bytes = answer.to_json(request.uid());
        let now = Instant::now();
        self.metrics.decided(&Decided {
            phase,
            operation: match request.operation() {
                Operation::Create => "CREATE",
                Operation::Update => "UPDATE",
                Operation::Other => "other",
            },
            kind: row.map(|row| row.kind),
            decision: answer.decision,
            verdicts: judged.as_ref().map_or(&[], |judged| &judged.review.verdicts),
            patched: answer.patch.as_ref().map_or(0, |patch| patch.operations),
            took: now.duration_since(arrived),
        });
        if now > deadline {
            self.metrics.deadline_exceeded();
        }
        if let (Decision::Deny, Some(row)) = (answer.decision, row) {
            let name =
                judged.as_ref().map_or_else(|| request.name().to_owned(), |judged| judged.object.name());
            info!(
                uid = shown(request.uid(), NAME_SHOWN),
                kind = row.kind.name(),
                namespace = shown(request.namespace(), NAME_SHOWN),
                name = shown(&name, NAME_SHOWN),
                codes = answer.noted("codes"),
                "refused"
            );
        }
        bytes
    }

    /// The answer to the leader's canary. Nothing else is judged in its namespace, so nobody is kept from anything.
    fn canary(&self, phase: Phase, request: &Request<'_>) -> Option<Answer> {
        let is_asked = phase == Phase::Validate
            && request.row().is_some_and(|row| row.kind == POD_TEMPLATE)
            && request.operation() == Operation::Create
            && self.settings.excluded_namespaces.contains(request.namespace());
        let raw = request.object().filter(|_| is_asked)?;
        let object = request.read(request.row()?, raw).ok()?;
        let warning = object.canary().filter(|_| object.name() == canary::NAME).and_then(canary::warning)?;
        let mut answer = Answer::new(Decision::Canary);
        answer.warnings.push(warning);
        Some(answer)
    }

    /// The answer to what a namespace with break glass sends: it is not looked at, and the audit log says so.
    fn break_glass(&self, request: &Request<'_>) -> Answer {
        info!(
            uid = shown(request.uid(), NAME_SHOWN),
            namespace = shown(request.namespace(), NAME_SHOWN),
            "allowed by break glass"
        );
        Answer::new(Decision::BreakGlass)
    }

    /// Decides what is ours to judge; nothing otherwise, which allows.
    async fn judge<'a>(
        &self,
        phase: Phase,
        row: &'static Row,
        request: &'a Request<'a>,
        read: Option<Box<Document<'a>>>,
        deadline: Instant,
    ) -> Result<Option<Judged<'a>>, Unreadable> {
        let ephemeral = match (row.is_pod(), request.sub_resource()) {
            (true, Some(EPHEMERAL_CONTAINERS)) => true,
            (true, None) => false,
            (_, None) if phase == Phase::Validate => false,
            _ => return Ok(None),
        };
        let raw = request.object().filter(|_| {
            request.operation() != Operation::Other
                && !self.settings.excluded_namespaces.contains(request.namespace())
        });
        let Some(raw) = raw else { return Ok(None) };
        let object = match read {
            Some(object) => object,
            None => request.read(row, raw)?,
        };
        let old = match request.operation() {
            // Where it cannot be read, everything counts as changed.
            Operation::Update => request.old_object().and_then(|raw| request.read(row, raw).ok()),
            Operation::Create | Operation::Other => None,
        };
        if is_left_alone(request, &object, old.as_deref()) {
            return Ok(None);
        }
        let policies = self.surroundings.policies();
        let subject = self.subject(request, &object, old.as_deref(), &policies, deadline).await;
        let now = (self.settings.now)();
        let ports = Ports {
            resolve: &*self.registries.resolve,
            suggest: &*self.registries.suggest,
            pins: &*self.pins,
        };
        let mut review = pipeline::review(phase, &subject, &policies, ports, now, deadline).await;
        if review.denies_for(Code::NotPinned) && self.surroundings.pinning_is_off(deadline).await {
            review.soften_unpinned();
        }
        Ok(Some(Judged { object, ephemeral, subject, review }))
    }

    async fn subject(
        &self,
        request: &Request<'_>,
        object: &Document<'_>,
        old: Option<&Document<'_>>,
        policies: &PolicySet,
        deadline: Instant,
    ) -> Subject {
        let namespace = request.namespace();
        let keys = pipeline::Asked::label_keys(policies, namespace);
        let workload =
            |object: &Document<'_>, wanted| object.workload(&self.settings.kinds, namespace, wanted);
        let no_keys = BTreeSet::new();
        let asked = pipeline::Asked {
            workload: workload(object, Wanted::Keys(&keys)),
            old: old.map(|old| workload(old, Wanted::Keys(&no_keys))),
            by_controller: self.settings.controller_identities.contains(request.user()),
            suggestions: if request.dry_run() { Suggestions::Cached } else { Suggestions::Ask },
        };
        pipeline::subject(asked, policies, &*self.surroundings, deadline).await
    }
}

/// What the match conditions keep away from us, should it come nevertheless.
fn is_left_alone(request: &Request<'_>, object: &Document<'_>, old: Option<&Document<'_>>) -> bool {
    match request.operation() {
        // The mark alone can be set by anybody; static pods were not admitted by the API server anyway.
        Operation::Create => object.row.is_pod() && request.is_node() && object.is_marked_mirror(),
        // A finalizer must go; and scaling or labelling an old template is no reason to judge it.
        Operation::Update => object.being_deleted() || old.is_some_and(|old| object.has_template_of(old)),
        Operation::Other => false,
    }
}
