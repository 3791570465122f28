//! The numbers of steps that ordinary and hostile policies take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::asker::Requester;
use crate::check::{Check, Rule};
use crate::draft::{Drafts, drafts};
use crate::glob::Globs;
use crate::kind::Kind;
use crate::policy::{
    Children, Exception, Identities, Mode, Outcome, Policy, PolicyId, PolicySet, Resolution, Scope,
};
use crate::requirement::policies_of;
use crate::slot::tests::container;
use crate::subject::{Phase, Subject, Surrounding, TopOwner};
use crate::verdict::Effect;
use crate::workload::{LabelSet, Labels, Workload};

const POD: Kind = Kind::new("", "Pod");
const SHOP: Option<&str> = Some("shop");

fn globs(written: impl IntoIterator<Item = String>) -> Globs {
    Globs::new(&written.into_iter().collect::<Vec<_>>()).unwrap()
}

fn exception(images: Globs) -> Exception {
    Exception {
        name: "e".to_owned(),
        images: Some(images),
        namespaces: BTreeSet::new(),
        identities: None,
        rules: [Rule::Tags].into_iter().collect(),
        expires: Timestamp::MAX,
    }
}

fn policy(
    namespace: Option<&str>,
    images: Option<Globs>,
    forbidden: Globs,
    exceptions: Vec<Exception>,
) -> Policy {
    Policy {
        id: PolicyId { namespace: namespace.map(str::to_owned), name: "p".to_owned() },
        mode: Mode::Enforce,
        children: Children::Warn,
        scope: Scope { images, ..Scope::default() },
        checks: vec![Check::Limit, Check::Reference, Check::Tags { forbidden, require_explicit: true }],
        resolution: Resolution {
            last_known_max_age: Duration::ZERO,
            on_unavailable: Outcome::Warn,
            on_unauthorized: Outcome::Warn,
            on_forbidden_address: Outcome::Warn,
        },
        exceptions,
        idle_globs: Vec::new(),
    }
}

/// Returns a policy with more globs than most have.
fn ordinary() -> Policy {
    let images =
        ["docker.io/library/*", "ghcr.io/acme/**", "*.dkr.ecr.*.amazonaws.com/**", "example.com/**/api-*"];
    let tags =
        ["latest", "main", "master", "dev-*", "*-rc?", "*-snapshot*", "nightly-[0-9]*", "{alpha,beta}*"];
    let exceptions = ["ghcr.io/acme/legacy-*", "docker.io/acme/{a,b,c}", "**/debug"];
    let exceptions = exceptions.map(|glob| exception(globs([glob.to_owned()])));
    policy(None, Some(globs(images.map(str::to_owned))), globs(tags.map(str::to_owned)), exceptions.into())
}

/// Returns a policy with as many exceptions as the API server takes, all of globs that are slow to match.
fn hostile(namespace: Option<&str>, exceptions: usize) -> Policy {
    let glob = |n: usize| format!("a.b/{}b{n}", "*a".repeat(120));
    policy(namespace, None, globs([]), (0..exceptions).map(|_| exception(globs((0..16).map(glob)))).collect())
}

/// Returns a long name of an image, on which the globs of [`hostile`] take the longest.
fn long(number: usize) -> String {
    format!("a.b/{}{number}:1", "a".repeat(240))
}

fn set(policies: impl IntoIterator<Item = Policy>) -> PolicySet {
    let mut set = PolicySet::default();
    for policy in policies {
        match policy.id.namespace.clone() {
            None => set.cluster.push(Arc::new(policy)),
            Some(namespace) => set.namespaced.entry(namespace).or_default().push(Arc::new(policy)),
        }
    }
    set
}

fn pod(images: impl IntoIterator<Item = String>) -> Subject {
    let slots = images.into_iter().enumerate();
    let slots = slots.map(|(n, image)| container(&format!("c{n}"), n, &image)).collect();
    let workload = Workload { slots, ..Workload::new(POD, true, "shop", "web") };
    let surrounding =
        Surrounding::unasked(LabelSet::of_namespace("shop", Some(Labels::new())), TopOwner::Known(POD));
    Subject::of(workload, Surrounding { by: Requester::default(), ..surrounding }, None)
}

fn judged<'a>(policies: &'a PolicySet, subject: &'a Subject) -> Drafts<'a> {
    let policies = policies_of(policies, subject);
    drafts(Phase::Validate, policies, subject, Timestamp::UNIX_EPOCH, Budget::default())
}

/// Returns the number of steps that the policies of the cluster took.
fn taken(policies: &PolicySet, subject: &Subject) -> u32 {
    let drafts = judged(policies, subject);
    assert!(drafts.unjudged.is_empty(), "{:?}", drafts.unjudged);
    STEPS - drafts.budget.cluster.left()
}

