//! References and `certs.d` compared with the libraries of the nodes, which run in a Go program (`tests/rig/oracle`).
//! tagpin reads the same, except for differences that a test names.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tagpin_domain::image::{ImageRef, ReferenceErrorKind as Kind};
use tagpin_registry::{Profiles, Registries};

use crate::files::case_file;
use crate::parts::part;

/// Path of the program, which is built once.
static ORACLE: LazyLock<PathBuf> = LazyLock::new(|| part("oracle").join("oracle"));

/// Returns the program's answer to each line.
fn ask<T: DeserializeOwned>(args: &[&str], lines: &[String]) -> Vec<T> {
    let mut oracle =
        Command::new(&*ORACLE).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = oracle.stdin.take().unwrap();
    let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = oracle.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers: Vec<T> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), lines.len());
    answers
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Parsed {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// A random number generator (xorshift64*), which gives the same strings on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap() % limit
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Valid and invalid parts of references.
const PIECES: [&str; 48] = [
    "docker.io",
    "index.docker.io",
    "DOCKER.IO",
    "localhost",
    "ghcr.io",
    "a.b",
    "Foo",
    "reg",
    "reg.lan",
    "[::1]",
    "[2001:db8::1]",
    "127.0.0.1",
    "/",
    "/",
    "/",
    "/",
    "//",
    ":",
    ":",
    ":5000",
    ":443",
    ":1.29",
    ":latest",
    ":v1.4.7_x",
    ":",
    "@",
    "@sha256:",
    "@sha512:",
    "@md5:",
    "library",
    "nginx",
    "team",
    "app",
    "a",
    "b1",
    ".",
    "_",
    "__",
    "___",
    "-",
    "--",
    "..",
    "A",
    "\u{e9}",
    " ",
    "%2f",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
];

/// References as people write them; the generator changes them in one or two places.
const SEEDS: [&str; 10] = [
    "nginx",
    "nginx:1.29",
    "library/nginx",
    "docker.io/library/nginx:1.29.3",
    "ghcr.io/acme/api:v1.4.7",
    "registry.lan:5000/team/app:1",
    "localhost:5000/app",
    "[::1]:5000/app:2",
    "Foo/bar:1",
    "quay.io/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

fn generated(count: usize) -> Vec<String> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut strings = Vec::with_capacity(count);
    while strings.len() < count {
        let text = if random.below(2) == 0 {
            (0..=random.below(7)).map(|_| random.pick(&PIECES)).collect()
        } else {
            let mut text = random.pick(&SEEDS).to_owned();
            for _ in 0..=random.below(2) {
                let at = random.below(text.len() + 1);
                let end = (at + random.below(3)).min(text.len());
                if text.is_char_boundary(at) && text.is_char_boundary(end) {
                    text.replace_range(at..end, random.pick(&PIECES));
                }
            }
            text
        };
        strings.push(text);
    }
    strings
}

/// Returns how tagpin and the nodes' library differ; none if they agree or the difference is intended.
fn difference(text: &str, theirs: Option<&Parsed>) -> Option<String> {
    match (ImageRef::parse(text), theirs) {
        (Err(_), None) => None,
        // tagpin refuses some references that nodes accept: those that it cannot check, and those with a host that
        // nothing can connect to.
        (Err(error), Some(_)) => {
            let decided = matches!(error.kind, Kind::NodeLocalId | Kind::AmbiguousAddress | Kind::Domain);
            (!decided).then(|| format!("{text:?}: {:?}, and nodes take it", error.kind))
        }
        (Ok(image), None) => Some(format!("{text:?}: {}, and nodes refuse it", image.canonical())),
        (Ok(image), Some(theirs)) => {
            let ours = Parsed {
                domain: image.domain().to_owned(),
                path: image.path().to_owned(),
                tag: image.tag().map(str::to_owned),
                digest: image.digest().map(ToString::to_string),
            };
            (ours != *theirs).then(|| format!("{text:?}: {ours:?}, and nodes read {theirs:?}"))
        }
    }
}

#[test]
fn references_are_what_the_nodes_library_makes_of_them() {
    #[derive(Deserialize)]
    struct Row {
        r#in: String,
    }
    let rows: Vec<Row> = serde_saphyr::from_str(&case_file("references.yaml")).unwrap();
    let mut strings = generated(100_000);
    strings.extend(rows.into_iter().map(|row| row.r#in).filter(|text| !text.contains(['\n', '{'])));
    let theirs: Vec<Option<Parsed>> = ask(&["references"], &strings);
    let taken = theirs.iter().flatten().count();
    assert!(taken > 10_000 && taken < 90_000, "{taken} of the strings are references");
    let differences: Vec<String> = strings
        .iter()
        .zip(&theirs)
        .filter_map(|(text, theirs)| difference(text, theirs.as_ref()))
        .take(20)
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[derive(Debug, Deserialize)]
struct Host {
    url: String,
    #[serde(default)]
    header: BTreeMap<String, Vec<String>>,
}

/// Trees of `certs.d`: the name of a folder, the text of its `hosts.toml`, and the registry that is looked up.
const TREES: &[(&str, &str, &str)] = &[
    ("docker.io", "", "docker.io"),
    ("docker.io", "server = \"https://registry-1.docker.io\"", "docker.io"),
    ("docker.io", "[host.\"https://m.example\"]\n[host.\"http://n.example:5000\"]", "docker.io"),
    ("docker.io", "[host.\"https://z.example\"]\n[host.\"https://a.example\"]", "docker.io"),
    ("docker.io", "[host.\"https://m.example\"]\ncapabilities = [\"pull\"]", "docker.io"),
    (
        "docker.io",
        "[host.\"https://m.example\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]",
        "docker.io",
    ),
    ("docker.io", "[host.\"https://m.example\"]\ncapabilities = [\"resolve\"]", "docker.io"),
    ("docker.io", "[host.\"https://m.example\"]\ncapabilities = []", "docker.io"),
    ("docker.io", "[host.\"https://m.example/v2/hub\"]", "docker.io"),
    ("docker.io", "[host.\"https://m.example/hub/v2\"]", "docker.io"),
    ("docker.io", "[host.\"https://m.example/hub\"]\noverride_path = true", "docker.io"),
    ("docker.io", "[host.\"m.example:5000\"]", "docker.io"),
    ("docker.io", "[host.\"https://m.example\".header]\nx-tenant = [\"a\"]", "docker.io"),
    ("ghcr.io", "server = \"https://s.example\"\n[host.\"https://m.example\"]", "ghcr.io"),
    (
        "ghcr.io",
        "server = \"https://s.example\"\ncapabilities = [\"pull\"]\n[host.\"https://m.example\"]",
        "ghcr.io",
    ),
    ("ghcr.io", "server = \"https://ghcr.io\"", "ghcr.io"),
    ("reg.example_5000_", "[host.\"https://m.example\"]", "reg.example:5000"),
    ("reg.example:5000", "[host.\"https://m.example\"]", "reg.example:5000"),
    ("reg.example", "[host.\"https://m.example\"]", "reg.example:5000"),
    ("reg.example_5000_", "server = \"http://reg.example:5000\"", "reg.example:5000"),
    ("_default", "[host.\"https://every.example\"]", "quay.io"),
    ("_default", "server = \"https://every.example\"", "quay.io"),
];

/// Returns the hosts that tagpin asks for a tag, each with the number of headers of the operator; none if it refuses
/// the tree.
fn ours(config: &Path, registry: &str) -> Option<Vec<(String, usize)>> {
    let registries = Registries::load(config).ok()?;
    let profile = registries.profile(registry);
    Some(profile.authorities().map(|at| (at.root().to_string(), at.headers.len())).collect())
}

#[test]
fn the_same_registries_are_asked_as_by_containerd() {
    let mut wrong = Vec::new();
    for (folder, hosts, registry) in TREES {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("certs.d");
        fs::create_dir_all(tree.join(folder)).unwrap();
        fs::write(tree.join(folder).join("hosts.toml"), hosts).unwrap();
        let config = home.path().join("registries.yaml");
        let entry = |resolve_from: &str| {
            format!(
                "registries: [{{ match: '{registry}', resolveFrom: {resolve_from} }}]\n\
                 registriesFile: {{ format: certs.d, path: certs.d }}\n"
            )
        };
        fs::write(&config, entry("mirrors-then-upstream")).unwrap();
        // tagpin refuses an entry that asks mirrors if there is no mirror; the registry itself is asked then.
        let found = ours(&config, registry).or_else(|| {
            fs::write(&config, entry("upstream")).unwrap();
            ours(&config, registry)
        });
        let theirs: Vec<Vec<Host>> = ask(&["hosts", tree.to_str().unwrap()], &[(*registry).to_owned()]);
        let theirs: Vec<(String, usize)> = theirs
            .into_iter()
            .flatten()
            .map(|host| (host.url, host.header.values().flatten().count()))
            .collect();
        if found.as_ref() != Some(&theirs) {
            wrong.push(format!("{folder}: {hosts:?}\n  tagpin asks {found:?}\n  containerd  {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
