//! `tagpin doctor` on the cluster.

use std::process::Command;

use serde_json::Value;

use super::{LIMIT, wait_for};

/// Returns the output of the doctor, and its exit code.
fn doctor() -> (Value, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_tagpin")).args(["doctor", "--output", "json"]).output();
    let output = output.unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}

/// Waits for a red row of this check whose text contains these words, and returns its remedy.
#[track_caller]
pub(crate) fn red(check: &str, words: &str) -> String {
    let mut last = Value::Null;
    let row = wait_for(&format!("a red row {check} with {words:?}"), LIMIT, || {
        let (report, exit) = doctor();
        let rows = report["rows"].as_array().unwrap().clone();
        last = report;
        let mut red = rows.into_iter().filter(|row| row["check"] == check && row["status"] == "red");
        let found = red.find(|row| row["detail"].as_str().unwrap().contains(words));
        assert!(found.is_none() || exit == 1, "{exit}: {last}");
        found
    });
    row["remedy"].as_str().unwrap().to_owned()
}

/// Returns the remedy of the row of this check whose text contains these words and which is a note.
#[track_caller]
pub(crate) fn noted(check: &str, words: &str) -> String {
    wait_for(&format!("a note {check} with {words:?}"), LIMIT, || {
        let (report, _) = doctor();
        let mut rows = report["rows"].as_array().unwrap().clone().into_iter();
        let is_it = |row: &Value| {
            let detail = row["detail"].as_str().unwrap();
            row["check"] == check && row["status"] == "note" && detail.contains(words)
        };
        Some(rows.find(is_it)?["remedy"].as_str().unwrap().to_owned())
    })
}

/// Waits for a note of this check whose text begins with these words and contains the others, and returns its text.
#[track_caller]
pub(crate) fn note(check: &str, begin: &str, words: &str) -> String {
    wait_for(&format!("a note {check} with {begin:?} and {words:?}"), LIMIT, || {
        let (report, _) = doctor();
        let rows = report["rows"].as_array().unwrap().clone();
        let notes = rows.into_iter().filter(|row| row["check"] == check && row["status"] == "note");
        let mut details = notes.map(|row| row["detail"].as_str().unwrap().to_owned());
        details.find(|detail| detail.starts_with(begin) && detail.contains(words))
    })
}

/// Waits until no row is red or unknown.
#[track_caller]
pub(crate) fn well() {
    wait_for("nothing red", LIMIT, || {
        let (report, exit) = doctor();
        eprintln!("{report}");
        (exit == 0).then_some(())
    });
}
