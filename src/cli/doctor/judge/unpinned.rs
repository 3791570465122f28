//! The images that a policy wants pinned and that carry no digest.

use std::collections::BTreeMap;

use crate::cli::doctor::findings::{Findings, Policy};
use crate::cli::doctor::judge::row::{Row, known, named};
use tagpin_domain::denial::Code;
use tagpin_domain::wording::UNDONE;
use tagpin_objects::findings::{
    FOREIGN_OWNER, OLDER_THAN_POLICY, PINS_OLDER, TO_FIND_THE_WEBHOOK, TO_MAKE_ROOM,
};
use tagpin_objects::image_policy::Unpinned;

/// Maximum number of images that a row names.
const SHOWN: usize = 10;

/// Counts the images that a policy wants pinned and that carry no digest, with the reasons that the replicas counted.
pub(crate) fn unpinned(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "unpinned";
    known(CHECK, &found.policies, |policies| {
        let counts: Vec<_> = policies
            .iter()
            .filter(|policy| policy.unpinned > 0)
            .map(|policy| format!("{} of {}", policy.unpinned, policy.id))
            .collect();
        if counts.is_empty() {
            return vec![Row::ok(CHECK, "every image that a policy wants pinned carries a digest")];
        }
        let why = reasons(found);
        let why = if why.is_empty() {
            "none; these images are older than the policy".to_owned()
        } else {
            named(&why)
        };
        let rows: Vec<_> = distinct(policies, |row| row.reason != FOREIGN_OWNER);
        let images: Vec<_> = rows.iter().map(|row| format!("{}, {}", row.place(), row.reason)).collect();
        let images = if images.is_empty() { String::new() } else { format!(": {}", shortened(&images)) };
        let detail = format!(
            "images without a digest: {}{images}; reasons since the replicas started: {why}",
            named(&counts)
        );
        let older = rows.iter().filter(|row| row.reason == OLDER_THAN_POLICY).find_map(|row| row.restart());
        let restart = older.unwrap_or_else(|| "kubectl rollout restart deployment/NAME".to_owned());
        let mut remedy = format!("{restart} {PINS_OLDER}; docs/denials.md explains the codes");
        if rows.iter().any(|row| row.reason == Code::AnnotationsFull.as_str()) {
            remedy.push_str(&format!("; for {}, {TO_MAKE_ROOM}", Code::AnnotationsFull));
        }
        vec![Row::note(CHECK, detail, Some(remedy))]
    })
}

/// Returns the reasons why images were not pinned, with their counts over all replicas, the most frequent first.
fn reasons(found: &Findings) -> Vec<String> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let replicas = found.replicas.as_deref().unwrap_or_default();
    for answers in replicas.iter().filter_map(|replica| replica.answers.as_ref().ok()) {
        *sums.entry("ForeignOwner").or_default() += answers.counters.foreign_owner;
        for (code, count) in &answers.counters.codes {
            *sums.entry(code).or_default() += count;
        }
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, count)| *count > 0).collect();
    sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sums.into_iter().map(|(code, count)| format!("{code} {count}")).collect()
}

/// Names the images whose pins a later webhook undid.
pub(crate) fn undone(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "undone";
    known(CHECK, &found.policies, |policies| {
        let rows = distinct(policies, |row| row.reason == Code::PinUndone.as_str());
        if rows.is_empty() {
            return vec![Row::ok(CHECK, "no other webhook undoes pins")];
        }
        let images: Vec<_> = rows.iter().map(|row| row.place()).collect();
        let detail = format!("{UNDONE}: {}", shortened(&images));
        vec![Row::note(CHECK, detail, Some(TO_FIND_THE_WEBHOOK.to_owned()))]
    })
}

/// Returns these images of all policies, each once, in the order of their places.
fn distinct(policies: &[Policy], wanted: impl Fn(&Unpinned) -> bool) -> Vec<&Unpinned> {
    let rows = policies.iter().flat_map(|policy| &policy.without_digest).filter(|row| wanted(row));
    let by_place: BTreeMap<_, _> = rows.map(|row| (row.place(), row)).collect();
    by_place.into_values().collect()
}

/// Returns the first texts, and the number of the others.
fn shortened(all: &[String]) -> String {
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown}; and {more} more"),
    }
}
