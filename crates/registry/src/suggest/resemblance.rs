//! Compares tags: which ones resemble each other, and which one is more specific.

use std::cmp::Reverse;

use crate::protocol::tags::is_referrer;
use crate::protocol::version::Loose;

/// Returns the tags most like this one, the closest first and among equals the newest version first.
pub(super) fn similar(asked: &str, tags: &[Box<str>], at_most: usize) -> Vec<String> {
    let mut close: Vec<_> = tags
        .iter()
        .filter(|tag| &***tag != asked && !is_referrer(tag))
        .filter_map(|tag| Some((closeness(asked, tag)?, Reverse(Loose::parse(tag).map(|v| v.numbers)), tag)))
        .collect();
    close.sort();
    close.into_iter().take(at_most).map(|(_, _, tag)| tag.to_string()).collect()
}

/// Returns the versions that the tag may stand for, the most specific and newest first.
pub(super) fn versions(asked: &str, tags: &[Box<str>], at_most: usize) -> Vec<String> {
    let parsed: Vec<_> = tags.iter().filter_map(|tag| Some((Loose::parse(tag)?, tag))).collect();
    let asked_version = Loose::parse(asked);
    // A word is a flavour if versions have it (`alpine`, `1.29-alpine`); otherwise it is like `latest`.
    let flavour = match &asked_version {
        Some(version) => version.rest,
        None if parsed.iter().any(|(version, _)| version.rest == asked) => asked,
        None => "",
    };
    let within = asked_version.map(|version| version.numbers).unwrap_or_default();
    let mut versions: Vec<_> = parsed
        .into_iter()
        .filter(|(version, tag)| {
            version.rest == flavour
                && version.numbers.len() > within.len()
                && version.numbers.starts_with(&within)
                && &***tag != asked
        })
        .collect();
    versions.sort_by_key(|(version, tag)| {
        // More than three numbers are not more specific than three.
        (Reverse(version.numbers.len().min(3)), Reverse(version.numbers.clone()), tag.len())
    });
    versions.into_iter().take(at_most).map(|(_, tag)| tag.to_string()).collect()
}

/// Returns how close a tag is to the asked one: first the kind of closeness, then the distance. None if it is not
/// close.
fn closeness(asked: &str, tag: &str) -> Option<(u8, u64)> {
    let lower = (asked.to_ascii_lowercase(), tag.to_ascii_lowercase());
    let (asked, tag) = (lower.0.as_str(), lower.1.as_str());
    let without_v = |text: &'_ str| text.strip_prefix('v').unwrap_or(text).to_owned();
    let folded = |text: &str| text.replace(['-', '_'], ".");
    if asked == tag {
        return Some((0, 0));
    }
    if without_v(asked) == without_v(tag) {
        return Some((1, 0));
    }
    if folded(asked) == folded(tag) {
        return Some((2, 0));
    }
    if continues(asked, tag) || continues(tag, asked) {
        return Some((3, 0));
    }
    if let (Some(asked), Some(tag)) = (Loose::parse(asked), Loose::parse(tag))
        && asked.numbers.len() > 1
        && (asked.at(0), asked.at(1)) == (tag.at(0), tag.at(1))
    {
        let flavour = if asked.rest == tag.rest { 0 } else { 1 << 32 };
        return Some((4, flavour + asked.at(2).abs_diff(tag.at(2)).min(1 << 31)));
    }
    let distance = strsim::damerau_levenshtein(asked, tag);
    (distance <= (asked.len() / 4).max(1)).then(|| (5, u64::try_from(distance).unwrap_or(u64::MAX)))
}

/// Returns true if one tag continues the other: `1.27.3` and `1.27-alpine` continue `1.27`.
fn continues(short: &str, long: &str) -> bool {
    long.strip_prefix(short).is_some_and(|rest| rest.starts_with(['.', '-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<Box<str>> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn the_closest_tags_come_first_and_of_equal_ones_the_newest() {
        let referrer = format!("sha256-{}.sig", "a".repeat(64));
        for (asked, listed, expected) in [
            ("1.4.7", "1.4.6 1.4.8 v1.4.7 2.0.0 latest", "v1.4.7 1.4.8 1.4.6"),
            ("1.4.7", "1.4.1 1.4.9 1.4.5 1.3.7", "1.4.9 1.4.5 1.4.1"),
            ("1.27", "1.27.1 1.27.3 1.27.2 1.28.0 1.2", "1.27.3 1.27.2 1.27.1"),
            ("1.27.3", "1.27 1.28", "1.27"),
            ("V1", "v1 1", "v1 1"),
            ("1-29-3", "1.29.3 1.29", "1.29.3"),
            ("stabel", "stable latest nightly", "stable"),
            ("lates", "latest", "latest"),
            ("1.4.7-alpine", "1.4.6-alpine 1.4.7 1.4.6", "1.4.7 1.4.6-alpine 1.4.6"),
            ("main", "1.0 2.0", ""),
            ("1.0", "", ""),
            ("1.0", &referrer, ""),
            (
                "18446744073709551615.1.1",
                "18446744073709551616.1.1 18446744073709551615.1.0",
                "18446744073709551615.1.0 18446744073709551616.1.1",
            ),
        ] {
            assert_eq!(similar(asked, &tags(listed), 3).join(" "), expected, "{asked} of {listed}");
        }
    }

    #[test]
    fn the_most_specific_version_comes_first() {
        for (asked, listed, expected) in [
            ("latest", "1 1.29 1.29.3 1.28.9 latest stable 1.29.3-alpine", "1.29.3 1.28.9 1.29 1"),
            ("alpine", "1.29-alpine 1.29.3-alpine 1.29.3 alpine", "1.29.3-alpine 1.29-alpine"),
            ("1.29", "1.29 1.29.3 1.29.2 1.28.9 1.29.3-alpine", "1.29.3 1.29.2"),
            ("v2", "v2 v2.1 v2.1.0 v3.0.0", "v2.1.0 v2.1"),
            ("latest", "1.10.0 1.9.0 1.2.0", "1.10.0 1.9.0 1.2.0"),
            ("latest", "2.0.0-rc1 main latest", ""),
            ("latest", "1.2.3.4.5 1.2.3.4 1.2.4", "1.2.4 1.2.3.4"),
            ("latest", "", ""),
        ] {
            assert_eq!(versions(asked, &tags(listed), 8).join(" "), expected, "{asked} of {listed}");
        }
    }

    #[test]
    fn there_are_never_more_than_were_asked_for() {
        let many: Vec<Box<str>> = (0..100_000).map(|n| format!("1.0.{n}").into()).collect();
        assert_eq!(versions("latest", &many, 8).len(), 8);
        assert_eq!(similar("1.0.7", &many, 3).len(), 3);
    }

    #[test]
    fn any_text_can_be_compared() {
        proptest::proptest!(|(asked in "\\PC{0,20}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}")| {
            let listed = [tag.into_boxed_str()];
            assert!(similar(&asked, &listed, 3).len() <= 1);
            assert!(versions(&asked, &listed, 8).len() <= 1);
        });
    }
}
