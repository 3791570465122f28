//! The admission webhook: it reads reviews, has them decided by `tagpin-review`, writes the responses, and
//! serves HTTPS. Every replica responds from its own memory.

pub mod door;
pub mod metrics;
pub mod remembered;
pub mod server;
pub mod tls;
mod trace;

mod patience;
mod router;

mod body;
mod in_flight;
mod in_time;
mod review;

mod judged;
mod mutate;
mod pace;
mod strangers;
mod unreadable;
mod validate;

mod response;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::info;

use crate::judged::Judged;
use crate::metrics::{Decided, Metrics, Turned};
use crate::pace::Pace;
use crate::remembered::{Remembered, Sent};
use crate::response::ReviewResponse;
use crate::review::{Operation, Request};
use crate::strangers::{NodesNotAsked, OnlyRemembered, facts_deadline, withhold};
use tagpin_domain::asker::Requester;
use tagpin_domain::denial::{Code, shown};
use tagpin_domain::patch::excess;
use tagpin_domain::policy::PolicySet;
use tagpin_domain::subject::{Phase, Subject, Suggestions};
use tagpin_domain::unreadable::Unreadable;
use tagpin_domain::work::Budget;
use tagpin_domain::workload::is_custom_group;
use tagpin_json::Raw;
use tagpin_objects::canary;
use tagpin_objects::kinds::{Kinds, POD_TEMPLATE, Row};
use tagpin_objects::reader::{Document, Wanted, only_loses_owners};
use tagpin_review::{self as pipeline, NodeImages, Pins, Ports, Resolve, Suggest, Surroundings};

pub use body::BODY_LIMIT;
pub use response::Decision;
pub use router::router;

/// The sub-resource through which ephemeral containers are added.
const EPHEMERAL_CONTAINERS: &str = "ephemeralcontainers";
/// The name under which the work for strangers counts, which is no namespace's.
const STRANGERS: &str = "";
/// User name of the controller that removes owner references to objects which are deleted without their dependents.
const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
/// Maximum number of characters of a name in a log line.
const NAME_SHOWN: usize = 253;

/// The settings of the webhook.
#[derive(Debug, Clone)]
pub struct Settings {
    /// User names of the built-in controllers. Objects that they make are children.
    pub controller_identities: BTreeSet<String>,
    /// Namespaces in which nothing is judged, even if the API server sends a review.
    pub excluded_namespaces: BTreeSet<String>,
    /// Maximum number of reviews in flight; further ones get status 503.
    pub in_flight: usize,
    /// The kinds that are judged.
    pub kinds: Kinds,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// The look-ups in registries that reviews make.
#[derive(Clone)]
pub struct Registries {
    /// Looks up the digests of tags.
    pub resolve: Arc<dyn Resolve>,
    /// Suggests other tags.
    pub suggest: Arc<dyn Suggest>,
}

/// The webhook behind its HTTP paths.
pub struct Admission {
    surroundings: Arc<dyn Surroundings>,
    pins: Arc<dyn Pins>,
    nodes: Arc<dyn NodeImages>,
    registries: Registries,
    settings: Settings,
    metrics: Metrics,
    pace: Pace,
    remembered: Arc<Remembered>,
}

/// A review that has arrived.
struct Asked<'a> {
    phase: Phase,
    /// True if the webhook entry for namespaces with break glass sent the review.
    break_glass: bool,
    /// True if the caller counts as the API server.
    known: bool,
    request: &'a Request<'a>,
    /// The object, if it was read together with the request.
    read: Option<Box<Document<'a>>>,
    arrived: Instant,
    deadline: Instant,
}

impl Admission {
    /// Returns a webhook that consists of these parts.
    #[must_use]
    pub fn new(
        surroundings: Arc<dyn Surroundings>,
        pins: Arc<dyn Pins>,
        nodes: Arc<dyn NodeImages>,
        registries: Registries,
        settings: Settings,
        metrics: Metrics,
        remembered: Arc<Remembered>,
    ) -> Self {
        Self { surroundings, pins, nodes, registries, settings, metrics, pace: Pace::default(), remembered }
    }

