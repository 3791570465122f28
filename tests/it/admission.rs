//! The webhook at its edge: what it answers to good reviews, to bad bodies, and when things go wrong.

mod bad_input;
mod limits;
mod marks;
mod properties;
mod reviews;
