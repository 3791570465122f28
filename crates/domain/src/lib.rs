//! The pure core: image references, the demands of policies, the answers of registries, and the decisions
//! that follow.
//!
//! It has no async code, no I/O, no clock and no Kubernetes client: time is an argument and a registry's
//! answer is a value. Read the modules in the order of the flow.

pub mod digest;
pub mod image;
pub mod platform;

pub mod asker;
mod entries;
pub mod kind;
pub mod object_name;
pub mod original;
pub mod slot;
pub mod subject;
pub mod workload;

pub mod check;
pub mod glob;
pub mod policy;
pub mod requirement;
pub mod work;

pub mod fact;
pub mod mark;
pub mod pin;

pub mod denial;
pub mod draft;
mod hint;
pub mod remedy;
pub mod unreadable;
pub mod verdict;
pub mod wording;

pub mod message;
pub mod patch;
