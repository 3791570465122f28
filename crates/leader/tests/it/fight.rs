//! Others who change the webhook configurations: what they add stays, and who undoes our writes is met with pauses that
//! grow, and is named.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin_leader::webhook_config::Installed;
use tokio::time::{Instant, timeout};

use crate::webhook_config::{
    Keeper, MUTATING, VALIDATING, Watches, armed, chart, emptied, live, mutating, secret, through, validating,
};
use tagpin_testing::scripted_api::{Call, Watch};

const CANARY: &str = "POST /api/v1/namespaces/tagpin-system/podtemplates";

/// Returns the configuration with a condition that a control plane adds to the selectors of every webhook.
fn with_additions(mut configuration: Value) -> Value {
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap();
        expressions.push(json!({ "key": "control-plane", "operator": "DoesNotExist" }));
    }
    configuration
}

#[tokio::test(start_paused = true)]
async fn what_a_control_plane_adds_stays_also_when_we_write_and_is_counted() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let held = (live(with_additions(mutating()), "5"), live(with_additions(validating()), "5"));
    let watches = keeper.watches_with(1, json!([held.0]), json!([held.1])).await;
    keeper.until(Installed::Yes).await;
    keeper.quiet(Duration::from_secs(20)).await;
    assert_eq!(*keeper.added.borrow(), 4);

    keeper.certificate.send_replace(secret("CA2"));
    for (path, name, watch, wanted) in [
        (MUTATING, "zz-tagpin", &watches.mutating, with_additions(mutating())),
        (VALIDATING, "tagpin", &watches.validating, with_additions(validating())),
    ] {
        let write = keeper.write(path, name).await;
        let mut made = write.json();
        for webhook in made["webhooks"].as_array_mut().unwrap() {
            assert_eq!(webhook["clientConfig"]["caBundle"], "Q0Ey");
            webhook["clientConfig"]["caBundle"] = json!("Q0E=");
        }
        assert_eq!(made, wanted);
        let held = live(write.json(), "7");
        write.ok(held.clone());
        watch.event("MODIFIED", held);
    }
    keeper.quiet(Duration::from_secs(20)).await;
}

/// A tool that empties the validating list whenever it was filled.
struct Rule {
    keeper: Keeper,
    watches: Watches,
    /// The open watch of the validating configuration, once it was opened again.
    reopened: Option<Watch>,
    others: Vec<Watch>,
    version: u32,
    /// Number of times that we asked who it is.
    asked: usize,
}

impl Rule {
    async fn start() -> Self {
        let mut keeper = Keeper::start();
        keeper.fill_stores();
        let held = (live(mutating(), "5"), live(validating(), "5"));
        let watches = keeper.watches_with(1, json!([held.0]), json!([held.1])).await;
        keeper.until(Installed::Yes).await;
        let mut rule = Self { keeper, watches, reopened: None, others: Vec::new(), version: 100, asked: 0 };
        rule.tells(chart(validating()));
        rule
    }

    /// Reports the validating configuration in a new version.
    fn tells(&mut self, configuration: Value) {
        self.version += 1;
        let object = live(configuration, &self.version.to_string());
        self.reopened.as_ref().unwrap_or(&self.watches.validating).event("MODIFIED", object);
    }

    /// Returns the next write. Canaries come through, and watches are opened again.
    async fn write(&mut self) -> Call {
        loop {
            let call = self.keeper.call().await;
            match (call.line(), call.query.contains_key("watch")) {
                (line, _) if line == CANARY => through(call),
                (_, true) if call.path == VALIDATING => self.reopened = Some(call.watch()),
                (_, true) => self.others.push(call.watch()),
                (line, false) if line == format!("GET {VALIDATING}") => {
                    assert_eq!(call.query["fieldSelector"], "metadata.name%3Dtagpin");
                    self.asked += 1;
                    let by =
                        |manager: &str, time: &str| json!({ "manager": manager, "time": time, "x": [1] });
                    let managed = json!([
                        by("helm", "2026-11-21T09:00:00Z"),
                        by("gitops", "2026-11-21T10:00:00Z"),
                        by("tagpin-webhooks", "2026-11-21T10:00:01Z"),
                    ]);
                    call.list(json!([{ "metadata": { "managedFields": managed } }]), "10");
                }
                _ => return call,
            }
        }
    }

    /// Undoes this many writes, and returns the seconds between the writes.
    async fn undoes(&mut self, writes: usize) -> Vec<u64> {
        let (mut gaps, mut last) = (Vec::new(), None);
        for _ in 0..writes {
            let write = self.write().await;
            assert_eq!((write.line(), write.json()), (format!("PATCH {VALIDATING}/tagpin"), validating()));
            gaps.extend(last.replace(Instant::now()).map(|last: Instant| last.elapsed().as_secs()));
            self.version += 1;
            write.ok(live(validating(), &self.version.to_string()));
            self.tells(emptied(validating()));
        }
        gaps
    }
}

fn contested() -> Installed {
    Installed::Contested { configuration: "tagpin", by: "gitops".into() }
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_undoes_ours_is_named_and_met_with_growing_pauses() {
    let mut rule = Rule::start().await;
    assert_eq!(rule.undoes(3).await, [2, 2]);
    assert_eq!(rule.asked, 0, "two repairs are no fight");
    assert_eq!(rule.undoes(10).await, [4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!((rule.keeper.state(), rule.asked), (contested(), 10));

    // The rule is gone. The last repair stays, and after ten minutes the fight is over.
    let write = rule.write().await;
    rule.version += 1;
    write.ok(live(validating(), &rule.version.to_string()));
    rule.tells(validating());
    let repaired = Instant::now();
    let mut installed = rule.keeper.states();
    let peace = async {
        tokio::select! {
            call = rule.write() => panic!("{}", call.line()),
            _ = installed.wait_for(|state| *state == Installed::Yes) => {}
        }
    };
    timeout(Duration::from_mins(11), peace).await.unwrap();
    // The last undone write was 300 s before.
    assert!((298..=302).contains(&repaired.elapsed().as_secs()), "{:?}", repaired.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_closes_is_opened_at_once_also_in_a_fight() {
    let mut rule = Rule::start().await;
    rule.undoes(9).await;
    let start = Instant::now();
    rule.tells(armed());
    let opening = rule.write().await;
    assert_eq!(opening.query["fieldManager"], "tagpin-disarm");
    assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_change_once_in_a_while_is_no_fight() {
    let mut rule = Rule::start().await;
    for _ in 0..6 {
        let write = rule.write().await;
        rule.version += 1;
        let held = live(write.json(), &rule.version.to_string());
        write.ok(held);
        rule.tells(validating());
        let calm = async { panic!("{}", rule.write().await.line()) };
        let calm: Result<(), _> = timeout(Duration::from_secs(61), calm).await;
        assert!(calm.is_err());
        assert_eq!(rule.keeper.state(), Installed::Yes);
        rule.tells(emptied(validating()));
    }
    assert_eq!(rule.asked, 0);
}
