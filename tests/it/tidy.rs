//! House rules that Cargo cannot enforce, as checks of the source tree: every dependency is used, some dependencies
//! have a fixed place within a package, and documents agree with the code.
//!
//! Each check was seen to fail once on a planted violation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use tagpin_domain::denial::Code;
use toml::de::DeTable;

/// Folders of the sources that ship.
const SHIPPED: [&str; 3] = ["src", "crates", "xtask/src"];

/// Words with a fixed place within their package: a pattern, the folders that are checked, and the only places in them
/// where the pattern may occur. The manifests say which crates a package may use at all.
const HOMES: &[(&str, &[&str], &[&str])] = &[
    (r"\breqwest\b", &["crates/registry/src"], &["crates/registry/src/wire/transport"]),
    (r"\breqwest\b|\b(tracing_)?opentelemetry\w*::", &["src"], &["src/telemetry/traces"]),
    (r"\bopentelemetry\w*::", &["crates"], &["crates/webhook/src/trace.rs"]),
    (r"\bclap\b", &["src"], &["src/cli"]),
    (r"\banyhow\b", &["src"], &["src/cli", "src/serve"]),
    (r"\benv::(var|vars|var_os|args)\b", &["src", "crates"], &["src/cli", "src/surroundings.rs"]),
    (r"\bprocess::(\{.*)?Command\b", &["src", "crates"], &["src/surroundings/helper.rs"]),
    (r"\bprocess::exit\b", &["src", "crates"], &[]),
    (
        r"\bkube::Client\b|\buse kube::.*\bClient\b",
        &["crates/registry/src"],
        &["crates/registry/src/credentials/pull_secrets.rs"],
    ),
    (r"\bkube::Client\b|\buse kube::.*\bClient\b", &["crates/webhook/src"], &[]),
];

/// Code that `domain` must not have, besides the crates that its manifest excludes: tasks, clocks, files, the process.
const IMPURE: &str = r"\basync\b|\.await\b|\bstd::(fs|env|process|thread|io)\b|::now\(|\b(Tcp|Udp|Unix)(Stream|Listener|Socket|Datagram)\b";

/// Patterns that no source may contain, each with what to do instead.
const NOWHERE: &[(&str, &str)] = &[
    (r"\bsuper::super\b", "name the layer instead"),
    (r"#\[ignore", "a test runs or is removed"),
    (r"\bcfg\(not\(test\)\)", "no code that differs under test"),
    (r"\b(TODO|FIXME|XXX)\b|\btodo!|\bunimplemented!", "do it or leave it out"),
];

/// Maximum number of lines of a source file without its tests.
const LINES: usize = 500;

/// A Rust file of the repository.
struct Source {
    /// The path from the root of the repository: `src/settings.rs`.
    path: String,
    /// Its lines of code and of tests, without comment lines.
    code: Vec<Line>,
}

struct Line {
    number: usize,
    text: String,
    /// True in a `#[cfg(test)]` module, in a file of tests, and below `tests` or `benches`.
    test: bool,
}

impl Source {
    fn read(path: &Path) -> Self {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let mut test = !SHIPPED.iter().any(|shipped| name.starts_with(shipped))
            || name.ends_with("/tests.rs")
            || name.contains("/tests/");
        let text = fs::read_to_string(path).unwrap();
        let mut code = Vec::new();
        let mut lines = text.lines().zip(1..).peekable();
        while let Some((line, number)) = lines.next() {
            // By convention the test module is the last item of a file, so it extends to the end.
            test |= line == "#[cfg(test)]" && lines.peek().is_some_and(|(next, _)| next.ends_with('{'));
            if !line.trim_start().starts_with("//") {
                code.push(Line { number, text: line.to_owned(), test });
            }
        }
        Self { path: name, code }
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

/// Returns every file below a folder, sorted.
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

/// Fails if a check found anything.
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A manifest of this workspace.
struct Manifest {
    /// The folder of the package, from the root; empty for the root itself.
    folder: String,
    dependencies: BTreeSet<String>,
    dev_dependencies: BTreeSet<String>,
}

impl Manifest {
    fn read(folder: &str) -> Self {
        let path = Path::new(folder).join("Cargo.toml");
        let text = read(path.to_str().unwrap());
        let manifest = DeTable::parse(&text).unwrap();
        let names = |section: &str| {
            let section = manifest.get_ref().get(section).and_then(|section| section.get_ref().as_table());
            section.into_iter().flatten().map(|(name, _)| name.get_ref().to_string()).collect()
        };
        Self {
            folder: folder.to_owned(),
            dependencies: names("dependencies"),
            dev_dependencies: names("dev-dependencies"),
        }
    }

    fn all() -> Vec<Self> {
        let mut folders = vec![String::new(), "xtask".to_owned()];
        folders.extend(crates());
        folders.iter().map(|folder| Self::read(folder)).collect()
    }
}

/// Returns the folders of the crates, like `crates/domain`.
fn crates() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("crates")).unwrap();
    entries.map(|entry| format!("crates/{}", entry.unwrap().file_name().to_str().unwrap())).collect()
}

