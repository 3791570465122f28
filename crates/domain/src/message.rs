//! The layout of what people read about verdicts: refusals with their causes, and warnings. `wording` has the
//! sentences.

use std::fmt::Write as _;
use std::time::Duration;

use crate::denial::{Code, shown};
use crate::kind::Kind;
use crate::policy::PolicyId;
use crate::slot::Role;
use crate::unreadable::Unreadable;
use crate::verdict::{Effect, Verdict};
use crate::wording::{About, Wording};

pub use stale::stale_warnings;

mod stale;

/// Maximum number of characters of a reference in a message. Only a reference with an absurdly long host is
/// longer.
const REFERENCE_SHOWN: usize = 600;
/// Maximum number of characters of an object's name in a message (a valid name has at most 253).
const OBJECT_NAME_SHOWN: usize = 253;
/// Maximum number of characters of a container's or volume's name in a message (a valid name has at most 63).
const NAME_SHOWN: usize = 63;
/// Maximum number of entries of a message.
const ENTRIES: usize = 64;
/// Maximum number of policies that one entry names.
const POLICIES: usize = 8;
/// Maximum number of warnings of one response; all webhooks of a request share 4096 bytes.
const WARNINGS: usize = 5;
/// Maximum number of bytes of one warning; the API server may cut a longer one.
const WARNING_BYTES: usize = 256;
/// Number of hexadecimal digits of a digest in a message.
const DIGEST_DIGITS: usize = 12;

/// One machine-readable cause of a refusal, for `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The code of the violation.
    pub reason: Code,
    /// The path of the reference: `spec.containers[0].image`.
    pub field: String,
    /// The first line of the entry in the message.
    pub message: String,
}

/// The texts for the author of a refused object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The whole message: each refused slot with its policies and a remedy.
    pub message: String,
    /// The machine-readable causes, in the order of the message.
    pub causes: Vec<Cause>,
}

impl Refusal {
    /// Adds another refusal of the same object.
    pub fn append(&mut self, other: Self) {
        if !self.message.is_empty() {
            self.message.push('\n');
        }
        self.message.push_str(&other.message);
        self.causes.extend(other.causes);
    }
}

/// Returns the refusal of an object with these verdicts. The message is empty if nothing is refused.
#[must_use]
pub fn refusal(verdicts: &[Verdict]) -> Refusal {
    let entries = entries(verdicts, Effect::Deny);
    let mut refusal = Refusal { message: String::new(), causes: Vec::new() };
    for entry in entries.iter().take(ENTRIES) {
        let first = entry.first_line();
        if !refusal.message.is_empty() {
            refusal.message.push('\n');
        }
        refusal.message.push_str(&first);
        entry.write_rest(&mut refusal.message);
        refusal.causes.push(Cause {
            reason: entry.wording.code(),
            field: entry.verdict.place.field.to_string(),
            message: first,
        });
    }
    if let Some(more) = entries.len().checked_sub(ENTRIES).filter(|more| *more > 0) {
        let _ = write!(refusal.message, "\nand {more} more");
    }
    refusal
}

/// Returns the warnings of a response: at most five and a count of the rest, one line of ASCII and at most
/// 256 bytes each.
#[must_use]
pub fn warnings(verdicts: &[Verdict]) -> Vec<String> {
    let entries = entries(verdicts, Effect::Warn);
    limited(&entries, Entry::warning)
}

/// Returns the warnings about the first five of these, and a count of the rest.
fn limited<T>(all: &[T], warning: impl Fn(&T) -> String) -> Vec<String> {
    let mut warnings: Vec<String> = all.iter().take(WARNINGS).map(warning).collect();
    if let Some(more) = all.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        warnings.push(format!("... and {more} more warnings of tagpin"));
    }
    warnings
}

