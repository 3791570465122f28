//! The order and the time limits of a review. `tests/cases` shows the decisions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use tagpin_domain::check::{Check, Owners};
use tagpin_domain::digest::Digest;
use tagpin_domain::glob::Globs;
use tagpin_domain::kind::Kind;
use tagpin_domain::pin::Revision;
use tagpin_domain::policy::{Children, Mode, Outcome, Policy, PolicyId, Resolution, Scope};
use tagpin_domain::slot::{Field, Place, PullPolicy, Role, SlotKey};
use tagpin_domain::subject::{Controller, Surrounding, TopOwner};
use tagpin_domain::workload::{LabelSet, Labels, Workload};

const POD: Kind = Kind::new("", "Pod");

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{HEX}")).unwrap()
}

fn policy() -> Policy {
    let forbidden = Globs::new(&["latest".to_owned()]).unwrap();
    Policy {
        id: PolicyId { namespace: None, name: "baseline".into() },
        mode: Mode::Enforce,
        children: Children::Warn,
        scope: Scope::default(),
        checks: vec![
            Check::Limit,
            Check::Reference,
            Check::Tags { forbidden, require_explicit: false },
            Check::Existence,
            Check::Resolution,
            Check::Pin(Owners::BuiltIn),
        ],
        resolution: Resolution {
            last_known_max_age: Duration::from_hours(168),
            on_unavailable: Outcome::Deny,
            on_unauthorized: Outcome::Warn,
            on_forbidden_address: Outcome::Warn,
        },
        exceptions: Vec::new(),
        idle_globs: Vec::new(),
    }
}

fn policies() -> PolicySet {
    PolicySet { cluster: vec![policy().into()], ..PolicySet::default() }
}

fn pod(references: impl IntoIterator<Item = impl AsRef<str>>) -> Subject {
    let slots = references.into_iter().enumerate().map(|(index, reference)| {
        let key = SlotKey { role: Role::Container, name: format!("c{index}").into() };
        let field = Field { root: &["spec"], list: "containers", index, leaf: &["image"] };
        Slot::new(Place { key, field }, reference.as_ref(), PullPolicy::Unset)
    });
    let workload = Workload { slots: slots.collect(), ..Workload::new(POD, true, "shop", "web") };
    let surrounding = Surrounding {
        suggestions: Suggestions::Ask,
        ..Surrounding::unasked(LabelSet::of_namespace("shop", Some(Labels::new())), TopOwner::Known(POD))
    };
    Subject::of(workload, surrounding, None)
}

struct NoPins;

impl Pins for NoPins {
    fn sibling(&self, _: &Revision, _: &SlotKey, _: &str) -> Option<Digest> {
        None
    }

    fn first_seen(&self, _: &Revision, _: Instant) -> Option<Instant> {
        None
    }
}

struct NoNodes;

#[async_trait]
impl NodeImages for NoNodes {
    async fn holds(&self, image: &ImageRef, _: Instant) -> bool {
        panic!("nothing is missing, and the nodes are asked about {}", image.original());
    }
}

/// A registry that answers each look-up after a time, and counts the look-ups.
struct Slow {
    after: Duration,
    asked: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    suggested: AtomicUsize,
}

