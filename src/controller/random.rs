//! Numbers that nobody can foresee, for names and jitter.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The standard library seeds its hash maps from the system's randomness: enough for what is no key.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
