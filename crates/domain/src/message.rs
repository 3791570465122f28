//! Verdicts become what people read: the message of a refusal, its causes, and warnings. It judges nothing and
//! makes no sentence about a violation; `denial` does.

use std::fmt::Write as _;
use std::time::Duration;

use crate::denial::{Code, Violation, shown};
use crate::image::ImageRef;
use crate::kind::Kind;
use crate::policy::PolicyId;
use crate::unreadable::Unreadable;
use crate::verdict::{Effect, Verdict};

/// Characters of a reference in a message: more than any that a node could pull, but for absurd hosts.
const REFERENCE_SHOWN: usize = 600;
/// Characters of the name of an object (at most 253 in a valid one).
const OBJECT_NAME_SHOWN: usize = 253;
/// Characters of a container's or volume's name (at most 63 in a valid object).
const NAME_SHOWN: usize = 63;
/// Entries of a message; an object may have as many slots as fit into it.
const ENTRIES: usize = 64;
/// Policies named in one entry.
const POLICIES: usize = 8;
/// Warnings of one answer; all webhooks of a request share 4096 bytes.
const WARNINGS: usize = 5;
/// Bytes of one warning; longer ones may be cut by the API server.
const WARNING_BYTES: usize = 256;
/// Hexadecimal digits of a digest in a message.
const DIGEST_DIGITS: usize = 12;

/// One machine-readable cause of a refusal, for `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The stable word.
    pub reason: Code,
    /// `spec.containers[0].image`
    pub field: String,
    /// The first line of its entry in the message.
    pub message: String,
}

/// The whole message of a refusal: every refused slot with its policies and what to do; empty when nothing is refused.
#[must_use]
pub fn refusal(verdicts: &[Verdict]) -> String {
    let entries = entries(verdicts, Effect::Deny);
    let mut message = String::new();
    for entry in entries.iter().take(ENTRIES) {
        if !message.is_empty() {
            message.push('\n');
        }
        entry.write(&mut message);
    }
    if let Some(more) = entries.len().checked_sub(ENTRIES).filter(|more| *more > 0) {
        let _ = write!(message, "\nand {more} more");
    }
    message
}

/// The causes of a refusal, in the order of the message.
#[must_use]
pub fn causes(verdicts: &[Verdict]) -> Vec<Cause> {
    let cause = |entry: &Entry<'_>| Cause {
        reason: entry.violation.code(),
        field: entry.verdict.place.field.to_string(),
        message: entry.first_line(REFERENCE_SHOWN),
    };
    entries(verdicts, Effect::Deny).iter().take(ENTRIES).map(cause).collect()
}

/// Warnings for the answer's headers: one line each, ASCII, at most 256 bytes, few.
#[must_use]
pub fn warnings(verdicts: &[Verdict]) -> Vec<String> {
    let entries = entries(verdicts, Effect::Warn);
    let mut warnings: Vec<String> = entries.iter().take(WARNINGS).map(Entry::warning).collect();
    if let Some(more) = entries.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        warnings.push(format!("... and {more} more warnings of tagpin"));
    }
    warnings
}

/// The message of the refusal of an object that cannot be read, with the policies that may be about it.
#[must_use]
pub fn unreadable(kind: Kind, name: &str, why: Unreadable, policies: &[&PolicyId]) -> String {
    let first = unreadable_line(kind, name, &why.wording().problem);
    format!("{first}\n  policy: {}\n  fix:    {}", named(policies), why.wording().remedy)
}

/// The cause of such a refusal. `field` is the path of the part that could not be judged.
#[must_use]
pub fn unreadable_cause(kind: Kind, field: &[&str], name: &str, why: Unreadable) -> Cause {
    Cause {
        reason: Code::ReviewUnreadable,
        field: field.join("."),
        message: unreadable_line(kind, name, &why.wording().problem),
    }
}

/// The warning about an object that cannot be read and is allowed all the same.
#[must_use]
pub fn unreadable_warning(kind: Kind, name: &str, why: Unreadable) -> String {
    let problem = why.wording().problem;
    let lines = [name, ""].map(|name| unreadable_line(kind, name, &problem));
    lines
        .into_iter()
        .find(|line| line.len() <= WARNING_BYTES)
        .unwrap_or_else(|| format!("{kind}: tagpin cannot read the object [{}]", Code::ReviewUnreadable))
}

/// `Pod "web": the object is too large to be checked: … [ReviewUnreadable]`
fn unreadable_line(kind: Kind, name: &str, problem: &str) -> String {
    let name =
        if name.is_empty() { String::new() } else { format!(" \"{}\"", shown(name, OBJECT_NAME_SHOWN)) };
    format!("{kind}{name}: {problem} [{}]", Code::ReviewUnreadable)
}

/// The names of policies in a message.
fn named(policies: &[&PolicyId]) -> String {
    let shown = |policy: &&PolicyId| shown(&policy.to_string(), usize::MAX);
    let mut names: Vec<String> = policies.iter().take(POLICIES).map(shown).collect();
    if let Some(more) = policies.len().checked_sub(POLICIES).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// One code of one slot, and every policy that says so.
struct Entry<'a> {
    verdict: &'a Verdict,
    violation: &'a Violation,
    policies: Vec<&'a PolicyId>,
    retry_after: Option<Duration>,
}

