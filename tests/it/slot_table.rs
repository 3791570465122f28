//! The slot table compared with the newest Kubernetes API that the k8s-openapi crate describes: the test fails if a new
//! field names an image, or a new kind holds a pod spec.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tagpin_domain::slot::{Field, Role};
use tagpin_objects::kinds::{Kinds, PODS};

/// Fields that sound like images, but that no node pulls for a pod: type, field, reason.
const NO_SLOTS: &[(&str, &str, &str)] = &[
    ("Container", "image_pull_policy", "says when to pull, not what"),
    ("EphemeralContainer", "image_pull_policy", "says when to pull, not what"),
    ("PodSpec", "image_pull_secrets", "names Secrets"),
    ("RBDVolumeSource", "image", "a block device of Ceph"),
    ("ContainerStatus", "image", "status: what ran"),
    ("ContainerStatus", "image_id", "status: what ran"),
    ("ImageVolumeStatus", "image_ref", "status: what was mounted"),
];

/// A struct of the API.
#[derive(Debug, Default)]
struct Type {
    /// The text of each field's type, by the name of the field.
    fields: BTreeMap<String, String>,
    /// Group and kind, if the API serves the type as a resource.
    resource: Option<(String, String)>,
}

/// The types by their full names (`core::v1::Pod`).
struct Api(BTreeMap<String, Type>);

impl Api {
    fn newest() -> Self {
        // Limits the metadata to this platform, because the crates of other platforms need not be downloaded.
        let rustc = Command::new("rustc").arg("-vV").output().unwrap();
        let rustc = String::from_utf8(rustc.stdout).unwrap();
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", host])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "k8s-openapi").unwrap();
        let source = Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("src");
        let minor = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("v1_")?.parse::<u32>().ok();
        let version = list(&source).into_iter().filter(|path| minor(path).is_some()).max_by_key(minor);
        let api = version.unwrap().join("api");
        let mut types = BTreeMap::new();
        for group in list(&api).into_iter().filter(|path| path.is_dir()) {
            for version in list(&group).into_iter().filter(|path| path.is_dir()) {
                let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
                let module = format!("{}::{}", name(&group), name(&version));
                for file in list(&version) {
                    let text = std::fs::read_to_string(&file).unwrap();
                    types.extend(parse(&text).map(|(name, kind)| (format!("{module}::{name}"), kind)));
                }
            }
        }
        Self(types)
    }

    /// Returns the types that the text of a field's type names.
    fn named<'a>(&'a self, field_type: &'a str) -> impl Iterator<Item = (&'a str, &'a Type)> {
        field_type
            .split("crate::api::")
            .skip(1)
            .filter_map(|rest| rest.split(['>', ',']).next())
            .filter_map(|name| self.0.get_key_value(name))
            .map(|(name, kind)| (name.as_str(), kind))
    }

    /// Collects every path below a type: the path, the type that holds its last field, and the name of that field.
    fn paths(&self, name: &str, way: &mut Vec<String>, found: &mut Vec<(String, String, String)>) {
        assert!(way.len() < 20, "a type that holds itself: {way:?}");
        for (field, field_type) in &self.0[name].fields {
            way.push(field.clone());
            let holder = name.rsplit("::").next().unwrap();
            found.push((way.join("."), holder.to_owned(), field.clone()));
            for (inner, _) in self.named(field_type) {
                self.paths(inner, way, found);
            }
            way.pop();
        }
    }

    /// Returns true if a value of this type can hold a pod spec at any depth.
    fn holds_pod_spec(&self, name: &str, seen: &mut BTreeSet<String>) -> bool {
        name == "core::v1::PodSpec"
            || (seen.insert(name.to_owned())
                && self.0[name]
                    .fields
                    .values()
                    .any(|field| self.named(field).any(|(inner, _)| self.holds_pod_spec(inner, seen))))
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Parses the struct of a generated file; none if the file has no struct.
fn parse(text: &str) -> Option<(String, Type)> {
    let (_, rest) = text.split_once("\npub struct ")?;
    let (name, rest) = rest.split_once(" {")?;
    let (body, rest) = rest.split_once("\n}").unwrap_or((rest, ""));
    let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
    let fields = fields.map(|(field, kind)| (field.to_owned(), kind.to_owned())).collect();
    let constant = |name: &str| {
        let (_, value) = rest.split_once(&format!("const {name}: &'static str = \""))?;
        Some(value.split_once('"')?.0.to_owned())
    };
    let resource = constant("GROUP").zip(constant("KIND"));
    Some((name.to_owned(), Type { fields, resource }))
}

/// Returns the name in the crate of a field of the API: `init_containers` for `initContainers`.
fn snake(text: &str) -> String {
    text.chars().flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain(c.to_lowercase())).collect()
}

#[test]
fn every_field_that_names_an_image_is_in_the_table() {
    let api = Api::newest();
    let mut paths = Vec::new();
    api.paths("core::v1::Pod", &mut Vec::new(), &mut paths);
    assert!(paths.len() > 500, "only {} fields were found: the source looks different now", paths.len());
    let slot = |role: Role| {
        let Field { list, leaf, .. } = PODS.place(role, "x", 0).field;
        format!("spec.{}.{}", snake(list), snake(&leaf.join(".")))
    };
    let slots: BTreeSet<String> = Role::ALL.map(slot).into();
    let sounds_like_one =
        |field: &str| ["image", "reference", "artifact", "oci"].iter().any(|word| field.contains(word));
    let mut known = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for (path, holder, field) in &paths {
        // The struct of an image volume is on the path to its reference, and is no leaf.
        let is_leaf = !paths.iter().any(|(other, ..)| other.starts_with(&format!("{path}.")));
        if slots.contains(path) {
            known.insert(path.clone());
        } else if sounds_like_one(field)
            && (is_leaf || field.ends_with("images"))
            && !NO_SLOTS.iter().any(|(other, name, _)| other == holder && name == field)
        {
            unknown.insert(format!("{path} (of {holder})"));
        }
    }
    assert_eq!(known, slots, "slots that the API does not have");
    assert!(unknown.is_empty(), "are these slots? add them to Role or, with a reason, here: {unknown:#?}");
    for (holder, field, _) in NO_SLOTS {
        let exists = paths.iter().any(|(_, other, name)| other == holder && name == field);
        assert!(exists, "{holder}.{field} is gone: take it out of this list");
    }
}

#[test]
fn every_kind_that_holds_a_pod_spec_is_in_the_table() {
    let api = Api::newest();
    let holders: BTreeSet<_> = api
        .0
        .iter()
        .filter(|(name, _)| api.holds_pod_spec(name, &mut BTreeSet::new()))
        .filter_map(|(_, kind)| kind.resource.clone())
        .collect();
    let table: BTreeSet<_> =
        Kinds::default().all().map(|kind| (kind.group().to_owned(), kind.name().to_owned())).collect();
    assert_eq!(holders, table);
}

#[test]
fn the_table_knows_where_each_pod_spec_is() {
    let api = Api::newest();
    for row in Kinds::default().rows() {
        let kind = row.kind;
        let group = if kind.group().is_empty() { "core" } else { kind.group() };
        let mut name = format!("{group}::v1::{kind}");
        for field in row.pod_spec {
            let field_type = &api.0[&name].fields[&snake(field)];
            name = api.named(field_type).next().unwrap().0.to_owned();
        }
        assert_eq!(name, "core::v1::PodSpec", "{kind}");
        assert!(row.pod_spec.starts_with(row.template), "{kind}");
    }
}
