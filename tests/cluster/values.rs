//! Many combinations of values: the API server accepts the objects that the chart renders for each.

use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::release::{CHART, helm};
use crate::support::{kubectl_with, rig, undisturbed};

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
        // Applies as Helm, so that there is no conflict with the objects that Helm created.
        let apply =
            ["apply", "--server-side", "--field-manager=helm", "--dry-run=server", "--validate=strict"];
        let answer = kubectl_with(&[&apply[..], &["-f", "-"]].concat(), &manifests);
        assert!(answer.ok, "{case}: {}", answer.err);
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
}