/// Each row has numbers of policies and of slots, and the maximum of the work, as a percentage of what there is.
#[test]
fn ordinary_policies_leave_most_of_the_work() {
    let image =
        |n| format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/acme/service-{n}/api:1.2.{n}-abcdef");
    for (policies, slots, percent) in [(1, 3, 1), (4, 3, 1), (16, 3, 4), (4, 64, 20), (16, 64, 75)] {
        let (policies, subject) = (set((0..policies).map(|_| ordinary())), pod((0..slots).map(image)));
        let taken = taken(&policies, &subject);
        assert!(taken < STEPS / 100 * percent, "{slots} slots: {taken}");
    }
    let policies = set((0..4).map(|_| ordinary()));
    let same = taken(&policies, &pod((0..1000).map(|n| image(n % 3))));
    assert!(same < STEPS / 4 * 3, "{same}");
}

#[test]
fn an_exception_is_matched_once_per_name() {
    let policies = set([hostile(None, 1)]);
    let of = |images: Vec<String>| taken(&policies, &pod(images));
    let one = of(vec![long(0)]);
    assert!(one > STEPS / 4, "{one}");
    let tags = |count: usize| (0..count).map(|n| format!("{}{n}", long(0))).collect::<Vec<_>>();
    // Each further slot of the name takes a look at the policy, and a demand.
    assert_eq!(of(tags(64)) - of(tags(40)), 24 * (1 + PART));
    assert_eq!(of(tags(40)) - one, 39 * (1 + PART));
    assert!(of(vec![long(0), "web:1".to_owned()]) > one);
}

#[test]
fn hostile_exceptions_cost_a_bounded_number_of_steps() {
    let (policies, subject) = (set([ordinary(), hostile(SHOP, 64)]), pod((0..64).map(long)));
    let Drafts { slots, unjudged, budget, namespaced_steps } = judged(&policies, &subject);
    let [left_out] = &*unjudged else { panic!("{unjudged:?}") };
    assert_eq!((left_out.kind, left_out.effect), (PolicyKind::ImagePolicy, Effect::Deny));
    assert_eq!(left_out.policies, [PolicyId { namespace: SHOP.map(str::to_owned), name: "p".to_owned() }]);
    assert_eq!(namespaced_steps, STEPS);
    // The others are judged on a half of their own.
    assert_eq!(slots.len(), 64);
    assert!(budget.cluster.left() > STEPS / 2);
    let (policies, subject) = (set([hostile(None, 64), hostile(SHOP, 64)]), pod([long(0)]));
    let both = judged(&policies, &subject).unjudged;
    let kinds: Vec<_> = both.iter().map(|left_out| left_out.kind).collect();
    assert_eq!(kinds, [PolicyKind::ClusterImagePolicy, PolicyKind::ImagePolicy]);
}

#[test]
fn each_kind_of_policy_has_a_half_of_its_own() {
    let one = taken(&set([hostile(None, 1)]), &pod([long(0)]));
    let images = STEPS as usize / (one as usize + 2 * PART as usize);
    let (policies, subject) = (set([hostile(None, 1), hostile(SHOP, 1)]), pod((0..images).map(long)));
    assert!(taken(&policies, &subject) > STEPS / 2);
    assert!(judged(&policies, &subject).namespaced_steps > STEPS / 2);
}

#[test]
fn what_is_spent_is_spent() {
    let work = Work { left: Cell::new(10) };
    assert_eq!((work.spend(4), work.left()), (Ok(()), 6));
    assert_eq!((work.spend(7), work.left()), (Err(Exhausted), 0));
    assert_eq!((work.spend(1), work.spend(0)), (Err(Exhausted), Ok(())));
}

/// A match ends when the work does, however long the glob and the name are.
#[test]
fn a_glob_takes_no_more_steps_than_there_are() {
    let glob = globs([format!("{}b", "*a".repeat(250))]);
    let work = Work { left: Cell::new(1000) };
    assert_eq!(glob.is_match(&"a".repeat(500), &work), Err(Exhausted));
    let work = Work::default();
    assert_eq!(glob.is_match(&"a".repeat(500), &work), Ok(false));
}

#[test]
fn an_identity_beyond_the_work_belongs_to_no_exception() {
    let none = || globs([]);
    let identities = Arc::new(Identities::new(globs(["*a*b*c*d".to_owned()]), none()));
    let for_identities = || Exception { identities: Some(Arc::clone(&identities)), ..exception(none()) };
    let exceptions = (0..64).map(|_| for_identities()).collect();
    let policies = set([policy(SHOP, None, none(), exceptions)]);
    let named = |user: &str, steps| {
        let budget = Budget::for_namespace(steps);
        policies.naming("shop", &Requester::new(user, false), &budget).len()
    };
    assert_eq!((named("abcd", STEPS), named("abc", STEPS), named("abcd", 0)), (64, 0, 0));
    let few = named("abcd", 200);
    assert!(few > 0 && few < 64, "{few}");
}
