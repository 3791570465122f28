//! Decides when the webhooks are taken out of the way of an API server that does not reach tagpin, and when they come
//! back. With `failurePolicy: Ignore` nothing is refused, but each pod waits for both webhooks until they time out. It
//! makes no calls and has no clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::webhook_config::arming::Canary;

/// Time without a canary that came through after which the webhooks are withdrawn.
const SILENCE: Duration = Duration::from_secs(60);
/// Number of canaries through in a row after which the webhooks may return.
const RETURN_AFTER: u32 = 3;
/// Minimum duration of the first withdrawal.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// Upper bound of that duration, which doubles with each withdrawal.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Time after a withdrawal in which another one lasts longer.
const MEMORY: Duration = Duration::from_hours(1);

/// The state that follows from the canaries of one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    /// Time since which no canary came through.
    silent: Instant,
    /// Number of canaries through in a row during this withdrawal; none while the webhooks are in place.
    returning: Option<u32>,
    /// The last withdrawal: its begin and its minimum duration.
    last: Option<(Instant, Duration)>,
}

impl Withdrawal {
    /// Returns the state before the first canary of a leader.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { silent: now, returning: None, last: None }
    }

    /// Starts when the entry for canaries appears. A new leader leaves the webhooks of its predecessor `withdrawn`.
    pub(crate) fn begin(&mut self, withdrawn: bool, now: Instant) {
        self.silent = now;
        self.returning = None;
        if withdrawn {
            self.withdraw(now);
        }
    }

    /// Records the outcome of a canary that was sent at this time.
    pub(crate) fn heard(&mut self, canary: Canary, unreachable: bool, sent: Instant, now: Instant) {
        match (canary, self.returning) {
            (Canary::Unanswered, _) => {}
            (Canary::Through, None) => self.silent = sent,
            (Canary::Through, Some(through)) => {
                self.silent = sent;
                let through = through.saturating_add(1);
                let rested = self.last.is_none_or(|(begin, pause)| now >= begin + pause);
                self.returning = (through < RETURN_AFTER || !rested).then_some(through);
            }
            (Canary::Lost, Some(_)) => self.returning = Some(0),
            (Canary::Lost, None) => {
                if unreachable && now.duration_since(self.silent) >= SILENCE {
                    self.withdraw(now);
                }
            }
        }
    }

    /// Returns true while the webhooks are out of the way.
    pub(crate) const fn is_on(self) -> bool {
        self.returning.is_some()
    }

    fn withdraw(&mut self, now: Instant) {
        let recent = self.last.filter(|(begin, _)| now.duration_since(*begin) < MEMORY);
        let pause = recent.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(MAX_PAUSE));
        self.last = Some((now, pause));
        self.returning = Some(0);
    }
}

#[cfg(test)]
mod tests {
    use super::Canary::{Lost, Through, Unanswered};
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Hears canaries of this outcome each 5 s until the state changes, and returns the time that it took.
    fn until(held: &mut Withdrawal, canary: Canary, now: &mut Instant) -> Duration {
        let (start, before) = (*now, held.is_on());
        while held.is_on() == before {
            assert!(now.duration_since(start) < seconds(1000), "nothing changed");
            *now += seconds(5);
            held.heard(canary, canary == Lost, *now, *now);
        }
        now.duration_since(start)
    }

    #[test]
    fn a_minute_without_a_canary_withdraws_and_three_in_a_row_bring_back() {
        let start = Instant::now();
        let (mut held, mut now) = (Withdrawal::new(start), start);
        held.begin(false, now);
        held.heard(Lost, true, now + seconds(59), now + seconds(59));
        assert!(!held.is_on(), "too early");
        held.heard(Lost, false, now + seconds(61), now + seconds(61));
        assert!(!held.is_on(), "two lost canaries prove nothing");
        assert_eq!(until(&mut held, Lost, &mut now), seconds(60));
        now += seconds(100);
        for canary in [Through, Through, Lost, Through, Unanswered, Through] {
            held.heard(canary, false, now, now);
            assert!(held.is_on(), "{canary:?}");
        }
        held.heard(Through, false, now, now);
        assert!(!held.is_on());
        // The minute begins with the last canary that came through.
        held.heard(Lost, true, now + seconds(59), now + seconds(59));
        assert!(!held.is_on());
    }

    #[test]
    fn an_api_server_that_does_not_answer_withdraws_nothing() {
        let now = Instant::now();
        let mut held = Withdrawal::new(now);
        held.heard(Unanswered, true, now + seconds(600), now + seconds(600));
        assert!(!held.is_on());
    }

    #[test]
    fn each_withdrawal_within_an_hour_lasts_longer() {
        let mut now = Instant::now();
        let mut held = Withdrawal::new(now);
        let mut lasted = Vec::new();
        for _ in 0..7 {
            until(&mut held, Lost, &mut now);
            lasted.push(until(&mut held, Through, &mut now).as_secs());
        }
        assert_eq!(lasted, [15, 30, 60, 120, 240, 300, 300]);
        now += seconds(3600);
        until(&mut held, Lost, &mut now);
        assert_eq!(until(&mut held, Through, &mut now), seconds(15));
    }

    #[test]
    fn a_new_leader_leaves_withdrawn_what_it_finds_withdrawn() {
        let mut now = Instant::now();
        let mut held = Withdrawal::new(now);
        held.begin(true, now);
        assert!(held.is_on());
        assert_eq!(until(&mut held, Through, &mut now), seconds(15));
    }
}
