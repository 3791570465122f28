use std::collections::HashMap;

use super::*;
use crate::credential::Candidate;
use crate::protocol::reply::Proved::{AnonymousToken, Nothing, Password, Token};
use tagpin_domain::fact::Hidden;

const TAGS: &[&str] = &["2"];

fn get(status: u16, proof: Proved, crossed: bool) -> Reply {
    let answer = HttpResponse::of(status, &[], b"");
    Reply { answer, proof, crossed, token_error: None }
}

fn list(tags: &[&str], whole: bool) -> Listing {
    Listing::Tags { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), whole }
}

fn with_tags(not_found: NotFound, get: &Reply, listing: Listing, shown: bool) -> Fact {
    let (pages, known) = (Pages::new(), Shown::new());
    let missing = Missing {
        reference: Reference::Tag("1"),
        repository: "r.test/a",
        not_found,
        pages: &pages,
        shown: &known,
    };
    let asked = AskedAs { candidate: &Candidate::anonymous(), withheld: None };
    missing.with_tags(get, listing, shown, &asked)
}

#[test]
fn a_404_proves_what_the_kind_of_registry_the_proof_and_the_list_say() {
    let hidden = || Fact::MissingOrPrivate(Hidden::default());
    let kinds = HashMap::from([
        ("proof", NotFound::Proof),
        ("credential", NotFound::ProofToCredential),
        ("shown", NotFound::IfShown),
    ]);
    for (kind, proof, listing, shown, expected) in [
        ("proof", Nothing, Listing::Unknown, false, Fact::TagMissing),
        ("proof", Nothing, Listing::NoRepository, false, Fact::RepositoryMissing),
        ("proof", Nothing, list(&[], true), false, Fact::TagMissing),
        ("credential", Password, Listing::Unknown, false, Fact::TagMissing),
        ("credential", Token, Listing::NoRepository, false, Fact::RepositoryMissing),
        ("credential", Nothing, Listing::Unknown, false, hidden()),
        ("credential", AnonymousToken, Listing::NoRepository, false, hidden()),
        ("credential", AnonymousToken, list(TAGS, true), true, Fact::TagMissing),
        ("shown", Password, Listing::Unknown, false, hidden()),
        ("shown", Token, Listing::NoRepository, false, hidden()),
        ("shown", Password, list(&[], true), false, hidden()),
        ("shown", Nothing, list(TAGS, true), true, Fact::TagMissing),
        ("shown", Nothing, list(TAGS, false), true, Fact::TagMissing),
        ("shown", Nothing, Listing::Unknown, true, Fact::TagMissing),
        // The repository was there a moment ago, and nothing proves that it is gone.
        ("shown", Nothing, Listing::NoRepository, true, hidden()),
        ("shown", Nothing, list(&["1"], true), true, Fact::unavailable(Unavailable::Unreadable)),
    ] {
        let fact = with_tags(kinds[kind], &get(404, proof, false), listing.clone(), shown);
        assert_eq!(fact, expected, "{kind} {proof:?} {listing:?} {shown}");
    }
}

#[test]
fn a_404_of_another_host_proves_less() {
    let hidden = || Fact::MissingOrPrivate(Hidden::default());
    for (not_found, listing, expected) in [
        (NotFound::Proof, Listing::Unknown, Fact::TagMissing),
        (NotFound::ProofToCredential, Listing::Unknown, hidden()),
        (NotFound::IfShown, Listing::Unknown, hidden()),
        (NotFound::IfShown, list(TAGS, false), hidden()),
        (NotFound::IfShown, list(TAGS, true), Fact::TagMissing),
    ] {
        let fact = with_tags(not_found, &get(404, Password, true), listing.clone(), true);
        assert_eq!(fact, expected, "{not_found:?} {listing:?}");
    }
}

#[test]
fn a_403_means_missing_only_with_a_whole_list() {
    for (listing, expected) in [
        (list(TAGS, true), Fact::TagMissing),
        (list(TAGS, false), Fact::MissingOrPrivate(Hidden::default())),
        (Listing::Unknown, Fact::AccessDenied(Hidden::default())),
        (list(&[], true), Fact::AccessDenied(Hidden::default())),
    ] {
        for not_found in [NotFound::Proof, NotFound::IfShown] {
            let fact = with_tags(not_found, &get(403, Password, false), listing.clone(), true);
            assert_eq!(fact, expected, "{not_found:?} {listing:?}");
        }
    }
}
