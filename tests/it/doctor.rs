//! `tagpin doctor` as a process: it checks the configuration of registries that the chart writes as tagpin does at
//! start.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart::render;
use crate::support::api_server::ApiServer;

const OURS: &str = "/api/v1/namespaces/tagpin-system";

/// Returns the objects of a release with these values that the doctor reads here.
fn release(values: &str) -> Vec<(String, Value)> {
    let objects = render(values).0.into_iter().filter_map(|object| {
        let name = object["metadata"]["name"].as_str()?;
        match object["kind"].as_str()? {
            "ConfigMap" => Some((format!("{OURS}/configmaps/{name}"), object.clone())),
            "Deployment" => {
                Some(("/apis/apps/v1/namespaces/tagpin-system/deployments/tagpin".to_owned(), object.clone()))
            }
            _ => None,
        }
    });
    objects.collect()
}

/// Returns the status, detail and remedy of the row `configuration`.
fn row(kubeconfig: &Path) -> (String, String, String) {
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.args(["doctor", "--output=json"]).env_clear().env("KUBECONFIG", kubeconfig);
    let output = tagpin.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let rows = report["rows"].as_array().unwrap().iter();
    let mut rows = rows.filter(|row| row["check"] == "configuration");
    let row = rows.next().unwrap();
    assert!(rows.next().is_none(), "{report}");
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("detail"), text("remedy"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_in_the_cluster_is_checked_as_it_is_at_start() {
    let folder = TempDir::new().unwrap();
    let authority = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap().cert.pem();
    let server = ApiServer::start(Vec::new()).await;
    let kubeconfig = server.kubeconfig(folder.path());
    let said = |values: &str, more: Vec<(String, Value)>| {
        server.replace([release(values), more].concat());
        row(&kubeconfig)
    };
    let (status, detail, _) = said("", vec![]);
    assert_eq!((&*status, &*detail), ("ok", "the configuration of registries is valid"));

    // The values use every kind of file: a folder of the nodes, and authorities in the values, in a ConfigMap and in a
    // Secret.
    let every = json!({
        "registriesFile": {
            "format": "certs.d",
            "hosts": { "docker.io": "[host.\"https://mirror.example\"]\n" },
        },
        "extraCAs": [
            { "name": "a", "content": authority },
            { "name": "b", "configMap": { "name": "authorities", "key": "b.crt" } },
            { "name": "c", "secret": { "name": "authority", "key": "ca.crt" } },
        ],
        "registries": [
            { "match": "docker.io", "resolveFrom": "mirrors-only" },
            { "match": "a.example", "tls": { "caFile": "/etc/tagpin/ca/a.pem" } },
            { "match": "b.example", "tls": { "caFile": "/etc/tagpin/ca/b.pem" } },
            { "match": "c.example", "tls": { "caFile": "/etc/tagpin/ca/c.pem" } },
        ],
    });
    let every: String =
        every.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    let given = |what: &str, key: &str, value: String| {
        let (kind, name) = what.split_once('/').unwrap();
        let object = json!({ "apiVersion": "v1", "metadata": { "name": name }, "data": { key: value } });
        (format!("{OURS}/{kind}/{name}"), object)
    };
    let config_map = given("configmaps/authorities", "b.crt", authority.clone());
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &authority);
    let secret = given("secrets/authority", "ca.crt", encoded);
    let (status, detail, _) = said(&every, vec![config_map.clone(), secret.clone()]);
    assert_eq!((&*status, &*detail), ("ok", "the configuration of registries is valid"));

    // A missing object is named, with the key that refers to it.
    let (status, detail, remedy) = said(&every, vec![config_map]);
    assert_eq!(status, "red", "{detail}");
    assert!(detail.contains("registries.yaml:") && detail.contains("tls.caFile"), "{detail}");
    assert!(detail.contains("read /etc/tagpin/ca/c.pem"), "{detail}");
    assert!(remedy.contains("helm upgrade tagpin charts/tagpin -n tagpin-system"), "{remedy}");

    let mistake =
        r#"registriesFile: { format: certs.d, hosts: { docker.io: "[host.x]\ncapabilities = [1" } }"#;
    let (status, detail, _) = said(mistake, vec![]);
    assert_eq!(status, "red", "{detail}");
    assert!(detail.contains("/etc/tagpin/certs.d/docker.io/hosts.toml:2:"), "{detail}");

    let (status, detail, _) =
        said("registries: [{ match: docker.io, tls: { insecureSkipVerify: true } }]", vec![]);
    assert_eq!(status, "note", "{detail}");
    assert!(detail.contains("the certificate of docker.io is not verified"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_the_check_of_the_file_says() {
    let folder = TempDir::new().unwrap();
    let server = ApiServer::start(Vec::new()).await;
    let text = "registries:\n- match: docker.io\n- match: docker.io\n";
    let mut objects = release("");
    let (_, config_map) = objects.iter_mut().find(|(path, _)| path.contains("configmaps/tagpin")).unwrap();
    config_map["data"]["registries.yaml"] = text.into();
    server.replace(objects);
    let (status, detail, _) = row(&server.kubeconfig(folder.path()));
    assert_eq!(status, "red");

    let file = folder.path().join("registries.yaml");
    fs::write(&file, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    let output = check.args(["registries", "check"]).arg(&file).env_clear().output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let (_, mistake) = stderr.trim().split_once("registries.yaml:").unwrap();
    assert_eq!(detail, format!("/etc/tagpin/configuration/registries.yaml:{mistake}"));
}
