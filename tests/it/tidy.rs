//! The house rules, as checks of the tree: layers, single homes, documents that agree with the code.
//!
//! Each was seen to fail on a planted violation before it was believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use tagpin::domain::denial::Code;

/// What each layer may use of ours; ARCHITECTURE.md has the same table.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("k8s", &["domain"]),
    ("registry", &["domain", "review"]),
    ("settings", &["domain"]),
    ("telemetry", &["domain"]),
    ("review", &["domain"]),
    ("cluster", &["domain", "k8s", "review", "telemetry"]),
    ("admission", &["domain", "k8s", "cluster", "review", "telemetry"]),
    ("controller", &["domain", "k8s", "cluster", "telemetry"]),
    ("surroundings", &["registry"]),
    (
        "serve",
        &[
            "admission",
            "cluster",
            "controller",
            "domain",
            "k8s",
            "registry",
            "review",
            "settings",
            "surroundings",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "controller",
            "cluster",
            "domain",
            "k8s",
            "registry",
            "review",
            "serve",
            "settings",
            "surroundings",
            "telemetry",
        ],
    ),
];

/// Words of code that have a home: nowhere else in `src` may they be written.
const HOMES: &[(&str, &[&str])] = &[
    (
        r"\breqwest\b",
        &[
            "src/registry/transport.rs",
            "src/registry/transport/",
            "src/telemetry/traces.rs",
            "src/telemetry/traces/",
        ],
    ),
    (r"\bclap\b", &["src/cli.rs", "src/cli/"]),
    (r"\banyhow\b", &["src/cli.rs", "src/cli/", "src/serve.rs", "src/serve/"]),
    (r"\benv::(var|vars|var_os|args)\b", &["src/cli.rs", "src/cli/", "src/surroundings.rs"]),
    (r"\bprocess::exit\b", &[]),
    (r"\bprometheus_client\b", &["src/telemetry.rs", "src/telemetry/"]),
    (r"\b(json_patch|AdmissionReview)\b", &["src/admission.rs", "src/admission/"]),
    (
        r"\bkube::Client\b|\buse kube::.*\bClient\b",
        &[
            "src/cluster.rs",
            "src/cluster/",
            "src/controller.rs",
            "src/controller/",
            "src/registry/pull_secrets.rs",
            "src/cli.rs",
            "src/cli/",
            "src/serve.rs",
            "src/serve/",
        ],
    ),
    (r"\b(tracing_)?opentelemetry\w*::", &["src/telemetry/traces.rs", "src/telemetry/traces/"]),
    (r"\brcgen\b", &["src/controller.rs", "src/controller/"]),
];

/// What `domain` is free of: time, tasks, the network, files, a cluster, logs.
const IMPURE: &str = r"\basync\b|\.await\b|\b(tokio|futures|kube|k8s_openapi|reqwest|tracing)::|\bstd::(fs|env|process|thread|io)\b|::now\(|\b(Tcp|Udp|Unix)(Stream|Listener|Socket|Datagram)\b";

/// What is written down nowhere in the tree.
const NOWHERE: &[(&str, &str)] = &[
    (r"\bsuper::super\b", "name the layer instead"),
    (r"#\[ignore", "a test runs or is removed"),
    (r"\bcfg\(not\(test\)\)", "no code that differs under test"),
    (r"\b(TODO|FIXME|XXX)\b|\btodo!|\bunimplemented!", "do it or leave it out"),
];

/// Lines that a source file may have without its tests.
const LINES: usize = 500;

/// One Rust file of the repository.
struct Source {
    /// From the root: `src/domain/image.rs`.
    path: String,
    /// Its lines without comment lines: what ships, and what tests.
    code: Vec<Line>,
}

struct Line {
    number: usize,
    text: String,
    /// In a `#[cfg(test)]` module, in a file of tests, or below `tests` or `benches`.
    test: bool,
}

impl Source {
    fn read(path: &Path) -> Self {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let mut test = !["src/", "json/src/", "xtask/src/"].iter().any(|shipped| name.starts_with(shipped))
            || name.ends_with("/tests.rs")
            || name.contains("/tests/");
        let text = fs::read_to_string(path).unwrap();
        let mut code = Vec::new();
        let mut lines = text.lines().zip(1..).peekable();
        while let Some((line, number)) = lines.next() {
            // By convention the last thing in a file, so that it goes to the end.
            test |= line == "#[cfg(test)]" && lines.peek().is_some_and(|(next, _)| next.ends_with('{'));
            if !line.trim_start().starts_with("//") {
                code.push(Line { number, text: line.to_owned(), test });
            }
        }
        Self { path: name, code }
    }

