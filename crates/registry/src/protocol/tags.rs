//! Lists one page of a repository's tags, to tell a missing tag from a missing repository, and for suggestions.
//! Entries that are not tags are dropped.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::credential::{Candidate, CredentialId};
use crate::observe::{Method, Purpose};
use crate::protocol::classify;
use crate::protocol::codes::codes;
use crate::protocol::reply::Question;
use crate::protocol::session::Session;
use crate::sharing::expiring::Expiring;
use tagpin_domain::fact::{Fact, Unavailable};
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
            Listing::Tags { tags, .. } => {
                Some(tags.iter().take(PAGES.1).map(|tag| tag.as_str().into()).collect())
            }
            Listing::NoRepository | Listing::Unavailable(_) | Listing::Unknown => None,
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
    Tags {
        tags: Vec<String>,
        /// True if there is no other page.
        whole: bool,
    },
    /// The registry does not know the repository.
    NoRepository,
    /// The registry could not be asked for the tags.
    Unavailable(Fact),
    /// The registry does not tell.
    Unknown,
}

impl Listing {
    /// Returns true if the list shows something of the repository. An empty one does not: some registries send it for
    /// a repository that does not exist.
    pub(super) const fn shows(&self) -> bool {
        matches!(self, Self::Tags { tags, .. } if !tags.is_empty())
    }
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
        Ok(reply) if reply.answer.status == 404 && codes(&reply.answer.body).name_unknown => {
            Listing::NoRepository
        }
        Ok(reply) if reply.answer.status == 200 => {
            let more = reply.answer.headers("link").any(|value| next_link(value).is_some());
            parse(&reply.answer.body, more)
        }
        Ok(reply) => unlisted(classify::reply(&reply, &session.asked_as())),
        Err(refusal) => unlisted(classify::refusal(&refusal, &session.asked_as())),
    }
}

/// Keeps the fact of an outage, which says nothing about the repository.
fn unlisted(fact: Fact) -> Listing {
    match fact {
        Fact::RateLimited { .. } => Listing::Unavailable(fact),
        Fact::Unavailable { cause: Unavailable::Status(408 | 500 | 502..=599), .. } => {
            Listing::Unavailable(fact)
        }
        Fact::Unavailable { cause: Unavailable::Status(_) | Unavailable::Unreadable, .. } => Listing::Unknown,
        Fact::Unavailable { .. } => Listing::Unavailable(fact),
        _ => Listing::Unknown,
    }
}

fn parse(body: &[u8], more: bool) -> Listing {
    match entries(body) {
        Some(mut tags) => {
            let whole = !more && tags.len() < PAGE;
            tags.retain(|tag| is_tag(tag));
            Listing::Tags { tags, whole }
        }
        None => Listing::Unknown,
    }
}

/// Returns the target of the first link with the relation `next` (RFC 8288, as far as registries write it).
#[must_use]
pub fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        let (parameters, following) = after.split_at(after.find('<').unwrap_or(after.len()));
        let is_next = parameters.split([';', ',']).filter_map(|parameter| parameter.split_once('=')).any(
            |(name, value)| {
                let mut relations = value.trim().trim_matches('"').split_whitespace();
                name.trim().eq_ignore_ascii_case("rel")
                    && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
            },
        );
        if is_next {
            return Some(target);
        }
        rest = following;
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
        assert_eq!(parse(body, false), Listing::Tags { tags, whole: true });
    }

    #[test]
    fn no_tags_are_no_failure_and_garbage_tells_nothing() {
        for body in [&br#"{"name":"x","tags":null}"#[..], br#"{"name":"x"}"#] {
            let listing = parse(body, false);
            assert_eq!(listing, Listing::Tags { tags: Vec::new(), whole: true });
            assert!(!listing.shows());
        }
        for body in [&b""[..], b"<html>", b"[]", br#"{"tags":"1.0"}"#, br#"{"tags":[1]}"#] {
            assert_eq!(parse(body, false), Listing::Unknown);
        }
    }

    #[test]
    fn the_next_link_is_found_among_others() {
        for (value, target) in [
            (r#"</v2/a/tags/list?last=1>; rel="next""#, Some("/v2/a/tags/list?last=1")),
            (r#"<?last=1>;rel=next"#, Some("?last=1")),
            (r#"</a>; rel="prev", </b>; title="x"; REL="last Next""#, Some("/b")),
            (r#"</a>; rel="prev""#, None),
            (r#"</a>"#, None),
            ("", None),
            ("<", None),
            ("<<>>; rel=next", Some("<")),
        ] {
            assert_eq!(next_link(value), target, "{value}");
        }
    }

    #[test]
    fn a_full_page_or_a_link_to_the_next_one_is_not_the_whole_list() {
        let page = |tags: usize| {
            let tags: Vec<String> = (0..tags).map(|number| number.to_string()).collect();
            serde_json::json!({ "tags": tags }).to_string().into_bytes()
        };
        for (tags, more, all) in [(3, false, true), (3, true, false), (PAGE, false, false)] {
            let listing = parse(&page(tags), more);
            assert!(matches!(listing, Listing::Tags { whole, .. } if whole == all), "{tags} {more}");
        }
    }
}
