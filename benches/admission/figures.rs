//! Computes medians, and prints goals that are met or missed.

use std::fmt::Display;

/// Returns the median.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Prints a line that ends with a goal.
pub(crate) fn goal(what: impl Display, wanted: impl Display, met: bool) {
    println!("{what}   goal {wanted}: {}", if met { "pass" } else { "MISS" });
}
