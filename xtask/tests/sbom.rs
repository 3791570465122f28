//! The bill of materials names what is in the binary, and nothing that only builds or tests it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn sbom() -> (String, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("sbom").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("target/sbom/tagpin.cdx.json")).unwrap();
    let document = serde_json::from_str(&text).unwrap();
    (text, document)
}

#[test]
fn it_names_what_is_in_the_binary() {
    let (text, document) = sbom();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    let itself = &document["metadata"]["component"];
    assert_eq!(
        (&itself["name"], &itself["licenses"][0]["expression"]),
        (&json!("tagpin"), &json!("Apache-2.0"))
    );

    let components = document["components"].as_array().unwrap();
    let names: BTreeSet<&str> =
        components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    for built_in in ["rustls", "ring", "kube-client", "tokio"] {
        assert!(names.contains(built_in), "{built_in} is missing");
    }
    for not in ["tagpin", "xtask", "proptest", "kube-cel", "syn", "serde_derive", "cc", "tempfile"] {
        assert!(!names.contains(not), "{not} is not in the binary");
    }
    for component in components {
        assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 64, "{component}");
        assert!(!component["licenses"][0]["expression"].as_str().unwrap().contains('/'), "{component}");
    }

    let of = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let all: BTreeSet<String> = components.iter().chain([itself]).map(|part| of(part, "bom-ref")).collect();
    let dependencies = document["dependencies"].as_array().unwrap();
    assert_eq!(dependencies.iter().map(|part| of(part, "ref")).collect::<BTreeSet<_>>(), all);
    let needs = dependencies.iter().flat_map(|part| part["dependsOn"].as_array().unwrap());
    let mut needed: BTreeSet<String> = needs.map(|needed| needed.as_str().unwrap().to_owned()).collect();
    // Each is there because another one needs it, and tagpin because of itself.
    needed.insert(of(itself, "bom-ref"));
    assert_eq!(needed, all);

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert!(!text.contains(root.to_str().unwrap()), "it names a folder of this machine");
}
