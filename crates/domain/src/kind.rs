//! The identity of a kind of object. The crate `objects` has the table of kinds, with the paths to the judged
//! parts.

use std::fmt;

/// `StatefulSet` of apps/v1. Operators of databases compare its pods with its template.
pub const STATEFUL_SET: Kind = Kind::new("apps", "StatefulSet");

/// The identity of a kind of object: a group and a name, whatever the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    group: &'static str,
    name: &'static str,
}

impl Kind {
    /// Returns the kind of this API group (empty for the core group) and name: `apps`, `Deployment`.
    #[must_use]
    pub const fn new(group: &'static str, name: &'static str) -> Self {
        Self { group, name }
    }

    /// Returns the API group; the core group is empty.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.group
    }

    /// Returns the kind's name: `Deployment`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
