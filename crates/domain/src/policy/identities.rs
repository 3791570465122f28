//! The identities that an exception is for.

use std::sync::Arc;

use crate::asker::Requester;
use crate::glob::Globs;
use crate::policy::PolicySet;
use crate::work::{Budget, Exhausted, Work};

/// The identities that an exception is for: requests by one of the users or by a member of one of the groups.
#[derive(Debug, Clone)]
pub struct Identities {
    users: Globs,
    groups: Globs,
}

impl Identities {
    /// Returns the identities that these globs match.
    #[must_use]
    pub const fn new(users: Globs, groups: Globs) -> Self {
        Self { users, groups }
    }

    /// Returns true if the identity is one of these.
    fn names(&self, by: &Requester, work: &Work) -> Result<bool, Exhausted> {
        // Without a name nobody asks.
        if by.user.is_empty() {
            return Ok(false);
        }
        if self.users.is_match(&by.user, work)? {
            return Ok(true);
        }
        for group in &by.groups {
            if self.groups.is_match(group, work)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl PolicySet {
    /// Returns true if an exception in this namespace names groups.
    #[must_use]
    pub fn names_groups(&self, namespace: &str) -> bool {
        let exceptions = self.of_namespace(namespace).flat_map(|policy| &policy.exceptions);
        let mut identities = exceptions.filter_map(|exception| exception.identities.as_ref());
        identities.any(|identities| !identities.groups.is_empty())
    }

    /// Returns the identities of exceptions in this namespace that this one belongs to. Once the work that the policies
    /// of a kind may take is done, their further exceptions for identities do not count.
    #[must_use]
    pub fn naming(&self, namespace: &str, by: &Requester, budget: &Budget) -> Vec<Arc<Identities>> {
        let mut naming = Vec::new();
        for policy in self.of_namespace(namespace) {
            let work = budget.of(policy.id.kind());
            let all = policy.exceptions.iter().filter_map(|exception| exception.identities.as_ref());
            naming.extend(all.filter(|identities| identities.names(by, work) == Ok(true)).cloned());
        }
        naming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(users: &[&str], groups: &[&str]) -> Identities {
        let globs = |written: &[&str]| {
            Globs::new(&written.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
        };
        Identities::new(globs(users), globs(groups))
    }

    fn requester(user: &str, groups: &[&str]) -> Requester {
        let groups = groups.iter().map(|group| (*group).into()).collect();
        Requester { groups, ..Requester::new(user, false) }
    }

    #[test]
    fn a_user_or_a_group_is_enough() {
        let runner = requester("system:serviceaccount:ci:runner", &["system:serviceaccounts:ci", "a/b"]);
        for (users, groups, expected) in [
            (&["system:serviceaccount:ci:*"][..], &[][..], true),
            (&["System:serviceaccount:ci:*"], &[], false),
            (&["runner"], &["system:serviceaccounts:ci"], true),
            (&["runner"], &["system:serviceaccounts"], false),
            (&[], &["*"], true),
            (&[], &[], false),
        ] {
            let names = identities(users, groups).names(&runner, &Work::default());
            assert_eq!(names, Ok(expected), "{users:?} {groups:?}");
        }
        assert_eq!(identities(&["**"], &["**"]).names(&requester("", &["g"]), &Work::default()), Ok(false));
    }
}
