//! Kubernetes vocabulary without a client: the policy kinds, conditions, match conditions and rules of webhooks.
//!
//! What is written here is what people type and read (`kubectl explain`); what it means is `domain::policy`.

pub mod canary;
pub mod crds;
pub mod image_policy;
pub mod match_conditions;
pub mod release;
pub mod rights;

pub mod item;
pub mod slim;

pub mod conditions;
pub mod duration;
pub mod label_selector;

mod metadata;
mod schema;
