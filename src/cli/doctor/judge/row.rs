//! One row of the report, and the words that rows share.

use serde::Serialize;

use crate::cli::doctor::findings::{Answer, Findings};
use tagpin_objects::release;

/// One row of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// Name of the check; names are stable.
    pub(crate) check: &'static str,
    /// Result of the check.
    pub(crate) status: Status,
    /// Description of what was found.
    pub(crate) detail: String,
    /// A command or an instruction that repairs the fault; every red row has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// The result of a check, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// The part is as it should be.
    Ok,
    /// Worth knowing: somebody chose this state, or it ends by itself.
    Note,
    /// The check failed.
    Unknown,
    /// The part is broken.
    Red,
}

impl Status {
    /// Returns the word in the report.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Red => "red",
        }
    }
}

impl Row {
    pub(super) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    pub(super) fn note(check: &'static str, detail: impl Into<String>, remedy: Option<String>) -> Self {
        Self { check, status: Status::Note, detail: detail.into(), remedy }
    }

    pub(super) fn red(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Red, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn unknown(check: &'static str, cause: &str) -> Self {
        Self { check, status: Status::Unknown, detail: cause.to_owned(), remedy: None }
    }
}

/// Judges an answer. If there is none, the only row says why.
pub(super) fn known<T>(
    check: &'static str,
    asked: &Answer<T>,
    judge: impl FnOnce(&T) -> Vec<Row>,
) -> Vec<Row> {
    match asked {
        Ok(found) => judge(found),
        Err(cause) => vec![Row::unknown(check, cause)],
    }
}

/// Returns the command that restores the objects of the chart.
pub(super) fn upgrade(found: &Findings) -> String {
    format!("helm upgrade tagpin charts/tagpin -n {} --reuse-values", found.namespace)
}

/// Returns the command that shows the logs of the replicas.
pub(super) fn logs(found: &Findings) -> String {
    format!("kubectl -n {} logs -l {} --tail=50", found.namespace, release::POD_SELECTOR)
}

/// Returns the first few names, and the number of the others.
pub(super) fn named(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
