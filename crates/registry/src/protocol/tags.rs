//! Lists one page of a repository's tags, to tell a missing tag from a missing repository, and for suggestions.
//! Entries that are not tags are dropped.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::credential::{Candidate, CredentialId};
use crate::observe::{Method, Purpose};
use crate::protocol::reply::Question;
use crate::protocol::session::Session;
use crate::sharing::expiring::Expiring;
use tagpin_domain::image::ImageRef;

/// Number of tags that are requested; some registries answer a larger number with an error.
pub(super) const PAGE: usize = 1000;
/// Maximum size of a page, in bytes.
pub(super) const BODY: usize = 1024 * 1024;

/// Time for which a page is valid for suggestions, even if there is none.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// Maximum number of pages that are remembered, and of tags in each.
const PAGES: (usize, usize) = (64, 2000);

/// A shared page of tags.
pub(crate) type Tags = Arc<[Box<str>]>;

/// The pages that were seen a moment ago, by repository and credential.
pub(super) struct Pages(Expiring<(String, CredentialId), Option<Tags>>);

impl Pages {
    pub(super) fn new() -> Self {
        Self(Expiring::new(PAGES.0))
    }

    /// Returns the page that one of the candidates saw; `Some(None)` if all of them saw none.
    pub(super) fn get(&self, repository: &str, candidates: &[Candidate]) -> Option<Option<Tags>> {
        let now = Instant::now();
        let mut all_known = true;
        for candidate in candidates {
            match self.0.get(&(repository.to_owned(), candidate.id), now) {
                Some(Some(tags)) => return Some(Some(tags)),
                Some(None) => {}
                None => all_known = false,
            }
        }
        all_known.then_some(None)
    }

    /// Remembers what a registry listed for this credential.
    pub(super) fn put(&self, repository: &str, candidate: &Candidate, listing: &Listing) -> Option<Tags> {
        let tags: Option<Tags> = match listing {
            Listing::Tags(tags) => Some(tags.iter().take(PAGES.1).map(|tag| tag.as_str().into()).collect()),
            Listing::NoRepository | Listing::Unknown => None,
        };
        let now = Instant::now();
        self.0.put((repository.to_owned(), candidate.id), tags.clone(), now + LIFE);
        tags
    }
}

/// The answer of a registry to a request for tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listing {
    /// The first page.
    Tags(Vec<String>),
    /// The repository does not exist.
    NoRepository,
    /// The registry does not tell.
    Unknown,
}

#[derive(Deserialize)]
struct Page {
    /// Some registries write `null` for an empty list.
    tags: Option<Vec<String>>,
}

/// Returns the URL of the first page.
pub(crate) fn url(session: &Session<'_>) -> Url {
    let mut url = session.url(&["tags", "list"]);
    url.query_pairs_mut().append_pair("n", &PAGE.to_string());
    url
}

/// Asks for one page of tags.
pub(super) async fn list(session: &mut Session<'_>) -> Listing {
    let url = url(session);
    let question = Question { purpose: Purpose::Tags, method: Method::Get, url, accept: None, limit: BODY };
    match session.ask(&question).await {
        Ok(reply) if reply.answer.status == 404 => Listing::NoRepository,
        Ok(reply) if reply.answer.status == 200 => parse(&reply.answer.body),
        _ => Listing::Unknown,
    }
}

fn parse(body: &[u8]) -> Listing {
    match entries(body) {
        Some(mut tags) => {
            tags.retain(|tag| is_tag(tag));
            Listing::Tags(tags)
        }
        None => Listing::Unknown,
    }
}

/// Returns the entries of a page, tags or not; none if the body is not a page.
pub(super) fn entries(body: &[u8]) -> Option<Vec<String>> {
    let page: Page = serde_json::from_slice(body).ok()?;
    Some(page.tags.unwrap_or_default())
}

/// Returns true if the text is a tag and nothing more.
pub(super) fn is_tag(text: &str) -> bool {
    ImageRef::parse(&format!("tag.invalid/x:{text}")).is_ok_and(|image| image.tag() == Some(text))
}

/// Returns true for tags of signatures and the like: `sha256-…`, with `.sig`, `.att` or `.sbom`.
pub(crate) fn is_referrer(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-") else { return false };
    let (hex, suffix) = rest.split_once('.').unwrap_or((rest, ""));
    hex.len() == 64
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && matches!(suffix, "" | "sig" | "att" | "sbom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_tag_is_read_from_a_page() {
        let body = br#"{"name":"x","tags":["1.0","","\u001b[31mred","a b","x@sha256:1","a/b","-x","v1_2","a\nb",":","latest"]}"#;
        let tags = ["1.0", "v1_2", "latest"].map(str::to_owned).to_vec();
        assert_eq!(parse(body), Listing::Tags(tags));
    }

    #[test]
    fn no_tags_are_no_failure_and_garbage_tells_nothing() {
        assert_eq!(parse(br#"{"name":"x","tags":null}"#), Listing::Tags(Vec::new()));
        assert_eq!(parse(br#"{"name":"x"}"#), Listing::Tags(Vec::new()));
        for body in [&b""[..], b"<html>", b"[]", br#"{"tags":"1.0"}"#, br#"{"tags":[1]}"#] {
            assert_eq!(parse(body), Listing::Unknown);
        }
    }
}