    /// Returns the body of the response to one review, and the decision in it.
    async fn answer(&self, asked: Asked<'_>) -> (String, Decision) {
        let Asked { phase, break_glass, known, request, read, arrived, deadline } = asked;
        let row = request.row();
        let canary = self.canary(phase, request);
        let judged = match row {
            Some(row) if canary.is_none() && !break_glass => {
                match self.judge(phase, known, row, request, read, deadline).await {
                    Ok(judged) => judged.map(Ok),
                    Err(why) => {
                        let deadline = facts_deadline(known, deadline);
                        Some(Err(self.unreadable(phase, row, request, why, deadline).await))
                    }
                }
            }
            _ => None,
        };
        let (response, judged) = match judged {
            None if break_glass => (self.break_glass(request), None),
            None => (canary.unwrap_or_else(|| ReviewResponse::new(Decision::Skip)), None),
            Some(Err(unreadable)) => (unreadable, None),
            Some(Ok(mut judged)) => {
                let response = match phase {
                    Phase::Mutate => {
                        let keys = self.surroundings.keys();
                        let signer = keys.as_ref().and_then(|keys| keys.signer((self.settings.now)()));
                        mutate::respond(&mut judged, signer)
                    }
                    Phase::Validate => validate::respond(&judged),
                };
                (response, Some(judged))
            }
        };
        // What a stranger says of a user is not remembered.
        if let (Phase::Validate, true, Some(judged)) = (phase, known, &judged) {
            self.remember(request, judged);
        }
        let bytes = response.to_json(request.uid());
        let now = Instant::now();
        self.metrics.decided(&Decided {
            phase,
            operation: match request.operation() {
                Operation::Create => "CREATE",
                Operation::Update => "UPDATE",
                Operation::Other => "other",
            },
            kind: row.map(|row| row.kind),
            decision: response.decision,
            verdicts: judged.as_ref().map_or(&[], |judged| &judged.review.verdicts),
            patched: response.patch.as_ref().map_or(0, |patch| patch.operations),
            took: now.duration_since(arrived),
        });
        if now > deadline {
            self.metrics.deadline_exceeded();
        }
        if let (Decision::Deny, Some(row)) = (response.decision, row) {
            let name =
                judged.as_ref().map_or_else(|| request.name().to_owned(), |judged| judged.object.name());
            info!(
                uid = shown(request.uid(), NAME_SHOWN),
                kind = row.kind.name(),
                namespace = shown(request.namespace(), NAME_SHOWN),
                name = shown(&name, NAME_SHOWN),
                codes = response.noted("codes"),
                "refused"
            );
        }
        if !known {
            self.metrics.stranger();
        }
        (bytes, response.decision)
    }

    fn remember(&self, request: &Request<'_>, judged: &Judged<'_>) {
        let Subject { kind, is_pod, namespace, .. } = &judged.subject;
        let sent = Sent { kind: *kind, is_pod: *is_pod, namespace, user: request.user() };
        self.remembered.record(sent, &judged.review.verdicts, (self.settings.now)());
    }

    /// Returns the response to the leader's canary. Nothing else is judged in the canary's namespace.
    fn canary(&self, phase: Phase, request: &Request<'_>) -> Option<ReviewResponse> {
        let is_asked = phase == Phase::Validate
            && request.row().is_some_and(|row| row.kind == POD_TEMPLATE)
            && request.operation() == Operation::Create
            && self.settings.excluded_namespaces.contains(request.namespace());
        let raw = request.object().filter(|_| is_asked)?;
        let object = request.read(request.row()?, raw).ok()?;
        let warning = object.canary().filter(|_| object.name() == canary::NAME).and_then(canary::warning)?;
        let mut response = ReviewResponse::new(Decision::Canary);
        response.warnings.push(warning);
        Some(response)
    }

    /// Returns the response for a namespace with break glass. The object is not judged, and the audit log
    /// records it.
    fn break_glass(&self, request: &Request<'_>) -> ReviewResponse {
        info!(
            uid = shown(request.uid(), NAME_SHOWN),
            namespace = shown(request.namespace(), NAME_SHOWN),
            "allowed by break glass"
        );
        ReviewResponse::new(Decision::BreakGlass)
    }

