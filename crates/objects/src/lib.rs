//! Kubernetes documents without a client: the specs of policies, conditions, match conditions and rules of webhooks.
//!
//! People write and read these documents, with the help of `kubectl explain`. `domain::policy` has their meaning.

pub mod canary;
pub mod image_policy;
pub mod match_conditions;
pub mod rights;

pub mod item;
pub mod slim;

pub mod conditions;
pub mod duration;
pub mod label_selector;

mod metadata;
mod schema;
