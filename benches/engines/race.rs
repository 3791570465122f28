//! Times several ways to do the same work, in turns.

use std::time::Instant;

use crate::figures::median;

/// Ratio of the crate's cost to the engine's above which the engine is worth keeping.
pub(crate) const EARNED: f64 = 1.2;
/// Number of rounds. The contenders take turns, so that a busy machine slows all of them.
const ROUNDS: usize = 31;

/// One way to do the work.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) work: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, work: impl FnMut() + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }
}

/// The time of one contender.
pub(crate) struct Time {
    pub(crate) name: &'static str,
    /// Median of the nanoseconds for one piece of work.
    pub(crate) nanoseconds: f64,
    /// Median of the ratios to the first contender in the same round.
    pub(crate) ratio: f64,
}

/// Times the contenders, with `times` pieces of work per round. The others are compared with the first one, the engine.
pub(crate) fn run(times: u32, mut contenders: Vec<Contender<'_>>) -> Vec<Time> {
    let mut rounds = Vec::new();
    // The first round is for warming up.
    for _ in 0..=ROUNDS {
        let round: Vec<f64> = contenders
            .iter_mut()
            .map(|contender| {
                let started = Instant::now();
                for _ in 0..times {
                    (contender.work)();
                }
                started.elapsed().as_secs_f64() * 1e9 / f64::from(times)
            })
            .collect();
        rounds.push(round);
    }
    let rounds = rounds.split_off(1);
    let time = |(index, contender): (usize, &Contender<'_>)| Time {
        name: contender.name,
        nanoseconds: median(rounds.iter().map(|round| round[index])),
        ratio: median(rounds.iter().map(|round| round[index] / round[0])),
    };
    contenders.iter().enumerate().map(time).collect()
}
