//! The facts that the subject of a review waits for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use tagpin_domain::asker::Secrets;
use tagpin_domain::kind::Kind;
use tagpin_domain::mark::Keys;
use tagpin_domain::policy::{Children, Mode, Outcome, Policy, PolicyId, Resolution, Scope};
use tagpin_domain::workload::{ForeignKind, Served};

/// A cluster whose service accounts are these, and that records which are looked up, and the time left for it.
struct Accounts(Known<Vec<String>>, Mutex<Vec<(String, Duration)>>);

#[async_trait]
impl Surroundings for Accounts {
    fn policies(&self) -> Arc<PolicySet> {
        panic!("the policies are given")
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        None
    }

    fn carries(&self, _: &Workload, _: &[&Slot], _: &BTreeSet<&str>) -> Vec<Vec<Labels>> {
        Vec::new()
    }

    fn needs_no_mark(&self, _: &str) -> bool {
        false
    }

    async fn namespace_labels(&self, _: &str, _: Instant) -> Option<Arc<Labels>> {
        panic!("no policy depends on them")
    }

    async fn pull_secrets(&self, namespace: &str, name: &str, deadline: Instant) -> Known<Vec<String>> {
        let left = deadline.duration_since(Instant::now());
        self.1.lock().unwrap().push((format!("{namespace}/{name}"), left));
        self.0.clone()
    }

    async fn top_owner(&self, _: &Workload, _: Instant) -> TopOwner {
        panic!("no policy depends on it")
    }

    async fn controller_of(&self, _: &ControllerRef, _: &str, _: Instant) -> Known<Option<ControllerRef>> {
        panic!("no policy depends on it")
    }

    async fn serves(&self, _: &ForeignKind, _: Instant) -> Served {
        panic!("no policy depends on it")
    }

    async fn pinning_is_off(&self, _: Instant) -> bool {
        false
    }
}

fn policies(check: Check) -> PolicySet {
    let policy = Policy {
        id: PolicyId { namespace: None, name: "p".into() },
        mode: Mode::Enforce,
        children: Children::Warn,
        scope: Scope::default(),
        checks: vec![check],
        resolution: Resolution {
            last_known_max_age: Duration::ZERO,
            on_unavailable: Outcome::Deny,
            on_unauthorized: Outcome::Warn,
            on_forbidden_address: Outcome::Warn,
        },
        exceptions: Vec::new(),
        idle_globs: Vec::new(),
    };
    PolicySet { cluster: vec![policy.into()], ..PolicySet::default() }
}

#[tokio::test(start_paused = true)]
async fn an_account_is_read_for_the_answer_of_a_registry_alone() {
    let all = Duration::from_secs(5);
    let own = ["own".to_owned()];
    let account = ["accounts".to_owned()];
    for (check, named, known, looked_up, secrets) in [
        (
            Check::Existence,
            &[][..],
            Known::Yes(account.to_vec()),
            Some(all),
            Secrets::Known(account.to_vec()),
        ),
        (Check::Existence, &[], Known::Unknown, Some(all), Secrets::Unknown),
        (Check::Existence, &[], Known::Yes(Vec::new()), Some(all), Secrets::Known(Vec::new())),
        (Check::Resolution, &[], Known::Unknown, Some(all), Secrets::Unknown),
        (Check::Pin(Owners::Any), &[], Known::Unknown, Some(all), Secrets::Unknown),
        // What is in memory counts for suggestions, too.
        (Check::Reference, &[], Known::Unknown, Some(Duration::ZERO), Secrets::Unknown),
        (Check::Existence, &own, Known::Unknown, None, Secrets::Known(own.to_vec())),
    ] {
        let surroundings = Accounts(known, Mutex::default());
        let mut workload = Workload::new(Kind::new("", "Pod"), true, "shop", "web");
        workload.pull_secrets = named.to_vec();
        workload.service_account = "robot".into();
        let asked = Asked {
            workload,
            old: None,
            by: Requester::default(),
            named: Vec::new(),
            suggestions: Suggestions::Ask,
        };
        let found = subject(asked, &policies(check), &surroundings, Instant::now() + all).await;
        assert_eq!(found.asker.secrets, secrets);
        let asked = looked_up.map(|left| ("shop/robot".to_owned(), left));
        assert_eq!(surroundings.1.into_inner().unwrap(), Vec::from_iter(asked));
    }
}
