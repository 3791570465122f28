//! The values files that come with the chart, really installed; and many combinations of values that the API server
//! takes.

use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::manifests::pod;
use crate::support::release::{CHART, Release, helm, ours};
use crate::support::{Namespace, alone, image, kubectl_with, rig, undisturbed};

/// A case of tests/cases/chart.yaml.
#[derive(Deserialize)]
struct Case {
    case: String,
    values: Value,
    refused: Option<String>,
}

#[test]
fn the_api_server_takes_what_the_chart_makes_of_every_combination_of_values() {
    if rig::here("needs Helm").is_none() {
        return;
    }
    let _cluster = undisturbed();
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../cases/chart.yaml")).unwrap();
    let mut tried = 0;
    for Case { case, mut values, .. } in cases.into_iter().filter(|case| case.refused.is_none()) {
        let image = || json!({ "repository": "registry.example.com/tagpin" });
        values.as_object_mut().unwrap().entry("image").or_insert_with(image);
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        file.write_all(values.to_string().as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        let manifests = helm(&["template", "tagpin", CHART, "--values", path]).succeeded();
        // As Helm, so that it changes what it made.
        let apply =
            ["apply", "--server-side", "--field-manager=helm", "--dry-run=server", "--validate=strict"];
        let answer = kubectl_with(&[&apply[..], &["-f", "-"]].concat(), &manifests);
        assert!(answer.ok, "{case}: {}", answer.err);
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
}

/// Installs the chart with this values file beside what the rig needs; it does its main job.
fn works_with(file: &str, replicas: &str) {
    if rig::here("changes the release").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    release.install(CHART, &["--values", &format!("{CHART}/{file}")]);
    assert_eq!(ours(&["get", "deployment", "tagpin", "--output=jsonpath={.status.readyReplicas}"]), replicas);
    let namespace = Namespace::new("values");
    namespace.apply(&pod("pinned", "web:1.4.2")).succeeded();
    assert!(image(&namespace.get("pod", "pinned")).starts_with("web:1.4.2@sha256:"));
    namespace.apply(&pod("latest", "web:latest")).refused_with("TagForbidden");
}

#[test]
fn the_values_for_one_small_node_pin_and_refuse() {
    works_with("values-edge.yaml", "1");
}

#[test]
fn the_values_for_high_availability_pin_and_refuse() {
    works_with("values-ha.yaml", "3");
}
