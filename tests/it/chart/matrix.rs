//! Many combinations of the chart's values (`tests/cases/chart.yaml`), and the values files of the chart.

use std::process::Command;
use std::{fs, thread};

use serde::Deserialize;
use serde_json::{Value, json};
use tagpin_registry::Registries;

use super::{ARGS, CHART, DEPLOYMENT, HELM, Objects, POD, render, template};
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

/// Returns the objects of a release with these values; none if Helm refuses them.
fn rendered(values: &str) -> Option<Objects> {
    let output = template("tagpin-system", &format!("image: {{repository: r}}\n{values}"));
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| Objects(serde_saphyr::from_multiple(&text).unwrap()))
}

/// Returns the complaint of the binary about the arguments of these objects, whose file of registries does not exist.
fn complaint(objects: &Objects) -> String {
    let baseline = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        baseline.path(),
        objects.at("ConfigMap/tagpin", "/data/baseline.yaml").unwrap().as_str().unwrap(),
    )
    .unwrap();
    let args = objects.at(DEPLOYMENT, ARGS).unwrap().as_array().unwrap();
    let args = args.iter().map(|arg| match arg.as_str().unwrap() {
        arg if arg.starts_with("--baseline=") => format!("--baseline={}", baseline.path().display()),
        arg => arg.to_owned(),
    });
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    let output =
        tagpin.env_clear().envs([("POD_NAME", "x"), ("POD_NAMESPACE", "x")]).args(args).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_the_chart_takes_lets_the_binary_start() {
    let mut taken = 0;
    for time in [
        "0s", "1s", "59m", "60m", "61m", "99m", "0h", "1h", "2h", "3599s", "3600s", "3601s", "9999s",
        "1m30s", "-1s",
    ] {
        let Some(objects) = rendered(&format!("registryDefaults: {{tagTTL: {time}}}")) else { continue };
        let file = tempfile::NamedTempFile::new().unwrap();
        let data = objects.at("ConfigMap/tagpin", "/data/registries.yaml").unwrap();
        fs::write(file.path(), data.as_str().unwrap()).unwrap();
        assert_eq!(
            Registries::load(file.path()).map(drop).map_err(|error| error.to_string()),
            Ok(()),
            "{time}"
        );
        taken += 1;
    }
    for (certificate, authority) in [
        ("0s", "1h"),
        ("5s", "1h"),
        ("6s", "23s"),
        ("6s", "24s"),
        ("1h30m", "6h"),
        ("1h30m", "5h59m59s"),
        ("08s", "010m"),
        ("2160h", "8639h"),
        ("999999h", "999999h999999h"),
        ("1h", "999999h999999h"),
        ("4999999999h", "4h"),
        ("s", "1h"),
    ] {
        let values = format!("certificate: {{lifetime: {certificate}, authorityLifetime: {authority}}}");
        let Some(objects) = rendered(&values) else { continue };
        let said = complaint(&objects);
        assert!(said.contains("read /etc/tagpin/configuration/registries.yaml"), "{values}: {said}");
        taken += 1;
    }
    assert_eq!(taken, 8 + 4, "what the chart takes");
}