impl Slow {
    fn new(after: Duration) -> Self {
        Self {
            after,
            asked: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            suggested: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Resolve for Slow {
    fn remembered(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Option<Fact> {
        None
    }

    fn entry(&self, _: &ImageRef) -> Option<Arc<str>> {
        None
    }

    async fn resolve(&self, image: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Fact {
        self.asked.lock().unwrap().push(image.original().to_owned());
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(self.after).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Fact::Present(digest())
    }
}

#[async_trait]
impl Suggest for Slow {
    async fn version_of(&self, _: &ImageRef, _: &Asker, _: Effort) -> Named {
        self.suggested.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.after).await;
        Named { version: Some(Version { tag: "1.29.3".into(), digest: digest() }), shown: Some(true) }
    }

    async fn similar_tags(&self, _: &ImageRef, _: &Asker, _: Effort) -> Vec<String> {
        Vec::new()
    }
}

/// A registry that remembers every tag, and must not be asked in any other way.
struct Warm;

#[async_trait]
impl Resolve for Warm {
    fn remembered(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Option<Fact> {
        Some(Fact::Present(digest()))
    }

    fn entry(&self, _: &ImageRef) -> Option<Arc<str>> {
        None
    }

    async fn resolve(&self, image: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Fact {
        panic!("{} is known already", image.original());
    }
}

#[tokio::test]
async fn what_is_remembered_is_not_asked_for() {
    let slow = Slow::new(Duration::ZERO);
    let ports = Ports { resolve: &Warm, suggest: &slow, pins: &NoPins, nodes: &NoNodes };
    let deadline = Instant::now() + Duration::from_secs(5);
    let subject = pod(["a:1", "b:1"]);
    let review = review(
        Phase::Mutate,
        &subject,
        &policies(),
        ports,
        Timestamp::UNIX_EPOCH,
        Budget::default(),
        deadline,
    )
    .await;
    assert!(review.verdicts.iter().all(|verdict| verdict.pinned.is_some()));
}

async fn run(subject: &Subject, registry: &Slow, limit: Duration) -> Review {
    review(
        Phase::Validate,
        subject,
        &policies(),
        Ports { resolve: registry, suggest: registry, pins: &NoPins, nodes: &NoNodes },
        Timestamp::UNIX_EPOCH,
        Budget::default(),
        Instant::now() + limit,
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn all_different_references_are_asked_for_once_and_at_the_same_time() {
    let registry = Slow::new(Duration::from_secs(1));
    let subject = pod(["a:1", "b:1", "a:1", "c:1", "b:1"]);
    let start = Instant::now();
    run(&subject, &registry, Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert_eq!(registry.most_at_once.load(Ordering::SeqCst), 3);
    assert_eq!(registry.asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_is_unavailable_before_the_deadline() {
    let registry = Slow::new(Duration::from_secs(3600));
    let start = Instant::now();
    let review = run(&pod(["a:1", "b:1"]), &registry, Duration::from_secs(5)).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let codes: Vec<_> =
        review.verdicts.iter().flat_map(|verdict| &verdict.findings).map(|f| f.code()).collect();
    assert_eq!(codes, [Code::RegistryUnavailable, Code::RegistryUnavailable]);
    assert!(review.denied());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_still_gives_a_verdict() {
    let registry = Slow::new(Duration::from_secs(1));
    let review = run(&pod(["a:1"]), &registry, Duration::ZERO).await;
    assert!(review.verdicts[0].shows(Code::RegistryUnavailable));
}

#[tokio::test(start_paused = true)]
async fn suggestions_take_no_more_than_their_time() {
    let registry = Slow::new(Duration::from_secs(60));
    let start = Instant::now();
    let review = run(&pod(["a:latest"]), &registry, Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), SUGGESTION_TIME);
    assert_eq!(review.verdicts[0].instead, None);
    assert!(review.denied());
}

#[tokio::test(start_paused = true)]
async fn suggestions_are_asked_for_few_references() {
    let registry = Slow::new(Duration::ZERO);
    let review = run(&pod((0..40).map(|n| format!("a{n}:latest"))), &registry, Duration::from_secs(5)).await;
    assert_eq!(registry.suggested.load(Ordering::SeqCst), SUGGESTION_LIMIT);
    assert_eq!(review.verdicts.iter().filter(|v| v.instead.is_some()).count(), SUGGESTION_LIMIT);
}

#[tokio::test]
async fn only_a_missing_pin_is_softened() {
    let slow = Slow::new(Duration::ZERO);
    let ports = Ports { resolve: &Warm, suggest: &slow, pins: &NoPins, nodes: &NoNodes };
    let deadline = Instant::now() + Duration::from_secs(5);
    let warn = PolicyId { namespace: None, name: "warn".into() };
    let warns = Policy { id: warn.clone(), mode: Mode::Warn, ..policy() };
    let audit = PolicyId { namespace: None, name: "audit".into() };
    let audits = Policy { id: audit.clone(), mode: Mode::Audit, ..policy() };
    let policies =
        PolicySet { cluster: [audits, warns, policy()].map(Into::into).into(), ..PolicySet::default() };
    let subject = pod(["a:1", "b:latest"]);
    let mut review = review(
        Phase::Validate,
        &subject,
        &policies,
        ports,
        Timestamp::UNIX_EPOCH,
        Budget::default(),
        deadline,
    )
    .await;
    assert!(review.denies_for(Code::NotPinned));
    let forbidden = review.verdicts[1].clone();
    review.soften_unpinned();
    let findings = review.verdicts[0].findings.iter();
    let findings: Vec<_> =
        findings.map(|f| (f.code(), f.effect, f.retry_after.is_some(), f.policy.clone())).collect();
    assert_eq!(
        findings,
        [
            (Code::NotPinned, Effect::Warn, false, policy().id),
            (Code::NotPinned, Effect::Warn, false, warn),
            (Code::NotPinned, Effect::Audit, false, audit),
        ]
    );
    assert_eq!(review.verdicts[1], forbidden);
    assert!(review.denied());
}

#[tokio::test(start_paused = true)]
async fn a_review_can_run_as_a_task() {
    let registry = Slow::new(Duration::from_millis(1));
    let task = tokio::spawn(async move { run(&pod(["a:1"]), &registry, Duration::from_secs(1)).await });
    assert_eq!(task.await.unwrap().verdicts.len(), 1);
}

/// Returns a pod of a revision with this controller and hash.
fn pod_of(controller: Option<Kind>, hash: &str, references: &[&str]) -> Subject {
    let mut subject = pod(references);
    subject.controller = if controller.is_some() { Controller::BuiltIn } else { Controller::Foreign };
    let [namespace, controller, hash] = ["shop", "uid", hash].map(str::to_owned);
    subject.revision = Some(Revision { namespace, controller, hash });
    subject
}

/// Knows one sibling's digest, and when each revision was first seen.
#[derive(Default)]
struct Known {
    sibling: Option<&'static str>,
    first: Option<Instant>,
    asked: AtomicUsize,
}

impl Pins for Known {
    fn sibling(&self, _: &Revision, _: &SlotKey, reference: &str) -> Option<Digest> {
        self.sibling.filter(|known| *known == reference).map(|_| digest())
    }

    fn first_seen(&self, _: &Revision, now: Instant) -> Option<Instant> {
        assert!(now <= Instant::now());
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.first
    }
}

/// A registry that records since when its answers must count. It remembers nothing.
#[derive(Default)]
struct Since(Mutex<Vec<(String, Option<Instant>)>>);

#[async_trait]
impl Resolve for Since {
    fn entry(&self, _: &ImageRef) -> Option<Arc<str>> {
        None
    }

    fn remembered(&self, image: &ImageRef, _: &Asker, since: Option<Instant>, _: Instant) -> Option<Fact> {
        self.0.lock().unwrap().push((image.original().to_owned(), since));
        None
    }

    async fn resolve(&self, image: &ImageRef, _: &Asker, since: Option<Instant>, _: Instant) -> Fact {
        self.0.lock().unwrap().push((image.original().to_owned(), since));
        Fact::Present(digest())
    }
}

/// Reviews a pod, and returns since when answers had to count, and how often the revision was looked up.
async fn since(subject: &Subject, pins: &Known) -> (Vec<(String, Option<Instant>)>, usize) {
    let (registry, slow) = (Since::default(), Slow::new(Duration::ZERO));
    let ports = Ports { resolve: &registry, suggest: &slow, pins, nodes: &NoNodes };
    let deadline = Instant::now() + Duration::from_secs(5);
    review(Phase::Validate, subject, &policies(), ports, Timestamp::UNIX_EPOCH, Budget::default(), deadline)
        .await;
    (registry.0.into_inner().unwrap(), pins.asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_pod_of_a_revision_gets_no_answer_that_is_older_than_the_revision() {
    let first = Some(Instant::now());
    let asked = |reference: &str| (reference.to_owned(), first);
    for (controller, hash) in [(Some(POD), "5d4f"), (Some(POD), ""), (None, "5d4f")] {
        let pins = Known { first, ..Known::default() };
        let (seen, looked_up) = since(&pod_of(controller, hash, &["a:1", "b:1"]), &pins).await;
        assert_eq!(seen, [asked("a:1"), asked("b:1"), asked("a:1"), asked("b:1")]);
        assert_eq!(looked_up, 1, "once for all slots");
    }
}

#[tokio::test]
async fn a_bare_pod_and_an_unlabelled_pod_of_a_custom_resource_get_answers_of_any_age() {
    for subject in [pod(["a:1"]), pod_of(None, "", &["a:1"])] {
        let pins = Known { first: Some(Instant::now()), ..Known::default() };
        let (seen, looked_up) = since(&subject, &pins).await;
        assert_eq!(seen, [("a:1".to_owned(), None), ("a:1".to_owned(), None)]);
        assert_eq!(looked_up, 0);
    }
}

#[tokio::test]
async fn a_revision_whose_slots_all_have_a_sibling_is_not_looked_up() {
    let first = Some(Instant::now());
    let known = || Known { sibling: Some("a:1"), first, ..Known::default() };
    let (seen, looked_up) = since(&pod_of(Some(POD), "5d4f", &["a:1"]), &known()).await;
    assert_eq!((seen, looked_up), (Vec::new(), 0));
    // A new slot of a known revision has no sibling.
    let (seen, looked_up) = since(&pod_of(Some(POD), "5d4f", &["a:1", "b:1"]), &known()).await;
    assert_eq!((seen, looked_up), (vec![("b:1".to_owned(), first), ("b:1".to_owned(), first)], 1));
}

/// A registry that has nothing.
struct Empty;

#[async_trait]
impl Resolve for Empty {
    fn entry(&self, _: &ImageRef) -> Option<Arc<str>> {
        None
    }

    fn remembered(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Option<Fact> {
        Some(Fact::TagMissing)
    }

    async fn resolve(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Fact {
        Fact::TagMissing
    }
}

/// Nodes that never answer.
struct Hanging;

#[async_trait]
impl NodeImages for Hanging {
    async fn holds(&self, _: &ImageRef, _: Instant) -> bool {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_answer_leave_the_refusal_before_the_deadline() {
    let slow = Slow::new(Duration::ZERO);
    let ports = Ports { resolve: &Empty, suggest: &slow, pins: &NoPins, nodes: &Hanging };
    let (start, limit) = (Instant::now(), Duration::from_secs(5));
    let subject = pod(["a:1", "b:1"]);
    let review = review(
        Phase::Validate,
        &subject,
        &policies(),
        ports,
        Timestamp::UNIX_EPOCH,
        Budget::default(),
        start + limit,
    )
    .await;
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    assert!(review.verdicts.iter().all(|verdict| verdict.denied() && !verdict.is_preloaded()));
}