/// Groups findings of this effect by slot and code. What refuses a slot is not warned of again.
fn entries(verdicts: &[Verdict], effect: Effect) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for verdict in verdicts {
        let first = entries.len();
        for finding in &verdict.findings {
            let strictest = |code| {
                let same = verdict.findings.iter().filter(|finding| finding.code() == code);
                same.map(|finding| finding.effect).max()
            };
            if finding.effect != effect || strictest(finding.code()) != Some(effect) {
                continue;
            }
            let known = entries.iter_mut().skip(first).find(|entry| entry.violation.code() == finding.code());
            match known {
                Some(entry) => {
                    entry.policies.push(&finding.policy);
                    entry.retry_after = entry.retry_after.max(finding.retry_after);
                }
                None => entries.push(Entry {
                    verdict,
                    violation: &finding.violation,
                    policies: vec![&finding.policy],
                    retry_after: finding.retry_after,
                }),
            }
        }
    }
    entries
}

impl Entry<'_> {
    /// `image "nginx:latest" (container web): tag "latest" is forbidden [TagForbidden]`
    fn first_line(&self, reference_limit: usize) -> String {
        let Verdict { place, reference, .. } = self.verdict;
        let slot = &place.key;
        format!(
            "image \"{}\" ({} {}): {} [{}]",
            shown(reference, reference_limit),
            slot.role.noun(),
            shown(&slot.name, NAME_SHOWN),
            self.violation.wording(reference).problem,
            self.violation.code()
        )
    }

    fn write(&self, message: &mut String) {
        let rule = self.violation.code().rule().word();
        message.push_str(&self.first_line(REFERENCE_SHOWN));
        let _ = write!(message, "\n  policy: {}, rule {rule}", named(&self.policies));
        match self.suggestion() {
            Some(Suggestion::Instead { reference, tag, digest }) => {
                let _ =
                    write!(message, "\n  try:    {reference}   (the version that {tag} names now, {digest})");
            }
            Some(Suggestion::Similar(tags)) => {
                let _ = write!(message, "\n  did you mean: {tags}");
            }
            None => {
                let _ =
                    write!(message, "\n  fix:    {}", self.violation.wording(&self.verdict.reference).remedy);
                if let Some(repository) = self.to_be_listed() {
                    let _ = write!(message, "\n  try:    tagpin tags {repository}");
                }
            }
        }
        if let Some(after) = self.retry_after {
            let _ = write!(message, "\n  retry:  try again in {} s", seconds(after));
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self.violation.code() {
            Code::TagForbidden | Code::TagNotExplicit => {
                let instead = self.verdict.instead.as_ref()?;
                let image = ImageRef::parse(&self.verdict.reference).ok()?;
                Some(Suggestion::Instead {
                    reference: shown(&instead.reference, REFERENCE_SHOWN),
                    tag: image.effective_tag()?.to_owned(),
                    digest: short(instead.digest.as_str()),
                })
            }
            Code::TagNotFound if !self.verdict.similar.is_empty() => {
                let tags = self.verdict.similar.iter().map(|tag| shown(tag, 128));
                Some(Suggestion::Similar(tags.collect::<Vec<_>>().join(", ")))
            }
            _ => None,
        }
    }

    /// The repository, as written, whose tags would help somebody who got no suggestion.
    fn to_be_listed(&self) -> Option<String> {
        if !matches!(self.violation.code(), Code::TagForbidden | Code::TagNotExplicit | Code::TagNotFound) {
            return None;
        }
        let image = ImageRef::parse(&self.verdict.reference).ok()?;
        Some(shown(image.written_name(), REFERENCE_SHOWN))
    }

    /// One line that fits: first without the suggestion, then with a shorter reference.
    fn warning(&self) -> String {
        let suggestion = match self.suggestion() {
            Some(Suggestion::Instead { reference, .. }) => format!("; try {reference}"),
            Some(Suggestion::Similar(tags)) => format!("; did you mean {tags}"),
            None => String::new(),
        };
        let policy = format!("; policy {}", named(&self.policies));
        let full = self.first_line(REFERENCE_SHOWN);
        let mut lines = vec![
            format!("{full}{policy}{suggestion}"),
            format!("{full}{suggestion}"),
            format!("{full}{policy}"),
            full,
        ];
        lines.extend([120, 60, 20].map(|limit| self.first_line(limit)));
        lines.into_iter().find(|line| line.len() <= WARNING_BYTES).unwrap_or_else(|| {
            let slot = &self.verdict.place.key;
            format!("{} {} [{}]", slot.role.noun(), shown(&slot.name, NAME_SHOWN), self.violation.code())
        })
    }
}

enum Suggestion {
    Instead { reference: String, tag: String, digest: String },
    Similar(String),
}

/// `sha256:3f5c0a1b2c3d…`
fn short(digest: &str) -> String {
    let end = digest.find(':').map_or(0, |colon| colon + 1 + DIGEST_DIGITS);
    digest.get(..end).map_or_else(|| digest.to_owned(), |start| format!("{start}…"))
}

/// Whole seconds, rounded up, at least one.
const fn seconds(duration: Duration) -> u64 {
    let whole = duration.as_secs() + if duration.subsec_nanos() > 0 { 1 } else { 0 };
    if whole == 0 { 1 } else { whole }
}

#[cfg(test)]
mod tests;
