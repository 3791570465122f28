//! Lists every tag of a repository, page by page. For people at the command line; no review needs it.
//!
//! A registry names the next page, but only the query of that URL is used.

use std::collections::BTreeSet;

use url::Url;

use crate::observe::{Method, Purpose};
use crate::profile::not_found::NotFound;
use crate::protocol::reply::Question;
use crate::protocol::session::Session;
use crate::protocol::tags::{self, BODY, PAGE, is_referrer, is_tag, next_link};
use crate::protocol::version::newest_first;
use crate::protocol::{classify, missing};
use crate::wire::message::HttpResponse;
use tagpin_domain::fact::{Fact, Unavailable};

/// Maximum number of pages.
const PAGES: usize = 10;
/// Maximum number of tags.
const TAGS: usize = 10_000;

/// The tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList {
    /// The tags: versions first, the newest before the older, then words. Signatures and the like (`sha256-….sig`)
    /// are left out.
    pub tags: Vec<String>,
    /// True if the list is complete. It is not beyond 10 pages or 10,000 tags, if a later page failed, or if the
    /// registry names another host for it.
    pub whole: bool,
}

/// The next page.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Page(Url),
    /// The registry names no next page, but this one was full.
    Guess(Url),
    /// The next page is on another host, or its link cannot be read.
    Elsewhere,
    None,
}

/// Lists the tags, page by page.
///
/// # Errors
/// Returns the fact that the registry answered instead of a first page.
pub(super) async fn list_all(session: &mut Session<'_>, not_found: NotFound) -> Result<TagList, Fact> {
    let first = tags::url(session);
    let mut found = BTreeSet::new();
    let mut url = first.clone();
    let mut guessed = false;
    for page in 0..PAGES {
        let question =
            Question { purpose: Purpose::Tags, method: Method::Get, url, accept: None, limit: BODY };
        let answer = match session.ask(&question).await {
            Ok(reply) if reply.answer.status == 200 => reply.answer,
            _ if page > 0 => return Ok(listed(found, false)),
            Ok(reply) if reply.answer.status == 404 => {
                return Err(missing::without_list(&reply, not_found, &session.asked_as()));
            }
            Ok(reply) => return Err(classify::reply(&reply, &session.asked_as())),
            Err(refusal) => return Err(classify::refusal(&refusal, &session.asked_as())),
        };
        let entries = match tags::entries(&answer.body) {
            Some(entries) => entries,
            None if page > 0 => return Ok(listed(found, false)),
            None => return Err(Fact::unavailable(Unavailable::Unreadable)),
        };
        let next = next(&first, &answer, &entries);
        let before = found.len();
        found.extend(entries.into_iter().filter(|tag| is_tag(tag) && !is_referrer(tag)));
        // A registry that ignores the query sends the same page again, and so does a loop of links.
        if page > 0 && found.len() == before {
            return Ok(listed(found, guessed));
        }
        (url, guessed) = match next {
            Next::Page(url) => (url, false),
            Next::Guess(url) => (url, true),
            Next::Elsewhere => return Ok(listed(found, false)),
            Next::None => return Ok(listed(found, true)),
        };
        if found.len() >= TAGS {
            break;
        }
    }
    Ok(listed(found, false))
}

fn listed(found: BTreeSet<String>, whole: bool) -> TagList {
    let whole = whole && found.len() <= TAGS;
    let mut tags: Vec<String> = found.into_iter().take(TAGS).collect();
    newest_first(&mut tags);
    TagList { tags, whole }
}

fn next(first: &Url, answer: &HttpResponse, entries: &[String]) -> Next {
    if let Some(target) = answer.headers("link").find_map(next_link) {
        return follow(first, target).map_or(Next::Elsewhere, Next::Page);
    }
    match entries.last() {
        Some(last) if entries.len() == PAGE => {
            let mut url = first.clone();
            url.query_pairs_mut().append_pair("last", last);
            Next::Guess(url)
        }
        _ => Next::None,
    }
}

/// Returns the first URL with the query of the link; none if the link leads to another origin.
#[must_use]
pub fn follow(first: &Url, target: &str) -> Option<Url> {
    let named = first.join(target).ok().filter(|named| named.origin() == first.origin())?;
    let mut next = first.clone();
    next.set_query(named.query());
    let namespace = |url: &Url| url.query_pairs().find(|(key, _)| key == "ns").map(|(_, ns)| ns.into_owned());
    if let (Some(ns), None) = (namespace(first), namespace(&named)) {
        next.query_pairs_mut().append_pair("ns", &ns);
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_a_link_is_followed_and_only_on_the_own_origin() {
        let first = Url::parse("https://mirror.example/v2/a/tags/list?n=1000&ns=docker.io").unwrap();
        let to = |target: &str| follow(&first, target).map(String::from);
        let next = "https://mirror.example/v2/a/tags/list?last=1&ns=docker.io";
        assert_eq!(to("/v2/elsewhere?last=1").as_deref(), Some(next));
        assert_eq!(to("?last=1&ns=docker.io").as_deref(), Some(next));
        assert_eq!(to("https://u:p@mirror.example/?last=1").as_deref(), Some(next));
        for target in [
            "http://mirror.example/?last=1",
            "https://other.example/?last=1",
            "//other.example/",
            "file:///x",
            "http://[",
        ] {
            assert_eq!(to(target), None, "{target}");
        }
    }
}