    /// Its layer: the first name below `src`.
    fn layer(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let name = below.split('/').next()?.trim_end_matches(".rs");
        (name != "lib" && name != "main").then_some(name)
    }

    fn find<'a>(&'a self, words: &'a Regex) -> impl Iterator<Item = &'a Line> {
        self.code.iter().filter(|line| words.is_match(&line.text))
    }

    fn at(&self, line: &Line) -> String {
        format!("{}:{}: {}", self.path, line.number, line.text.trim())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let files = folders.iter().flat_map(|folder| files(folder));
    files.filter(|path| path.extension().is_some_and(|e| e == "rs")).map(|path| Source::read(&path)).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The check passes when nothing was found.
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_layer_uses_only_what_the_table_allows() {
    let table: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let used = Regex::new(r"\bcrate::(\w+)").unwrap();
    let group = Regex::new(r"\bcrate::\{").unwrap();
    let up = Regex::new(r"\bsuper::").unwrap();
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let Some(layer) = source.layer() else { continue };
        let Some(allowed) = table.get(layer) else {
            found.push(format!("{}: the layer `{layer}` is not in the table", source.path));
            continue;
        };
        found.extend(
            source.find(&group).map(|line| format!("one `use` names one layer: {}", source.at(line))),
        );
        for line in &source.code {
            for name in used.captures_iter(&line.text) {
                if &name[1] != layer && !allowed.contains(&&name[1]) {
                    found.push(format!("{layer} may not use {}: {}", &name[1], source.at(line)));
                }
            }
        }
        // In the file of a layer, `super` is the crate.
        if source.path == format!("src/{layer}.rs") {
            found.extend(source.find(&up).filter(|line| !line.test).map(|line| source.at(line)));
        }
    }
    none(found);
}

#[test]
fn the_table_is_the_one_of_the_architecture() {
    let row = Regex::new(r"(?m)^\| (`[a-z0-9`, ]+) \| ([^|]+) \|$").unwrap();
    let name = Regex::new(r"`(\w+)`").unwrap();
    let names =
        |text: &str| -> Vec<String> { name.captures_iter(text).map(|name| name[1].to_owned()).collect() };
    let mut written = BTreeMap::new();
    for row in row.captures_iter(&read("ARCHITECTURE.md")) {
        for layer in names(&row[1]) {
            let uses = names(&row[2]).into_iter().collect::<BTreeSet<_>>();
            written.insert(layer, uses);
        }
    }
    let table: BTreeMap<_, BTreeSet<_>> = LAYERS
        .iter()
        .map(|(layer, uses)| ((*layer).to_owned(), uses.iter().map(|&layer| layer.to_owned()).collect()))
        .collect();
    assert_eq!(written, table);
    for (layer, _) in LAYERS {
        assert!(root().join(format!("src/{layer}.rs")).is_file(), "the layer `{layer}` does not exist");
    }
}

#[test]
fn the_domain_is_pure() {
    let impure = Regex::new(IMPURE).unwrap();
    let domain = sources(&["src/domain"]);
    none(domain.iter().flat_map(|source| source.find(&impure).map(|line| source.at(line))).collect());
}

#[test]
fn crates_and_calls_stay_at_home() {
    let mut found = Vec::new();
    for (words, homes) in HOMES {
        let words = Regex::new(words).unwrap();
        for source in sources(&["src"]) {
            if !homes.iter().any(|home| source.path.starts_with(home)) {
                found.extend(source.find(&words).filter(|line| !line.test).map(|line| source.at(line)));
            }
        }
    }
    none(found);
}

#[test]
fn some_things_are_written_nowhere() {
    let mut found = Vec::new();
    for (words, instead) in NOWHERE {
        let words = Regex::new(words).unwrap();
        for source in sources(&["src", "json/src", "xtask/src", "tests", "benches"]) {
            // This file has to name what it looks for.
            if source.path != "tests/it/tidy.rs" {
                found.extend(source.find(&words).map(|line| format!("{instead}: {}", source.at(line))));
            }
        }
    }
    none(found);
}

#[test]
fn modules_are_files_beside_their_folder() {
    let files = ["src", "json/src", "xtask/src", "tests", "benches"].iter().flat_map(|folder| files(folder));
    none(files.filter(|path| path.ends_with("mod.rs")).map(|path| path.display().to_string()).collect());
}

#[test]
fn every_file_says_what_it_owns() {
    let mut found = Vec::new();
    for path in files("src").into_iter().chain(files("json/src")) {
        let text = fs::read_to_string(&path).unwrap();
        let tests = path.ends_with("tests.rs") || path.to_str().unwrap().contains("/tests/");
        if !tests && !text.starts_with("//! ") {
            found.push(format!("{}: no `//!`", path.display()));
        }
    }
    none(found);
}

#[test]
fn no_file_outgrows_its_noun() {
    let sources = sources(&["src", "json/src", "xtask/src"]);
    let shipped = |source: &Source| source.code.iter().filter(|line| !line.test).count();
    none(
        sources
            .iter()
            .filter(|source| shipped(source) > LINES)
            .map(|source| format!("{}: {} lines", source.path, shipped(source)))
            .collect(),
    );
}

#[test]
fn tests_wait_for_conditions_and_never_sleep() {
    let sleep = Regex::new(r"\bsleep\(").unwrap();
    let mut found = Vec::new();
    for source in sources(&["src", "tests"]) {
        // A clock that is paused moves on by itself when all wait: such a pause takes no time.
        let paused = source.code.iter().any(|line| line.text.contains("start_paused = true"));
        if !paused && !WAITS.contains(&source.path.as_str()) && source.path != "tests/it/tidy.rs" {
            found.extend(source.find(&sleep).filter(|line| line.test).map(|line| source.at(line)));
        }
    }
    none(found);
}

/// Where a pause is part of what is tested (a registry that dawdles) or of the wait for a condition.
const WAITS: &[&str] = &[
    // A registry that sends its body byte by byte.
    "tests/it/registry/scripted.rs",
];

/// Documents for people: what they name must exist.
fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .map(String::from)
            .into();
    for folder in ["docs", "charts", "examples"] {
        let relative = files(folder).into_iter();
        names.extend(relative.map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()));
    }
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

