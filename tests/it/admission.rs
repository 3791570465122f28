//! The answers of the webhook to good reviews, to bad bodies, and to failures.

mod bad_input;
mod door;
mod exemptions;
mod limits;
mod marks;
mod properties;
mod reviews;
