//! Combines the facts of several credentials, and of several endpoints, into one.

use crate::profile::cloud_host::cloud_of;
use crate::profile::endpoint::{RegistryProfile, ResolveFrom};
use crate::profile::host::normal;
use tagpin_domain::fact::{Fact, Hidden, Unavailable};

/// Returns how much a fact about one credential says about the next one: none if it is final, otherwise a greater
/// number for a stronger fact. A tag that one credential cannot find may exist for another; the kubelet tries them
/// all.
pub(super) const fn weight(fact: &Fact) -> Option<u8> {
    match fact {
        Fact::CredentialsRejected { .. } => Some(0),
        Fact::MissingOrPrivate(_) => Some(1),
        // This credential was not sent, so it says nothing about the next one.
        Fact::Unavailable {
            cause: Unavailable::NoCredential | Unavailable::PullSecret | Unavailable::ServiceAccount,
            ..
        } => Some(2),
        Fact::RealmNotTrusted(_) => Some(3),
        Fact::RepositoryMissing => Some(4),
        Fact::AccessDenied(_) => Some(5),
        Fact::TagMissing | Fact::TagExpired | Fact::DigestMissing => Some(6),
        _ => None,
    }
}

/// Returns the fact that was learned with the credentials that were sent, as it holds for all of them. What those found
/// missing or closed, one that could not be obtained may be able to read.
pub(super) fn beside_absent(fact: Fact, absent: Option<Unavailable>) -> Fact {
    match absent {
        // The token service may see none of the credentials.
        Some(_) if matches!(fact, Fact::RealmNotTrusted(_)) => fact,
        Some(cause) if weight(&fact).is_some() => Fact::unavailable(cause),
        _ => fact,
    }
}

/// Returns the fact with the cloud that runs the registry, if nothing says how tagpin gets a credential of that cloud.
pub(super) fn name_cloud(fact: Fact, profile: &RegistryProfile, domain: &str) -> Fact {
    let named = |hidden: Hidden| {
        let cloud = || cloud_of(&normal(domain)).filter(|_| !profile.operators_credential);
        Hidden { cloud: hidden.cloud.or_else(cloud), ..hidden }
    };
    match fact {
        Fact::MissingOrPrivate(hidden) => Fact::MissingOrPrivate(named(hidden)),
        Fact::AccessDenied(hidden) => Fact::AccessDenied(named(hidden)),
        _ => fact,
    }
}

/// Combines the facts of the endpoints when none of them found the tag.
pub(super) fn conclude(resolve_from: ResolveFrom, facts: Vec<Fact>) -> Fact {
    let nowhere = Fact::unavailable(Unavailable::Dns);
    if resolve_from != ResolveFrom::MirrorsOnly {
        // The registry itself was asked last, and it decides.
        return facts.into_iter().next_back().unwrap_or(nowhere);
    }
    let mut decided = None;
    for fact in facts {
        let strength = match &fact {
            Fact::RepositoryMissing => 0,
            Fact::TagMissing | Fact::TagExpired | Fact::DigestMissing => 1,
            // One mirror may have what this one hides.
            Fact::MissingOrPrivate(_) => 2,
            // An endpoint that may have the tag gave no answer.
            _ => return fact,
        };
        if decided.as_ref().is_none_or(|(known, _)| *known <= strength) {
            decided = Some((strength, fact));
        }
    }
    match decided {
        None => nowhere,
        // Another mirror may not know that the tag expired.
        Some((_, Fact::TagExpired)) => Fact::TagMissing,
        Some((_, Fact::MissingOrPrivate(_))) => Fact::MissingOrPrivate(Hidden::default()),
        Some((_, fact)) => fact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin_domain::fact::Cloud;

    #[test]
    fn only_missing_everywhere_is_missing_at_mirrors() {
        let hidden = || Fact::MissingOrPrivate(Hidden::default());
        let late = || Fact::unavailable(Unavailable::Timeout);
        for (facts, combined) in [
            (vec![Fact::RepositoryMissing, Fact::RepositoryMissing], Fact::RepositoryMissing),
            (vec![Fact::TagMissing, Fact::RepositoryMissing], Fact::TagMissing),
            (vec![Fact::TagExpired], Fact::TagMissing),
            (vec![Fact::DigestMissing, Fact::RepositoryMissing], Fact::DigestMissing),
            (vec![hidden(), Fact::TagMissing], hidden()),
            (vec![Fact::TagMissing, hidden()], hidden()),
            (vec![Fact::TagMissing, hidden(), late()], late()),
            (vec![], Fact::unavailable(Unavailable::Dns)),
        ] {
            assert_eq!(conclude(ResolveFrom::MirrorsOnly, facts.clone()), combined, "{facts:?}");
        }
    }

    #[test]
    fn what_was_found_missing_is_unknown_while_a_credential_could_not_be_obtained() {
        let hidden = || Fact::MissingOrPrivate(Hidden::default());
        let unread = || Fact::unavailable(Unavailable::PullSecret);
        for fact in [
            hidden(),
            Fact::TagMissing,
            Fact::TagExpired,
            Fact::RepositoryMissing,
            Fact::DigestMissing,
            Fact::AccessDenied(Hidden::default()),
            Fact::CredentialsRejected { secret: None },
        ] {
            assert_eq!(beside_absent(fact.clone(), Some(Unavailable::PullSecret)), unread(), "{fact:?}");
            assert_eq!(beside_absent(fact.clone(), None), fact);
        }
        for fact in [Fact::unavailable(Unavailable::Timeout), Fact::Archived { restoring: false }] {
            assert_eq!(beside_absent(fact.clone(), Some(Unavailable::PullSecret)), fact);
        }
    }

    #[test]
    fn a_cloud_is_named_where_no_entry_gives_its_credential() {
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let hidden = |cloud| Fact::MissingOrPrivate(Hidden { cloud, ..Hidden::default() });
        let profile = RegistryProfile::of(ecr);
        assert_eq!(name_cloud(hidden(None), &profile, ecr), hidden(Some(Cloud::Aws)));
        assert_eq!(name_cloud(hidden(None), &profile, "registry.example.com"), hidden(None));
        let given = RegistryProfile { operators_credential: true, ..profile };
        assert_eq!(name_cloud(hidden(None), &given, ecr), hidden(None));
    }

    #[test]
    fn the_registry_itself_decides_after_its_mirrors() {
        let facts = vec![Fact::MissingOrPrivate(Hidden::default()), Fact::TagMissing];
        assert_eq!(conclude(ResolveFrom::MirrorsThenUpstream, facts), Fact::TagMissing);
    }

    #[test]
    fn a_credential_that_was_not_sent_does_not_keep_the_next_one_from_being_tried() {
        let not_sent = [Unavailable::NoCredential, Unavailable::PullSecret, Unavailable::ServiceAccount];
        let not_sent = not_sent.map(Fact::unavailable);
        assert!(not_sent.iter().all(|fact| weight(fact).is_some()));
        assert_eq!(weight(&Fact::unavailable(Unavailable::Timeout)), None);
        assert!(weight(&Fact::DigestMissing) > weight(&Fact::RepositoryMissing));
        assert!(weight(&not_sent[0]) > weight(&Fact::MissingOrPrivate(Hidden::default())));
        assert_eq!(weight(&Fact::Archived { restoring: false }), None);
    }
}
