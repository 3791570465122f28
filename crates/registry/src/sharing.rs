//! Building blocks for work and memory that concurrent callers share.

pub(crate) mod expiring;
pub(crate) mod flight;
pub(crate) mod permits;