#[test]
fn every_path_named_in_a_document_exists() {
    let path = Regex::new(
        r"(?:^|[\s`(\[])((?:src|json|tests|xtask|charts|crds|docs|examples|benches|\.ci)/[A-Za-z0-9_./-]*)",
    )
    .unwrap();
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let mut found = Vec::new();
    for (name, text) in documents() {
        let folder = root().join(&name);
        for named in path.captures_iter(&text).map(|found| found[1].trim_end_matches('.').to_owned()) {
            if !root().join(&named).exists() {
                found.push(format!("{name}: {named}"));
            }
        }
        for linked in link.captures_iter(&text).filter(|_| name.ends_with(".md")) {
            if !folder.parent().unwrap().join(&linked[1]).exists() {
                found.push(format!("{name}: link to {}", &linked[1]));
            }
        }
    }
    none(found);
}

#[test]
fn every_target_named_in_a_document_is_in_the_makefile() {
    let named = Regex::new(r"\bmake ([a-z][a-z-]*)\b").unwrap();
    let makefile = read("Makefile");
    let mut found = Vec::new();
    for (name, text) in documents().into_iter().filter(|(name, _)| name.ends_with(".md")) {
        // Only what stands in code: prose makes things, too.
        for code in text.split('`').skip(1).step_by(2) {
            for target in named.captures_iter(code) {
                if !makefile.lines().any(|line| line.starts_with(&format!("{}:", &target[1]))) {
                    found.push(format!("{name}: make {}", &target[1]));
                }
            }
        }
    }
    none(found);
}

#[test]
fn every_denial_code_is_documented_and_no_other() {
    let heading = Regex::new(r"(?m)^## ([A-Z]\w+)$").unwrap();
    let text = read("docs/denials.md");
    let written: BTreeSet<_> = heading.captures_iter(&text).map(|code| code[1].to_owned()).collect();
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(written, codes);
}

#[test]
fn every_chart_value_has_a_comment() {
    let mut found = Vec::new();
    let text = read("charts/tagpin/values.yaml");
    let lines: Vec<_> = text.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    for (at, line) in lines.iter().enumerate() {
        let key = !line.is_empty() && !line.trim_start().starts_with('#');
        let parent = lines.get(at + 1).is_some_and(|next| depth(next) > depth(line));
        let commented = at > 0 && lines[at - 1].trim_start().starts_with("# ");
        if key && !parent && !commented {
            found.push(format!("values.yaml:{}: {line}", at + 1));
        }
    }
    none(found);
}

#[test]
fn main_is_tiny() {
    assert!(read("src/main.rs").lines().count() <= 20);
}

#[test]
fn the_architecture_stays_a_map() {
    assert!(read("ARCHITECTURE.md").lines().count() <= 150);
}
