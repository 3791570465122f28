//! The table of threats in `SECURITY.md`: it has every threat of the threat model, and each test that it names exists.

use std::fs;
use std::path::Path;

use regex::Regex;

/// Number of threats in the Kubernetes Admission Control Threat Model.
const THREATS: usize = 18;

/// Rows that name no test, because nothing in tagpin holds their threat.
const WITHOUT_TEST: [&str; 3] = ["6", "15", "17"];

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Returns the cells of each row of the table of threats.
fn rows() -> Vec<[String; 4]> {
    let text = read("SECURITY.md").unwrap();
    let (_, after) = text.split_once("| # | threat | what holds it | tests |\n").unwrap();
    let rows = after.lines().skip(1).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(|row| Vec::try_into(cells(row)).unwrap_or_else(|_| panic!("not four cells: {row}"))).collect()
}

/// Returns the file and the name of each test that a text names.
fn tests_named_in(text: &str) -> Vec<(String, String)> {
    let named = Regex::new(r"`([\w./]+\.rs): (\w+)`").unwrap();
    named.captures_iter(text).map(|test| (test[1].to_owned(), test[2].to_owned())).collect()
}

/// Returns true if the file has a test of this name.
fn exists(path: &str, name: &str) -> bool {
    let test = format!(r"#\[(tokio::)?test(\([^)]*\))?\]\s+(async )?fn {name}\(");
    read(path).is_some_and(|text| Regex::new(&test).unwrap().is_match(&text))
}

#[test]
fn every_test_named_in_security_exists() {
    let named = tests_named_in(&read("SECURITY.md").unwrap());
    let lost: Vec<_> = named.iter().filter(|(path, name)| !exists(path, name)).collect();
    assert!(lost.is_empty(), "SECURITY.md names tests that do not exist: {lost:#?}");
}

#[test]
fn the_table_has_each_threat_once_with_its_tests_or_says_that_nothing_holds_it() {
    let rows = rows();
    let numbers: Vec<_> = rows.iter().map(|[number, ..]| number.clone()).collect();
    assert_eq!(numbers, (1..=THREATS).map(|number| number.to_string()).collect::<Vec<_>>());
    for [number, threat, holds, tests] in &rows {
        let named = tests_named_in(tests);
        if WITHOUT_TEST.contains(&number.as_str()) {
            assert!(tests == "none" && holds.contains("**Not defended:**"), "{number}: {threat}");
        } else {
            // A name that is misspelt would not be found at all.
            assert!(!named.is_empty() && named.len() == tests.split(", ").count(), "{number}: {tests}");
        }
    }
}
