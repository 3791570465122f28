//! Kubernetes vocabulary without a client: the policy kinds, conditions, match conditions and rules of webhooks.
//!
//! What is written here is what people type and read (`kubectl explain`); what it means is `domain::policy`.

pub mod kinds;
pub mod reader;

pub mod canary;
pub mod crds;
pub mod image_policy;
pub mod match_conditions;
pub mod release;
pub mod rights;

pub mod conditions;
pub mod duration;
pub mod label_selector;

mod schema;
