//! Decides whether fail-closed namespaces may refuse unanswered requests, from the outcome of canaries and
//! from the number of replicas that the Deployment asks for. It makes no calls and has no clock.

use std::time::Duration;

/// Minimum number of replicas for closed entries: with two replicas, the loss of one refuses nothing.
const MIN_REPLICAS: i32 = 2;
/// Number of canaries lost in a row after which tagpin counts as unreachable.
const MAX_LOST: u32 = 3;
/// Interval between canaries while they come through.
const REACHED_INTERVAL: Duration = Duration::from_secs(60);
/// Interval between canaries before the first one came through, and after a lost one.
pub(crate) const UNREACHED_INTERVAL: Duration = Duration::from_secs(5);

/// The outcome of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// The API server asked tagpin, and tagpin answered.
    Through,
    /// The API server answered without asking tagpin.
    Lost,
    /// The API server did not answer, or had no reason to ask tagpin: the canary proves nothing.
    Unanswered,
}

/// The reach of the API server to tagpin, as far as canaries have shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No canary has come through yet, nor have enough been lost.
    Untried,
    /// The API server reaches tagpin.
    Reached,
    /// The API server does not reach tagpin.
    Unreachable,
}

/// The state that follows from the canaries of one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arming {
    reach: Reach,
    /// Number of canaries lost in a row.
    lost: u32,
}

impl Arming {
    /// Returns the state before the first canary of this leader. The previous leader's state stays until canaries show
    /// otherwise.
    #[must_use]
    pub(crate) const fn new(armed: bool) -> Self {
        Self { reach: if armed { Reach::Reached } else { Reach::Untried }, lost: 0 }
    }

    /// Records the outcome of a canary. Returns the time from its sending until the next one is due.
    pub(crate) fn heard(&mut self, canary: Canary) -> Duration {
        match canary {
            Canary::Through => *self = Self::new(true),
            Canary::Lost => {
                self.lost = self.lost.saturating_add(1);
                if self.lost >= MAX_LOST {
                    self.reach = Reach::Unreachable;
                }
            }
            Canary::Unanswered => {}
        }
        if canary == Canary::Through { REACHED_INTERVAL } else { UNREACHED_INTERVAL }
    }

    /// Returns the reach of the API server to tagpin.
    #[must_use]
    pub(crate) const fn reach(self) -> Reach {
        self.reach
    }

    /// Returns true if fail-closed namespaces may refuse unanswered requests while the Deployment asks for
    /// this number of replicas. At zero replicas the present state stays, because nobody asked for less
    /// protection.
    #[must_use]
    pub(crate) const fn fails_closed(self, replicas: i32, at_present: bool) -> bool {
        matches!(self.reach, Reach::Reached) && (replicas >= MIN_REPLICAS || (replicas == 0 && at_present))
    }
}

#[cfg(test)]
mod tests {
    use super::Canary::{Lost, Through, Unanswered};
    use super::*;

    fn after(armed: bool, canaries: &[Canary]) -> Arming {
        let mut arming = Arming::new(armed);
        for canary in canaries {
            arming.heard(*canary);
        }
        arming
    }

    #[test]
    fn nothing_is_armed_before_a_canary_came_through() {
        for canaries in [&[][..], &[Lost], &[Lost, Lost], &[Unanswered; 9]] {
            let arming = after(false, canaries);
            assert_eq!(
                (arming.reach(), arming.fails_closed(2, false)),
                (Reach::Untried, false),
                "{canaries:?}"
            );
        }
        assert!(after(false, &[Lost, Lost, Through]).fails_closed(2, false));
    }

    #[test]
    fn three_lost_in_a_row_disarm_and_one_that_comes_through_arms_again() {
        for (canaries, reach) in [
            (&[Lost, Lost][..], Reach::Reached),
            (&[Lost, Lost, Through, Lost, Lost], Reach::Reached),
            (&[Lost, Lost, Lost], Reach::Unreachable),
            (&[Lost, Lost, Lost, Unanswered, Lost], Reach::Unreachable),
            (&[Lost, Lost, Lost, Through], Reach::Reached),
            (&[Lost, Lost, Lost, Through, Lost, Lost], Reach::Reached),
        ] {
            let arming = after(true, canaries);
            assert_eq!(arming.reach(), reach, "{canaries:?}");
            assert_eq!(arming.fails_closed(2, true), reach == Reach::Reached, "{canaries:?}");
        }
        assert_eq!(after(false, &[Lost, Lost, Lost]).reach(), Reach::Unreachable);
    }

    #[test]
    fn an_api_server_that_does_not_answer_changes_nothing() {
        assert_eq!(after(true, &[Unanswered; 9]), after(true, &[]));
        assert_eq!(after(true, &[Lost, Unanswered, Lost]), after(true, &[Lost, Lost]));
        assert_eq!(after(true, &[Lost, Unanswered, Lost, Unanswered, Lost]).reach(), Reach::Unreachable);
    }

    #[test]
    fn a_single_replica_never_refuses_by_being_away_and_zero_changes_nothing() {
        let armed = Arming::new(true);
        assert!(!armed.fails_closed(1, true) && !armed.fails_closed(1, false));
        assert!(armed.fails_closed(2, false) && armed.fails_closed(3, false));
        assert!(armed.fails_closed(0, true) && !armed.fails_closed(0, false));
        assert!(!after(true, &[Lost, Lost, Lost]).fails_closed(0, true));
    }

    #[test]
    fn a_cut_is_noticed_within_the_promise() {
        let mut arming = Arming::new(true);
        // The cut happens just after a canary came through. Each lost canary takes the API server 3 s.
        let mut noticed = arming.heard(Through);
        noticed += arming.heard(Lost);
        noticed += arming.heard(Lost);
        arming.heard(Lost);
        assert_eq!(arming.reach(), Reach::Unreachable);
        // A review that began just before the disarming is refused 10 s later.
        assert!(noticed + Duration::from_secs(3 + 10) < Duration::from_secs(90), "{noticed:?}");
    }
}
