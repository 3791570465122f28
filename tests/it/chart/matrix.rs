//! Many combinations of the chart's values (`tests/cases/chart.yaml`), and the values files of the chart.

use std::process::Command;
use std::{fs, thread};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{CHART, DEPLOYMENT, HELM, POD, render, template};
use crate::files::case_file;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    values: Value,
    /// A part of Helm's error, if Helm must refuse the values.
    refused: Option<String>,
}

/// Returns the failure of a case; none if the case holds.
fn wrong(case: &Case) -> Option<String> {
    let mut values = case.values.clone();
    let fields = values.as_object_mut().unwrap();
    fields.entry("image").or_insert_with(|| json!({ "repository": "registry.example.com/tagpin" }));
    let rendered = template("tagpin-system", &values.to_string());
    let said = String::from_utf8_lossy(&rendered.stderr);
    if let Some(refused) = &case.refused {
        return (rendered.status.success() || !said.contains(refused))
            .then(|| format!("{}: expected the refusal `{refused}`, found `{said}`", case.case));
    }
    if !rendered.status.success() {
        return Some(format!("{}: {said}", case.case));
    }
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), values.to_string()).unwrap();
    let mut lint = Command::new(&*HELM);
    lint.args(["lint", "--strict", CHART, "--namespace", "tagpin-system", "--values"]).arg(file.path());
    let lint = lint.output().unwrap();
    (!lint.status.success()).then(|| {
        let said = [lint.stdout, lint.stderr].concat();
        format!("{}: helm lint --strict: {}", case.case, String::from_utf8_lossy(&said))
    })
}

#[test]
fn helm_takes_and_refuses_what_the_matrix_says() {
    let cases: Vec<Case> = serde_saphyr::from_str(&case_file("chart.yaml")).unwrap();
    assert!(cases.iter().filter(|case| case.refused.is_none()).count() >= 15);
    let halves = cases.split_at(cases.len() / 2);
    let found: Vec<String> = thread::scope(|scope| {
        let workers = [halves.0, halves.1]
            .map(|half| scope.spawn(|| half.iter().filter_map(wrong).collect::<Vec<_>>()));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Returns the text of a values file beside `values.yaml`.
fn file(name: &str) -> String {
    fs::read_to_string(format!("{CHART}/{name}")).unwrap()
}

#[test]
fn the_values_for_one_small_node_ask_for_little() {
    let edge = render(&file("values-edge.yaml"));
    assert_eq!(edge.at(DEPLOYMENT, "/spec/replicas"), Some(&json!(1)));
    assert_eq!(edge.at(DEPLOYMENT, &format!("{POD}/topologySpreadConstraints")), None);
    let resources = edge.at(DEPLOYMENT, &format!("{POD}/containers/0/resources")).unwrap();
    assert_eq!(resources["requests"], json!({ "cpu": "5m", "memory": "24Mi" }));
    assert_eq!(resources["limits"].get("cpu"), None, "throttling would delay every admission");
}

#[test]
fn the_values_for_high_availability_spread_three_replicas_before_others() {
    let ha = render(&file("values-ha.yaml"));
    assert_eq!(ha.at(DEPLOYMENT, "/spec/replicas"), Some(&json!(3)));
    let pod = ha.at(DEPLOYMENT, POD).unwrap();
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    let over: Vec<_> = spread.iter().map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(over, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]);
    for constraint in spread {
        assert_eq!(constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/name"], "tagpin");
    }
}