    /// Judges the object of a review. Returns none if tagpin does not judge the object, so that it is
    /// allowed.
    async fn judge<'a>(
        &self,
        phase: Phase,
        known: bool,
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
        if row.is_revision() && !self.judges_revision(row, request, raw) {
            return Ok(None);
        }
        let object = match read {
            Some(object) => object,
            None => request.read(row, raw)?,
        };
        let old = match request.operation() {
            // If the old object cannot be read, every slot counts as changed.
            // The template of a revision never changes: whoever takes it over has it judged.
            Operation::Update if row.is_revision() => None,
            Operation::Update => request.old_object().and_then(|raw| request.read(row, raw).ok()),
            Operation::Create | Operation::Other => None,
        };
        if is_left_alone(request, &object, old.as_deref()) {
            return Ok(None);
        }
        let policies = self.surroundings.policies();
        // Anybody can send reviews that name this namespace, so strangers take no work from its policies.
        let paced = if known { request.namespace() } else { STRANGERS };
        let budget = self.pace.budget(paced, Instant::now());
        let steps = budget.namespaced_steps();
        let asked = self.asked(request, &object, old.as_deref(), &policies, &budget);
        let steps = steps - budget.namespaced_steps();
        let facts_by = facts_deadline(known, deadline);
        let mut subject = pipeline::subject(asked, &policies, &*self.surroundings, facts_by).await;
        let now = (self.settings.now)();
        let ports = Ports {
            resolve: &*self.registries.resolve,
            suggest: &*self.registries.suggest,
            pins: &*self.pins,
            nodes: &*self.nodes,
        };
        let (remembered, not_asked) = (OnlyRemembered(ports.resolve), NodesNotAsked);
        let ports = if known {
            ports
        } else {
            withhold(&mut subject);
            Ports { resolve: &remembered, nodes: &not_asked, ..ports }
        };
        let mut review = pipeline::review(phase, &subject, &policies, ports, now, budget, deadline).await;
        self.pace.count(paced, steps + review.namespaced_steps, Instant::now());
        if !review.unjudged.is_empty() {
            self.metrics.turned_away(Turned::Work);
        }
        if review.denies_for(Code::NotPinned) && self.surroundings.pinning_is_off(facts_by).await {
            review.soften_unpinned();
        } else if !ephemeral && let Some(excess) = excess(&subject, &review.verdicts, object.present()) {
            review.blame_annotations(excess);
        }
        Ok(Some(Judged { object, ephemeral, subject, review }))
    }

    /// Returns the object of a review and the circumstances of the request, under these policies.
    fn asked(
        &self,
        request: &Request<'_>,
        object: &Document<'_>,
        old: Option<&Document<'_>>,
        policies: &PolicySet,
        budget: &Budget,
    ) -> pipeline::Asked {
        let namespace = request.namespace();
        let keys = pipeline::Asked::label_keys(policies, namespace);
        let workload =
            |object: &Document<'_>, wanted| object.workload(&self.settings.kinds, namespace, wanted);
        let no_keys = BTreeSet::new();
        let groups = if policies.names_groups(namespace) { request.groups() } else { Vec::new() };
        let by = Requester { groups, ..Requester::new(request.user(), self.is_controller(request)) };
        pipeline::Asked {
            workload: workload(object, Wanted::Keys(&keys)),
            old: old.map(|old| workload(old, Wanted::Keys(&no_keys))),
            named: policies.naming(namespace, &by, budget),
            by,
            suggestions: if request.dry_run() { Suggestions::Cached } else { Suggestions::Ask },
        }
    }
}

impl Admission {
    /// Returns true if the identity of a built-in controller sent the request.
    fn is_controller(&self, request: &Request<'_>) -> bool {
        self.settings.controller_identities.contains(request.user())
    }

    /// Returns true if this ControllerRevision could excuse an image, and no controller's identity made it: a StatefulSet
    /// or DaemonSet owns it or may come to own it, which was not so before. While a custom resource owns a revision, nobody
    /// adopts it. The garbage collector may remove that owner from an otherwise unchanged revision. It would try again
    /// for ever if it were refused, and the custom resource would never be gone.
    fn judges_revision(&self, row: &'static Row, request: &Request<'_>, raw: Raw<'_>) -> bool {
        let excuses = |raw| {
            // What cannot be read here cannot be read as a whole, and is refused for that.
            let Ok(revision) = Document::parse_metadata(row, raw) else { return true };
            let Some(controller) = revision.controller(&self.settings.kinds) else { return true };
            let foreign = controller.foreign.as_ref().map(|foreign| &*foreign.group);
            !foreign.or(controller.kind.map(|kind| kind.group())).is_some_and(is_custom_group)
        };
        let before = request.old_object().filter(|_| request.operation() == Operation::Update);
        let is_orphaned = request.user() == GARBAGE_COLLECTOR
            && before.is_some_and(|before| only_loses_owners(raw, before));
        !self.is_controller(request) && !is_orphaned && excuses(raw) && !before.is_some_and(excuses)
    }
}

/// Returns true for a review that the match conditions should have filtered out.
fn is_left_alone(request: &Request<'_>, object: &Document<'_>, old: Option<&Document<'_>>) -> bool {
    match request.operation() {
        // Anybody can set the annotation of a mirror pod, so the user must be the node that runs the pod. No
        // admission can keep a node from running a static pod.
        Operation::Create => {
            object.row.is_pod() && object.is_marked_mirror() && request.is_by_node(object.node_name())
        }
        // An unchanged template is not judged when its object is scaled or labelled.
        Operation::Update => old.is_some_and(|old| object.has_template_of(old)),
        Operation::Other => false,
    }
}
