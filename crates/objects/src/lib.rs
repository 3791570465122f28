//! Kubernetes documents without a client: the specs of policies, conditions, match conditions and rules of webhooks.
//!
//! People write and read these documents, with the help of `kubectl explain`. `domain::policy` defines their
//! meaning.

pub mod kinds;
pub mod reader;

pub mod canary;
pub mod door;
pub mod findings;
pub mod image_policy;
pub mod match_conditions;
pub mod release;
pub mod rights;

pub mod conditions;
pub mod duration;
pub mod label_selector;

mod schema;
