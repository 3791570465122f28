//! The identities that an exception is for.

use std::sync::Arc;

use crate::asker::Requester;
use crate::glob::Globs;
use crate::policy::PolicySet;

/// Maximum work of one request on the identities of exceptions: characters of globs times characters of names. Exceptions
/// beyond it do not count.
const WORK: usize = 16 << 20;

/// The identities that an exception is for: requests by one of the users or by a member of one of the groups.
#[derive(Debug, Clone)]
pub struct Identities {
    users: Globs,
    groups: Globs,
    /// The characters of the globs on users, and of those on groups.
    lengths: (usize, usize),
}

impl Identities {
    /// Returns the identities that these compiled globs match. `written` are the globs on users and on groups as text.
    #[must_use]
    pub fn new(users: Globs, groups: Globs, written: (&[String], &[String])) -> Self {
        let length = |globs: &[String]| globs.iter().map(|glob| glob.len() + 1).sum();
        Self { users, groups, lengths: (length(written.0), length(written.1)) }
    }

    /// Returns true if the identity is one of these, unless that takes more than is left of the work.
    fn names(&self, by: &Requester, left: &mut usize) -> bool {
        let groups: usize = by.groups.iter().map(|group| group.len() + 1).sum();
        let work = self.lengths.0.saturating_mul(by.user.len() + 1);
        let work = work.saturating_add(self.lengths.1.saturating_mul(groups));
        let Some(rest) = left.checked_sub(work) else { return false };
        *left = rest;
        // Without a name nobody asks.
        !by.user.is_empty()
            && (self.users.is_match(&by.user) || by.groups.iter().any(|group| self.groups.is_match(group)))
    }
}

impl PolicySet {
    /// Returns true if an exception in this namespace names groups.
    #[must_use]
    pub fn names_groups(&self, namespace: &str) -> bool {
        self.identities(namespace).any(|identities| identities.lengths.1 > 0)
    }

    /// Returns the identities of exceptions in this namespace that this one belongs to.
    #[must_use]
    pub fn naming(&self, namespace: &str, by: &Requester) -> Vec<Arc<Identities>> {
        let mut left = WORK;
        self.identities(namespace).filter(|identities| identities.names(by, &mut left)).cloned().collect()
    }

    fn identities(&self, namespace: &str) -> impl Iterator<Item = &Arc<Identities>> {
        let exceptions = self.of_namespace(namespace).flat_map(|policy| &policy.exceptions);
        exceptions.filter_map(|exception| exception.identities.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(users: &[&str], groups: &[&str]) -> Identities {
        let written = |globs: &[&str]| globs.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (users, groups) = (written(users), written(groups));
        let globs = |written: &[String]| Globs::new(written).unwrap();
        Identities::new(globs(&users), globs(&groups), (&users, &groups))
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
            let names = identities(users, groups).names(&runner, &mut WORK.clone());
            assert_eq!(names, expected, "{users:?} {groups:?}");
        }
        assert!(!identities(&["**"], &["**"]).names(&requester("", &["g"]), &mut WORK.clone()));
    }

    #[test]
    fn work_beyond_the_limit_names_nobody() {
        let identities = identities(&["a*"], &["b*"]);
        let anna = requester("anna", &["bees"]);
        let work = 3 * 5 + 3 * 5;
        let mut left = 2 * work;
        assert!(identities.names(&anna, &mut left) && left == work);
        assert!(identities.names(&anna, &mut left) && left == 0);
        assert!(!identities.names(&anna, &mut left));
    }
}
