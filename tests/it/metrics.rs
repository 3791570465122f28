//! The metrics in `docs/metrics.md` are exactly those that `/metrics` exposes; dashboards and alerts use no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use regex::Regex;
use tagpin::telemetry::state::{self, PolicyCount, State};
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::Cloud;
use tagpin_domain::image::ImageRef;
use tagpin_domain::slot::Role;
use tagpin_domain::subject::Phase;
use tagpin_domain::verdict::{PinSource, Pinned, Verdict};
use tagpin_kube::metrics::Watches;
use tagpin_leader::canaries;
use tagpin_leader::reconcile;
use tagpin_objects::kinds::{POD, PODS};
use tagpin_registry::{AnsweredBy, Event, Observer as _, Purpose, RegistryMetrics, Skipped, Step, Unused};
use tagpin_webhook::Decision;
use tagpin_webhook::metrics::{Connections, Decided, Metrics, Turned};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Type and labels of each metric, by the name that queries use.
type Listed = BTreeMap<String, (String, BTreeSet<String>)>;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap()
}

/// Returns the verdict about a slot that is pinned, matched by a policy and compliant.
fn verdict() -> Verdict {
    let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    Verdict {
        pinned: Some(Pinned { digest, source: PinSource::Registry }),
        matched: true,
        ..Verdict::new(PODS.place(Role::Container, "web", 0), "web:1".into(), ImageRef::parse("web:1"))
    }
}

/// Returns the metrics of a replica in which each event has happened once.
fn exposed() -> String {
    let mut registry = tagpin::telemetry::metrics();
    let admission = Metrics::register(&mut registry);
    drop(admission.in_flight());
    admission.turned_away(Turned::Shed);
    admission.deadline_exceeded();
    for phase in [Phase::Mutate, Phase::Validate] {
        admission.decided(&Decided {
            phase,
            operation: "CREATE",
            kind: Some(POD),
            decision: Decision::Pin,
            verdicts: &[verdict()],
            patched: 2,
            took: Duration::from_millis(1),
        });
    }
    drop(Connections::register(&mut registry));
    canaries::Metrics::register(&mut registry).lost();
    let baseline = reconcile::Metrics::register(&mut registry).of("baseline");
    drop(baseline.pass());
    baseline.failed();
    let registries = RegistryMetrics::register(&mut registry);
    let took = Duration::from_millis(1);
    let url = &url::Url::parse("https://mirror.example/v2/x").unwrap();
    let step = Step::Answered { url, purpose: Purpose::Manifest, status: 200, took, remaining: Some(9) };
    for event in [
        Event::Step { registry: "docker.io", step },
        Event::Answered(AnsweredBy::Registry),
        Event::BreakerOpened,
        Event::SecretSkipped(Skipped::Forbidden),
        Event::CredentialUnused {
            registry: "docker.io",
            host: "docker.io",
            reason: Unused::Realm,
            about: "auth.example",
        },
        Event::CloudAsked { cloud: Cloud::Aws, error: None },
    ] {
        registries.observe(&event);
    }
    registries.configured(true, 0);
    Watches::new(["pods"].into_iter()).register(&mut registry);
    state::register(&mut registry, || State {
        leads: true,
        webhooks_installed: Some(true),
        webhooks_armed: Some(true),
        break_glass: Some((false, 1)),
        webhooks_withdrawn: Some(false),
        webhooks_contested: Some(false),
        selectors_added: Some(0),
        fail_closed_namespaces: Some(1),
        baseline_differs: Some(0),
        certificate_expires: Some(1),
        policies: vec![PolicyCount { kind: "ImagePolicy", mode: "Warn", count: 1 }],
        violations: Some(0),
        refused_again: Some(0),
        objects: vec![("pods", 1)],
        unreadable: vec![("pods", 1)],
        ..State::default()
    });
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

/// Parses the metrics of a page; counters and infos get the suffix of their type.
fn shown(text: &str) -> Listed {
    let label = Regex::new(r#"(\w+)=""#).unwrap();
    let mut listed = Listed::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        if let ["#", "TYPE", name, kind] = words[..] {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            listed.insert(format!("{name}{suffix}"), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let name =
                ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            let found =
                label.captures_iter(line).map(|found| found[1].to_owned()).filter(|name| name != "le");
            listed.get_mut(name).unwrap_or_else(|| panic!("no type of {line}")).1.extend(found);
        }
    }
    listed
}

/// Returns the metrics in the tables of the document.
fn documented() -> Listed {
    let word = Regex::new("`([a-z_]+)`").unwrap();
    let text = read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `tagpin_"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 4 && !cells[3].is_empty(), "{row}");
        let labels = word.captures_iter(cells[2]).map(|found| found[1].to_owned()).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    })
    .collect()
}

#[test]
fn the_document_lists_what_is_exposed_and_nothing_else() {
    assert_eq!(documented(), shown(&exposed()));
}

#[test]
fn what_did_not_happen_yet_is_zero() {
    let mut registry = tagpin::telemetry::metrics();
    let _admission = Metrics::register(&mut registry);
    let watches = Watches::new(["pods"].into_iter());
    watches.register(&mut registry);
    watches.restarted("pods");
    let _writer = reconcile::Metrics::register(&mut registry).of("baseline");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"tagpin_admission_turned_away_total{reason="late"} 0"#,
        r#"tagpin_pins_total{source="last_known"} 0"#,
        r#"tagpin_watch_restarts_total{kind="pods"} 1"#,
        r#"tagpin_reconcile_errors_total{writer="baseline"} 0"#,
        r#"tagpin_reconcile_duration_seconds_count{writer="baseline"} 0"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn dashboard_and_alerts_use_documented_metrics() {
    let word = Regex::new(r"\btagpin_[a-z_]+\b").unwrap();
    let documented = documented();
    for path in ["charts/tagpin/dashboards/tagpin.json", "charts/tagpin/alerts/tagpin.yaml"] {
        let text = read(path);
        let used: BTreeSet<_> = word.find_iter(&text).map(|found| found.as_str()).collect();
        assert!(used.len() > 5, "{path} uses {used:?}");
        for name in used {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(documented.contains_key(name), "{path} uses {name}, which docs/metrics.md does not list");
        }
    }
}