/// Returns the refusal of an object that cannot be read or checked, with the policies that may apply to it. `field` is
/// the path of the part that cannot be judged.
#[must_use]
pub fn unreadable(
    kind: Kind,
    field: &[&str],
    name: &str,
    why: Unreadable,
    policies: &[&PolicyId],
) -> Refusal {
    let first = unreadable_line(kind, name, &why.problem());
    let message = format!("{first}\n  policy: {}\n  fix:    {}", named(policies), why.remedy());
    let field = field.join(".");
    Refusal { message, causes: vec![Cause { reason: Code::ReviewUnreadable, field, message: first }] }
}

/// Returns the warning about an object that cannot be read or checked and is allowed nevertheless.
#[must_use]
pub fn unreadable_warning(kind: Kind, name: &str, why: Unreadable) -> String {
    let problem = why.problem();
    let lines = [name, ""].map(|name| unreadable_line(kind, name, &problem));
    lines
        .into_iter()
        .find(|line| line.len() <= WARNING_BYTES)
        .unwrap_or_else(|| format!("{kind}: tagpin cannot read the object [{}]", Code::ReviewUnreadable))
}

/// Returns the first line: `Pod "web": the object is too large to check: … [ReviewUnreadable]`.
fn unreadable_line(kind: Kind, name: &str, problem: &str) -> String {
    let name =
        if name.is_empty() { String::new() } else { format!(" \"{}\"", shown(name, OBJECT_NAME_SHOWN)) };
    format!("{kind}{name}: {problem} [{}]", Code::ReviewUnreadable)
}

/// Returns the names of policies as a message lists them.
fn named(policies: &[&PolicyId]) -> String {
    let shown = |policy: &&PolicyId| shown(&policy.to_string(), usize::MAX);
    let mut names: Vec<String> = policies.iter().take(POLICIES).map(shown).collect();
    if let Some(more) = policies.len().checked_sub(POLICIES).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// One code of one slot, and every policy that found it.
struct Entry<'a> {
    verdict: &'a Verdict,
    wording: Wording<'a>,
    policies: Vec<&'a PolicyId>,
    retry_after: Option<Duration>,
}

/// Groups findings of this effect by slot and code. A code that refuses a slot gives no warning as well.
fn entries(verdicts: &[Verdict], effect: Effect) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for verdict in verdicts {
        // The strictest effect of each code, and its entry. There are few codes.
        let mut codes: Vec<(Code, Effect, Option<usize>)> = Vec::new();
        for finding in &verdict.findings {
            match codes.iter_mut().find(|(code, ..)| *code == finding.code()) {
                Some((_, strictest, _)) => *strictest = finding.effect.max(*strictest),
                None => codes.push((finding.code(), finding.effect, None)),
            }
        }
        for finding in verdict.findings.iter().filter(|finding| finding.effect == effect) {
            let code = codes.iter_mut().find(|(code, ..)| *code == finding.code());
            let Some((_, _, place)) = code.filter(|(_, strictest, _)| *strictest == effect) else { continue };
            match place.and_then(|place| entries.get_mut(place)) {
                Some(entry) => {
                    entry.policies.push(&finding.policy);
                    entry.retry_after = entry.retry_after.max(finding.retry_after);
                }
                None => {
                    *place = Some(entries.len());
                    entries.push(Entry {
                        verdict,
                        wording: Wording::new(&finding.violation, &about(verdict)),
                        policies: vec![&finding.policy],
                        retry_after: finding.retry_after,
                    });
                }
            }
        }
    }
    entries
}

fn about(verdict: &Verdict) -> About<'_> {
    About {
        reference: &verdict.reference,
        image: verdict.image.as_ref().ok(),
        entry: verdict.entry.as_deref(),
        shown: verdict.shown,
        container: (verdict.place.key.role == Role::Container).then_some(&*verdict.place.key.name),
    }
}

