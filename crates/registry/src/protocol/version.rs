//! Tags as versions, the way people write them, which is not always that of semantic versioning: `v1.2`,
//! `1.29.3-alpine`, `2024.11.05`.

use std::cmp::Reverse;

/// Maximum number of numbers in a version.
const NUMBERS: usize = 4;

/// A tag that begins with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loose<'a> {
    pub(crate) numbers: Vec<u64>,
    /// The text after the numbers, without the separator: `alpine`.
    pub(crate) rest: &'a str,
}

impl<'a> Loose<'a> {
    pub(crate) fn parse(tag: &'a str) -> Option<Self> {
        let digits = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let (numbers, rest) = digits.split_at(end);
        let rest = match rest.strip_prefix(['-', '_', '+']) {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        let numbers: Vec<u64> =
            numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        (numbers.len() <= NUMBERS).then_some(Self { numbers, rest })
    }

    /// Returns the number at this place, 0 if there is none.
    pub(crate) fn at(&self, place: usize) -> u64 {
        self.numbers.get(place).copied().unwrap_or_default()
    }
}

/// Sorts tags: versions first, the newest before the older and a release before its flavours and candidates; then
/// words by name.
pub(super) fn newest_first(tags: &mut [String]) {
    tags.sort_by_cached_key(|tag| match Loose::parse(tag) {
        Some(version) => Place::Version {
            numbers: Reverse(version.numbers),
            flavoured: !version.rest.is_empty(),
            rest: Reverse(runs(version.rest)),
            tag: tag.clone(),
        },
        None => Place::Word(tag.clone()),
    });
}

/// The place of a tag in a sorted list; the order of the variants and fields is the order of the list.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Version { numbers: Reverse<Vec<u64>>, flavoured: bool, rest: Reverse<Vec<Run>>, tag: String },
    Word(String),
}

/// A run of digits or of other characters, so that `rc10` is newer than `rc9`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Text(String),
    Number(u64),
}

fn runs(mut text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    while let Some(first) = text.chars().next() {
        let digits = first.is_ascii_digit();
        let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
        let (run, rest) = text.split_at(end);
        runs.push(match run.parse() {
            Ok(number) if digits => Run::Number(number),
            _ => Run::Text(run.to_owned()),
        });
        text = rest;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_and_words_come_last() {
        let ordered = "2.0.0 2.0.0-rc10 2.0.0-rc9 1.29.10 1.29.3 v1.29.3 1.29.3-alpine3.20 1.29.3-alpine3.9 1.29 1.9.0 1 0.1.99999999999999999999 edge latest";
        let mut tags: Vec<String> = ordered.split(' ').rev().map(str::to_owned).collect();
        newest_first(&mut tags);
        assert_eq!(tags.join(" "), ordered);
    }
}
