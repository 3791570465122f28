//! Medians, and goals that are met or missed.

use std::fmt::Display;

/// The one in the middle.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A line with a goal at its end.
pub(crate) fn goal(what: impl Display, wanted: impl Display, met: bool) {
    println!("{what}   goal {wanted}: {}", if met { "pass" } else { "MISS" });
}
