//! Several ways to do the same work, timed in turns.

use std::time::Instant;

use crate::figures::median;

/// The crate costs so much more than the engine where the engine earns its place.
pub(crate) const EARNED: f64 = 1.2;
/// Rounds of each contender, in turns, so that a busy machine slows all of them.
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

/// Time of one contender.
pub(crate) struct Time {
    pub(crate) name: &'static str,
    /// Median nanoseconds of one piece of work.
    pub(crate) nanoseconds: f64,
    /// Median of the ratios to the first contender of the same round.
    pub(crate) ratio: f64,
}

/// Times the contenders, `times` pieces of work a round. The first is the engine that the others are compared with.
pub(crate) fn run(times: u32, mut contenders: Vec<Contender<'_>>) -> Vec<Time> {
    let mut rounds = Vec::new();
    // The first round warms up.
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
