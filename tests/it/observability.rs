//! Dashboard, alerts and runbook: Prometheus can read their queries, and the runbook has a section for each alert.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::parts::part;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ALERTS: &str = "charts/tagpin/alerts/tagpin.yaml";

/// Runs promtool, a part of Debian's package `prometheus`.
fn promtool(args: &[&str], file: &Path) -> Output {
    static PROMTOOL: LazyLock<PathBuf> = LazyLock::new(|| part("promtool").join("promtool"));
    Command::new(PROMTOOL.as_path()).args(args).arg(file).current_dir(ROOT).output().unwrap()
}

#[track_caller]
fn passes(output: &Output) {
    let said = |stream: &[u8]| String::from_utf8_lossy(stream).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

/// Returns the expressions of the dashboard's panels, as Grafana sends them.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(format!("{ROOT}/charts/tagpin/dashboards/tagpin.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{} asks nothing", panel["title"]);
            targets.iter().map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m"))
        })
        .collect()
}

#[test]
fn prometheus_reads_the_alerts() {
    passes(&promtool(&["check", "rules"], Path::new(ALERTS)));
}

#[test]
fn each_alert_fires_in_a_bad_world_and_none_in_a_good_one() {
    passes(&promtool(&["test", "rules"], Path::new("tests/rules/alerts.yaml")));
}

#[test]
fn prometheus_reads_every_query_of_the_dashboard() {
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| json!({ "record": format!("panel:{number}"), "expr": query }))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string()).unwrap();
    passes(&promtool(&["check", "rules"], file.path()));
}

#[test]
fn each_alert_has_a_section_of_the_runbook_and_a_test() {
    let read = |name: &str| fs::read_to_string(format!("{ROOT}/{name}")).unwrap();
    let rules: Value = serde_saphyr::from_str(&read(ALERTS)).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let alerts: BTreeSet<_> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    let runbook = read("docs/runbook.md");
    let sections: BTreeSet<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(alerts, sections);
    let tests = read("tests/rules/alerts.yaml");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no test of {alert}");
    }
}
