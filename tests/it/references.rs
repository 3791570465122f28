//! Spellings of references and their meanings: `tests/cases/references.yaml`.

use serde::Deserialize;
use tagpin_domain::image::ImageRef;

use crate::files::case_file;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    r#in: String,
    domain: Option<String>,
    path: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
    policy: Option<String>,
    error: Option<String>,
}

/// Expands `{64}` to that many hexadecimal digits, and `{a*255}` to that many times the character.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else { return text.to_owned() };
    let (inside, after) = rest.split_once('}').unwrap();
    let (what, times) = inside.split_once('*').unwrap_or(("0123456789abcdef", inside));
    let length: usize = times.parse().unwrap();
    let filler: String = what.chars().cycle().take(length).collect();
    format!("{before}{filler}{}", expand(after))
}

#[test]
fn references_are_read_as_nodes_read_them() {
    let rows: Vec<Row> = serde_saphyr::from_str(&case_file("references.yaml")).unwrap();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let text = expand(&row.r#in);
        let found = match ImageRef::parse(&text) {
            Err(error) => format!("error {:?}", error.kind),
            Ok(image) => format!(
                "domain {} path {} tag {:?} digest {:?} policy {}",
                image.domain(),
                image.path(),
                image.tag(),
                image.digest().map(ToString::to_string),
                image.policy_name(),
            ),
        };
        let expected = match (&row.error, &row.domain, &row.path) {
            (Some(kind), None, None) => format!("error {kind}"),
            (None, Some(domain), Some(path)) => {
                let path = expand(path);
                let policy = row.policy.as_deref().map_or_else(|| format!("{domain}/{path}"), expand);
                format!(
                    "domain {domain} path {path} tag {:?} digest {:?} policy {policy}",
                    row.tag.as_deref().map(expand),
                    row.digest.as_deref().map(expand),
                )
            }
            _ => panic!("{text:?}: either an error, or domain and path"),
        };
        if found != expected {
            wrong.push(format!("{text:?}\n  is       {found}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
