//! The data of the tests.

use std::path::PathBuf;

/// Returns the text of a file in `tests/cases` of the repository.
pub(crate) fn case_file(name: &str) -> String {
    read(&format!("tests/cases/{name}"))
}

/// Returns the text of a document in `docs`.
pub(crate) fn document(name: &str) -> String {
    read(&format!("docs/{name}"))
}

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