#[test]
fn the_table_of_crates_is_that_of_the_manifests() {
    let row = Regex::new(r"(?m)^\| (`[a-z0-9`, ]+) \| ([^|]+) \|$").unwrap();
    let name = Regex::new(r"`(\w+)`").unwrap();
    let names =
        |text: &str| -> Vec<String> { name.captures_iter(text).map(|name| name[1].to_owned()).collect() };
    let text = read("ARCHITECTURE.md");
    let (_, after) = text.split_once("| crate | may use |").unwrap();
    let (table, _) = after.split_once("\n\n").unwrap();
    let mut written = BTreeMap::new();
    for row in row.captures_iter(table) {
        for package in names(&row[1]) {
            written.insert(package, names(&row[2]).into_iter().collect::<BTreeSet<_>>());
        }
    }
    let ours = |manifest: &Manifest| {
        let ours = manifest.dependencies.iter().filter_map(|name| name.strip_prefix("tagpin-"));
        ours.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let manifests = crates().iter().map(|folder| Manifest::read(folder)).collect::<Vec<_>>();
    let meant: BTreeMap<_, _> = manifests
        .iter()
        .map(|manifest| (manifest.folder.trim_start_matches("crates/").to_owned(), ours(manifest)))
        .collect();
    assert_eq!(written, meant);
}

#[test]
fn every_dependency_of_a_manifest_is_used() {
    let mut found = Vec::new();
    for manifest in Manifest::all() {
        let ships = sources(&[Path::new(&manifest.folder).join("src").to_str().unwrap()]);
        let mut tests = ["tests", "benches"]
            .iter()
            .flat_map(|folder| sources(&[Path::new(&manifest.folder).join(folder).to_str().unwrap()]))
            .collect::<Vec<_>>();
        if manifest.folder.is_empty() {
            // The tests run the fuzz targets.
            tests.extend(sources(&["fuzz/src"]));
        }
        for name in manifest.dependencies.iter().chain(&manifest.dev_dependencies) {
            let word = Regex::new(&format!(r"\b{}\b", name.replace('-', "_"))).unwrap();
            let shipped = |line: &&Line| !line.test;
            let used = ships.iter().any(|source| match manifest.dependencies.contains(name) {
                true => source.find(&word).any(|line| shipped(&line)),
                false => source.find(&word).next().is_some(),
            });
            let tested = manifest.dev_dependencies.contains(name)
                && tests.iter().any(|source| source.find(&word).next().is_some());
            if !used && !tested {
                found.push(format!(
                    "{}: nothing uses {name}",
                    Path::new(&manifest.folder).join("Cargo.toml").display()
                ));
            }
        }
    }
    none(found);
}

#[test]
fn the_domain_is_pure() {
    let impure = Regex::new(IMPURE).unwrap();
    let domain = sources(&["crates/domain/src"]);
    none(
        domain
            .iter()
            .flat_map(|source| source.find(&impure).filter(|line| !line.test).map(|line| source.at(line)))
            .collect(),
    );
}

#[test]
fn crates_and_calls_stay_at_home() {
    let mut found = Vec::new();
    for (words, folders, homes) in HOMES {
        let words = Regex::new(words).unwrap();
        for source in sources(folders) {
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
        for source in sources(&["src", "crates", "xtask/src", "tests", "benches"]) {
            // This file contains the patterns themselves.
            if source.path != "tests/it/tidy.rs" {
                found.extend(source.find(&words).map(|line| format!("{instead}: {}", source.at(line))));
            }
        }
    }
    none(found);
}

#[test]
fn entries_of_registries_are_written_in_one_place() {
    // A text elsewhere does not know the entry that covers the host already, and a test pastes only those of `remedy`.
    let entry = Regex::new(r"\{\{ match: ").unwrap();
    let sources = sources(&["src", "crates"]).into_iter().filter(|source| {
        let ships = (source.path.starts_with("src/") || source.path.contains("/src/"))
            && !source.path.contains("/tests.rs")
            && !source.path.contains("/tests/");
        ships && source.path != "crates/domain/src/remedy.rs"
    });
    let found = |source: Source| source.find(&entry).map(|line| source.at(line)).collect::<Vec<_>>();
    none(sources.flat_map(found).map(|at| format!("use tagpin_domain::remedy: {at}")).collect());
}

#[test]
fn doc_comments_open_with_the_item() {
    // A relative clause without its noun ("How long it may take") has to be read twice.
    let headless =
        Regex::new(r"^\s*//[/!] (What|How|Whether|Where|Which|Why|Of|Who|Whose|Whom|When)\b").unwrap();
    let comment = Regex::new(r"^\s*//[/!]").unwrap();
    let mut found = Vec::new();
    for path in ["src", "crates", "xtask", "tests", "benches", "fuzz/fuzz_targets"]
        .iter()
        .flat_map(|folder| files(folder))
    {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines = std::iter::once("").chain(text.lines()).zip(text.lines()).zip(1..);
        let openings =
            lines.filter(|((before, line), _)| headless.is_match(line) && !comment.is_match(before));
        found.extend(
            openings.map(|((_, line), number)| format!("{}:{number}: {}", path.display(), line.trim())),
        );
    }
    none(found);
}

#[test]
fn cannot_is_one_word() {
    let two = Regex::new(r"(?i)\bcan[ _-]not\b").unwrap();
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    let folders = [
        "src",
        "crates",
        "xtask/src",
        "xtask/tests",
        "tests",
        "benches",
        "charts",
        "crds",
        "docs",
        "examples",
    ];
    let texts =
        folders.iter().flat_map(|folder| files(folder)).map(|path| (path.display().to_string(), read(&path)));
    let mut found = Vec::new();
    for (path, text) in texts.chain(documents()) {
        let lines = text.lines().zip(1..).filter(|(line, _)| two.is_match(line));
        // This file contains the pattern itself.
        if !path.ends_with("tests/it/tidy.rs") {
            found.extend(lines.map(|(line, number)| format!("{path}:{number}: {}", line.trim())));
        }
    }
    none(found);
}

#[test]
fn modules_are_files_beside_their_folder() {
    let files = ["src", "crates", "xtask/src", "tests", "benches"].iter().flat_map(|folder| files(folder));
    none(files.filter(|path| path.ends_with("mod.rs")).map(|path| path.display().to_string()).collect());
}

#[test]
fn every_file_says_what_it_owns() {
    let mut found = Vec::new();
    for path in files("src").into_iter().chain(files("crates")) {
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
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
    let sources = sources(&SHIPPED);
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
    for source in sources(&["src", "crates", "tests"]) {
        // A paused clock advances by itself when all tasks wait, so a sleep takes no time.
        let paused = source.code.iter().any(|line| line.text.contains("start_paused = true"));
        if !paused && !WAITS.contains(&source.path.as_str()) && source.path != "tests/it/tidy.rs" {
            found.extend(source.find(&sleep).filter(|line| line.test).map(|line| source.at(line)));
        }
    }
    none(found);
}

/// Files that may sleep, because the sleep is a part of the test (a slow registry) or of waiting for a condition.
const WAITS: &[&str] = &[
    // It has a registry that sends its body byte by byte.
    "crates/registry/tests/it/scripted.rs",
];

/// Returns path and text of the documents whose paths and commands are checked.
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
        r"(?:^|[\s`(\[])((?:src|crates|tests|xtask|charts|crds|docs|examples|benches|\.ci)/[A-Za-z0-9_./-]*)",
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
        // Only code is searched, because prose also has the word "make".
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
