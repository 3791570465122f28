//! Policies as people write them: the table of invalid policies, and the examples.

use std::fs;
use std::path::Path;

use kube_cel::Validator;
use serde::Deserialize;
use serde_json::{Value, json};
use tagpin_domain::policy::{Policy, PolicyId};
use tagpin_kube::crds;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy, PolicyObject};
use tagpin_objects::image_policy::{PolicyError, PolicySpec as _};
use tagpin_objects::kinds::Kinds;

/// A policy that must not come into force.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    kind: Option<String>,
    name: Option<String>,
    spec: Value,
    /// A part of the API server's refusal.
    refused: Option<String>,
    /// The field that the compiler names.
    invalid: Option<String>,
    /// The field of the glob that matches nothing.
    noted: Option<String>,
}

impl Bad {
    fn object(&self) -> Value {
        json!({
            "apiVersion": "tagpin.dev/v1alpha1",
            "kind": self.kind.as_deref().unwrap_or("ClusterImagePolicy"),
            "metadata": { "name": self.name.as_deref().unwrap_or("case") },
            "spec": self.spec,
        })
    }
}

/// Returns the schema of a kind.
fn schema(kind: &str) -> Value {
    let crd = crds::crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap()
}

/// Returns the messages of the schema's CEL rules for an object.
fn cel_says(object: &Value) -> String {
    let schema = schema(object["kind"].as_str().unwrap());
    let said = Validator::new().validate_with_defaults(&schema, object, None);
    said.err().map(|errors| errors.to_string()).unwrap_or_default()
}

