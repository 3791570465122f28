//! Replays the corpus of the fuzz targets without a fuzzer, so that an input that once failed is tested again.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "the fuzz targets use it from outside")]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// Returns the files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(folder: &Path) -> BTreeSet<String> {
    files(folder).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_corpus_is_survived() {
    let mut failed = Vec::new();
    for (name, target) in targets::ALL {
        let corpus = files(&folder("corpus").join(name));
        assert!(corpus.len() >= 10, "{name} has {} inputs", corpus.len());
        for input in corpus {
            let bytes = fs::read(&input).unwrap();
            if panic::catch_unwind(|| target(&bytes)).is_err() {
                failed.push(input.display().to_string());
            }
        }
    }
    assert!(failed.is_empty(), "their panics are printed above:\n{}", failed.join("\n"));
}

#[test]
fn each_target_has_its_program_and_its_corpus() {
    let all: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    let programs = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
    assert_eq!(programs.map(str::to_owned).collect::<BTreeSet<_>>(), all);
    assert_eq!(names(&folder("fuzz_targets")), all);
    assert_eq!(names(&folder("corpus")), all);
    for name in all {
        let program = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("targets::{name}(bytes)")), "{name}");
    }
}