impl Entry<'_> {
    /// Returns the first line: `image "nginx:latest" (container web): tag "latest" is forbidden [TagForbidden]`.
    fn first_line(&self) -> String {
        self.line(REFERENCE_SHOWN, &self.wording.problem())
    }

    fn line(&self, reference_limit: usize, problem: &str) -> String {
        let Verdict { place, reference, .. } = self.verdict;
        let slot = &place.key;
        format!(
            "image \"{}\" ({} {}): {problem} [{}]",
            shown(reference, reference_limit),
            slot.role.noun(),
            shown(&slot.name, NAME_SHOWN),
            self.wording.code()
        )
    }

    /// Writes the lines after the first: the policies, the remedy, and the time of a retry.
    fn write_rest(&self, message: &mut String) {
        let rule = self.wording.code().rule().word();
        let _ = write!(message, "\n  policy: {}, rule {rule}", named(&self.policies));
        match self.suggestion() {
            Some(Suggestion::Instead { reference, tag, digest }) => {
                let reference = self.wording.typed(&reference);
                let _ =
                    write!(message, "\n  try:    {reference}   (the version that {tag} names now, {digest})");
            }
            Some(Suggestion::Similar(tags)) => {
                let _ = write!(message, "\n  did you mean: {tags}");
            }
            None => {
                let _ = write!(message, "\n  fix:    {}", self.wording.remedy());
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
        match self.wording.code() {
            Code::TagForbidden | Code::TagNotExplicit => {
                let instead = self.verdict.instead.as_ref()?;
                let image = self.verdict.image.as_ref().ok()?;
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

    /// Returns the repository, as written, whose list of tags helps an author who got no suggestion; none if the
    /// registry shows nothing of the repository.
    fn to_be_listed(&self) -> Option<String> {
        let about_a_tag =
            matches!(self.wording.code(), Code::TagForbidden | Code::TagNotExplicit | Code::TagNotFound);
        if !about_a_tag || self.verdict.shown == Some(false) {
            return None;
        }
        let image = self.verdict.image.as_ref().ok()?;
        Some(shown(image.written_name(), REFERENCE_SHOWN))
    }

    /// Returns a warning of one line that fits: without policy or suggestion if need be, else with a shorter
    /// reference.
    fn warning(&self) -> String {
        let suggestion = match self.suggestion() {
            Some(Suggestion::Instead { reference, .. }) => {
                format!("; try {}", self.wording.typed(&reference))
            }
            Some(Suggestion::Similar(tags)) => format!("; did you mean {tags}"),
            None => self.wording.advice().map(|advice| format!("; {advice}")).unwrap_or_default(),
        };
        let policy = format!("; policy {}", named(&self.policies));
        let problem = self.wording.problem();
        let full = self.line(REFERENCE_SHOWN, &problem);
        let mut lines = vec![
            format!("{full}{policy}{suggestion}"),
            format!("{full}{suggestion}"),
            format!("{full}{policy}"),
            full,
        ];
        lines.extend([120, 60, 20].map(|limit| self.line(limit, &problem)));
        lines.into_iter().find(|line| line.len() <= WARNING_BYTES).unwrap_or_else(|| {
            let slot = &self.verdict.place.key;
            format!("{} {} [{}]", slot.role.noun(), shown(&slot.name, NAME_SHOWN), self.wording.code())
        })
    }
}

enum Suggestion {
    Instead { reference: String, tag: String, digest: String },
    Similar(String),
}

/// Returns the beginning of a digest: `sha256:3f5c0a1b2c3d…`.
fn short(digest: &str) -> String {
    let end = digest.find(':').map_or(0, |colon| colon + 1 + DIGEST_DIGITS);
    digest.get(..end).map_or_else(|| digest.to_owned(), |start| format!("{start}…"))
}

/// Returns the duration in whole seconds, rounded up, at least one.
const fn seconds(duration: Duration) -> u64 {
    let whole = duration.as_secs() + if duration.subsec_nanos() > 0 { 1 } else { 0 };
    if whole == 0 { 1 } else { whole }
}

#[cfg(test)]
mod tests;
