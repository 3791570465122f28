//! Admission reviews in, answers out: what is read of a request, which answer follows, and the server around it.
//! Every replica answers from its own memory; the decision itself is the pipeline's.

pub mod server;
pub mod tls;

mod mutate;
mod object;
mod response;
mod review;
mod router;
mod subject;
mod validate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::admission::object::Object;
use crate::admission::response::Answer;
use crate::admission::review::{Operation, Request};
use crate::cluster::Cluster;
use crate::domain::slot::Kind;
use crate::domain::subject::{Phase, Subject};
use crate::pipeline::{self, Review};
use crate::registry::{Resolve, Suggest};
use crate::telemetry::admission::{Decided, Metrics};

pub use router::{BODY_LIMIT, router};

/// Our own deadline of /mutate; the API server's is 5 s.
const MUTATE_WITHIN: Duration = Duration::from_millis(2500);
/// Our own deadline of /validate; the API server's is 10 s.
const VALIDATE_WITHIN: Duration = Duration::from_secs(5);
/// What is kept of the caller's deadline for the way back.
const WAY_BACK: Duration = Duration::from_millis(300);
/// The annotation that the kubelet gives the mirrors of its static pods.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The sub-resource through which ephemeral containers are added.
const EPHEMERAL_CONTAINERS: &str = "ephemeralcontainers";

/// What admission is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// User names of the built-in controllers, whose objects are children.
    pub controller_identities: BTreeSet<String>,
    /// Reviews that are worked on at the same time; more are turned away with 503.
    pub in_flight: usize,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Answers reviews.
pub struct Admission<R> {
    cluster: Arc<Cluster>,
    registry: R,
    settings: Settings,
    metrics: Metrics,
}

/// What a review is about, when it is ours to judge.
struct Judged<'a> {
    request: &'a Request<'a>,
    object: Object<'a>,
    subject: Subject,
    review: Review,
}

impl Judged<'_> {
    fn ephemeral(&self) -> bool {
        self.request.sub_resource() == Some(EPHEMERAL_CONTAINERS)
    }
}

impl<R: Resolve + Suggest> Admission<R> {
    /// Joins the parts.
    pub fn new(cluster: Arc<Cluster>, registry: R, settings: Settings, metrics: Metrics) -> Self {
        Self { cluster, registry, settings, metrics }
    }

    /// Answers one review; an object that can not be read is an error of the caller.
    async fn answer(
        &self,
        phase: Phase,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Answer, serde_json::Error> {
        let started = Instant::now();
        let kind = request.kind();
        let judged = match kind {
            Some(kind) => self.judge(phase, kind, request, deadline).await?,
            None => None,
        };
        let answer = match (&judged, phase) {
            (None, _) => Answer::default(),
            (Some(judged), Phase::Mutate) => mutate::answer(judged),
            (Some(judged), Phase::Validate) => validate::answer(judged),
        };
        self.metrics.decided(&Decided {
            phase,
            operation: match request.operation() {
                Operation::Create => "CREATE",
                Operation::Update => "UPDATE",
                Operation::Other => "other",
            },
            kind,
            refused: answer.refusal.is_some(),
            patched: answer.patch.is_some(),
            verdicts: judged.as_ref().map_or(&[], |judged| &judged.review.verdicts),
            took: started.elapsed(),
        });
        if Instant::now() > deadline {
            self.metrics.deadline_exceeded();
        }
        Ok(answer)
    }

    /// Decides what is ours to judge; nothing otherwise, which allows.
    async fn judge<'a>(
        &self,
        phase: Phase,
        kind: Kind,
        request: &'a Request<'a>,
        deadline: Instant,
    ) -> Result<Option<Judged<'a>>, serde_json::Error> {
        let ours = match (phase, kind, request.sub_resource()) {
            (_, Kind::Pod, None | Some(EPHEMERAL_CONTAINERS)) => true,
            (Phase::Mutate, _, _) => false,
            (Phase::Validate, _, sub_resource) => sub_resource.is_none(),
        };
        let Some(raw) = request.object.filter(|_| ours && request.operation() != Operation::Other) else {
            return Ok(None);
        };
        let object = Object::parse(kind, raw)?;
        let old = match request.operation() {
            Operation::Update => request.old_object.map(|raw| Object::parse(kind, raw)).transpose()?,
            Operation::Create | Operation::Other => None,
        };
        let mirror = kind == Kind::Pod
            && request.operation() == Operation::Create
            && request.is_node()
            && object.annotation(MIRROR).is_some();
        if mirror || (old.is_some() && object.being_deleted()) {
            return Ok(None);
        }
        let subject =
            subject::subject(&self.cluster, &self.settings, request, &object, old.as_ref(), deadline).await;
        let review = pipeline::review(
            phase,
            &subject,
            &self.cluster.policies(),
            &self.registry,
            &*self.cluster.pods,
            (self.settings.now)(),
            deadline,
        )
        .await;
        Ok(Some(Judged { request, object, subject, review }))
    }
}

/// When a review must be answered: the caller's time-out or ours, whichever is shorter, less the way back.
fn deadline(phase: Phase, callers: Option<Duration>) -> Instant {
    let ours = match phase {
        Phase::Mutate => MUTATE_WITHIN,
        Phase::Validate => VALIDATE_WITHIN,
    };
    let within = callers.map_or(ours, |callers| callers.min(ours));
    Instant::now() + within.saturating_sub(WAY_BACK)
}
