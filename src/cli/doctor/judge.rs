//! From what was found to rows: what is fine, what is red, and what to do about it. It asks nobody.

use serde::Serialize;

use crate::cli::doctor::findings::{Asked, Findings};
use tagpin_objects::release;

mod configuration;
mod parts;
mod policies;
mod replicas;
mod stored;
mod webhooks;

#[cfg(test)]
mod tests;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// What was looked at: a word that stays.
    pub(crate) check: &'static str,
    /// How it is.
    pub(crate) status: Status,
    /// What was seen.
    pub(crate) detail: String,
    /// What to do about it; always there in a red row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// How it is with one thing. The order is that of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Worth knowing; somebody's choice, or over by itself.
    Note,
    /// Nobody could say.
    Unknown,
    /// Broken.
    Red,
}

impl Status {
    /// The word itself.
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
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    fn note(check: &'static str, detail: impl Into<String>, remedy: Option<String>) -> Self {
        Self { check, status: Status::Note, detail: detail.into(), remedy }
    }

    fn red(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Red, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn unknown(check: &'static str, cause: &str) -> Self {
        Self { check, status: Status::Unknown, detail: cause.to_owned(), remedy: None }
    }
}

/// Every row, in the order in which causes come before what follows from them.
pub(crate) fn judge(found: &Findings) -> Vec<Row> {
    [
        parts::crds(found),
        parts::permissions(found),
        replicas::replicas(found),
        replicas::leader(found),
        parts::certificate(found),
        webhooks::filled(found),
        webhooks::reached(found),
        webhooks::namespaces(found),
        policies::policies(found),
        stored::unreadable(found),
        configuration::configuration(found),
        replicas::registries(found),
        policies::unpinned(found),
        policies::pull_secrets(found),
    ]
    .concat()
}

/// Judges what was found out; a part that was not is one row that says why.
fn known<T>(check: &'static str, asked: &Asked<T>, judge: impl FnOnce(&T) -> Vec<Row>) -> Vec<Row> {
    match asked {
        Ok(found) => judge(found),
        Err(cause) => vec![Row::unknown(check, cause)],
    }
}

/// What brings back everything that the chart grants and makes.
fn upgrade(found: &Findings) -> String {
    format!("helm upgrade tagpin charts/tagpin -n {} --reuse-values", found.namespace)
}

/// What the replicas say about themselves.
fn logs(found: &Findings) -> String {
    format!("kubectl -n {} logs -l {} --tail=50", found.namespace, release::POD_SELECTOR)
}

/// The first few, and how many more there are.
fn named(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