/// Compiles an object of either kind; none if the object cannot be parsed, for example because an enum has no such
/// value.
fn compile(object: &Value) -> Option<Result<Policy, PolicyError>> {
    fn as_kind<K: PolicyObject>(object: &Value) -> Option<Result<Policy, PolicyError>> {
        let id = PolicyId { namespace: None, name: "case".to_owned() };
        let spec: K::Spec = serde_json::from_value(object["spec"].clone()).ok()?;
        Some(spec.compile(id))
    }
    if object["kind"] == "ClusterImagePolicy" {
        as_kind::<ClusterImagePolicy>(object)
    } else {
        as_kind::<ImagePolicy>(object)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_bad_policy_is_refused_or_named_as_the_table_says() {
    let table = fs::read_to_string(root().join("tests/cases/policies-invalid.yaml")).unwrap();
    let table: Vec<Bad> = serde_saphyr::from_str(&table).unwrap();
    assert!(table.len() >= 50);
    for bad in table {
        let object = bad.object();
        let (said, compiled) = (cel_says(&object), compile(&object));
        match (&bad.refused, &bad.invalid, &bad.noted) {
            (Some(refused), None, None) if refused == "Unsupported value" => {
                assert!(compiled.is_none(), "{object}: an enum would have to refuse this");
            }
            (Some(refused), None, None) => {
                assert!(said.contains(refused.as_str()), "{object}: CEL says: {said}")
            }
            (None, Some(invalid), None) => {
                assert_eq!(said, "", "{object}: CEL can tell, so the table should say `refused`");
                assert_eq!(&compiled.unwrap().unwrap_err().field, invalid, "{object}");
            }
            (None, None, Some(noted)) => {
                assert_eq!(said, "", "{object}: CEL can tell, so the table should say `refused`");
                let idle = compiled.unwrap().unwrap().idle_globs;
                assert_eq!(idle.iter().map(|glob| &glob.field).collect::<Vec<_>>(), [noted], "{object}");
            }
            _ => panic!("{object}: give one of `refused`, `invalid` and `noted`"),
        }
    }
}

#[test]
fn every_example_passes_the_schema_and_compiles() {
    let mut seen = 0;
    for file in fs::read_dir(root().join("examples/policies")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}: say what it is for", path.display());
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(cel_says(&object), "", "{}", path.display());
        compile(&object).unwrap().unwrap();
        assert_eq!(unknown_fields(&object), [""; 0], "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
}

/// Returns the fields of a spec that are lost in a round trip through its type: the API server would drop them.
fn unknown_fields(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let known = if object["kind"] == "ClusterImagePolicy" {
        serde_json::to_value(serde_json::from_value::<ClusterImagePolicy>(object.clone()).unwrap().spec)
            .unwrap()
    } else {
        serde_json::to_value(serde_json::from_value::<ImagePolicy>(object.clone()).unwrap().spec).unwrap()
    };
    let mut unknown = Vec::new();
    compare("spec", spec, &known, &mut unknown);
    unknown
}

fn compare(path: &str, written: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (name, value) in written {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(known) => compare(&path, value, known, unknown),
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(known)) if written.len() == known.len() => {
            for (index, (value, known)) in written.iter().zip(known).enumerate() {
                compare(&format!("{path}[{index}]"), value, known, unknown);
            }
        }
        (written, known) if written == known => {}
        _ => unknown.push(path.to_owned()),
    }
}

#[test]
fn what_people_write_is_taken() {
    for spec in [
        json!({}),
        json!({ "match": { "images": [
            "**", "docker.io/**", "docker.io/library/*", "docker.io/{library,acme}/*", "docker.io/library/{nginx,redis}",
            "ghcr.io/acme/**", "*.example.com/**", "{ghcr.io,quay.io}/acme/*", "localhost/**", "localhost:5000/**",
            "registry:5000/team/api", "[a-c].example.com/x", "10.0.0.1:5000/**", "**/nginx",
            "ghcr.io/acme/[a-zA-Z]*", "{ghcr.io,Quay.io}/acme/*", "ghcr.io/[{a]*", "ghcr.io/{acme,[}]}x", "*:4430/x",
        ] } }),
        json!({ "rules": { "tags": { "forbidden": [
            "latest", "dev-*", "*-rc?", "nightly-[0-9]*", "{main,master}", "[!v]*", "1.0_beta", "?-Dev", "_x", "[[a]*",
        ] } } }),
        json!({ "resolution": { "lastKnownMaxAge": "0" } }),
        json!({ "resolution": { "lastKnownMaxAge": "1h30m" } }),
        json!({ "resolution": { "lastKnownMaxAge": "0.5h" } }),
        json!({ "resolution": { "lastKnownMaxAge": "999999h999999h" } }),
        json!({ "match": { "namespaceSelector": {
            "matchLabels": { "env": "prod", "example.com/team": "", "a.b/c_d": "x-1.2" },
            "matchExpressions": [{ "key": "tier", "operator": "NotIn", "values": ["", "web"] }],
        } } }),
        json!({ "exceptions": [{ "name": "a", "reason": "ten letters", "expires": "2027-01-31T23:59:59.5+01:00" }] }),
        json!({ "exceptions": [{ "name": "a", "reason": "ten letters", "expires": "2027-01-31T00:00:00Z",
            "users": ["anna", "system:serviceaccount:ci:*", "system:serviceaccount:velero:velero", "system:serviceaccount*", "arn:aws:iam::1:user/x", "https://accounts.example.com#anna"],
            "groups": ["system:serviceaccounts:ci", "oidc:team-{a,b}"] }] }),
        json!({ "exceptions": [{ "name": "a", "reason": "ten letters", "expires": "2028-02-29T00:00:00Z" }] }),
        json!({ "exceptions": [{ "name": "a", "reason": "ten letters", "expires": "2027-06-30T00:00:00Z" }] }),
    ] {
        let object = json!({ "apiVersion": "v1", "kind": "ClusterImagePolicy", "metadata": { "name": "x" }, "spec": spec });
        assert_eq!(cel_says(&object), "", "{object}");
        compile(&object).unwrap().unwrap();
    }
}

#[test]
fn every_kind_of_the_slot_table_can_be_matched() {
    let kinds: Vec<_> =
        Kinds::default().all().map(|kind| json!({ "group": kind.group(), "kind": kind.name() })).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "ClusterImagePolicy", "metadata": { "name": "x" },
        "spec": { "match": { "kinds": kinds } },
    });
    assert_eq!(cel_says(&object), "");
    assert_eq!(compile(&object).unwrap().unwrap().scope.kinds.len(), Kinds::default().all().count());
}
