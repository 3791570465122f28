//! Tells the API server from other callers, by the token in the path of a request. No connection is closed here.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use tagpin_objects::door::{Token, Tokens};

/// Time for which a token, or the paths without one, still count once others took their place. An API server may learn
/// of a change late.
const FORMER: Duration = Duration::from_secs(10 * 60);
/// Maximum number of former tokens that count.
const MAX_FORMER: usize = 8;
/// Maximum delay with which a replica learns of a new token or of a changed webhook configuration.
const BEHIND: Duration = Duration::from_millis(500);

/// The tokens and paths that count now.
#[derive(Debug)]
pub struct Door(watch::Sender<Accepted>);

#[derive(Debug, Clone)]
struct Accepted {
    /// The valid tokens; none while none is known, when every caller counts as the API server.
    tokens: Option<Tokens>,
    /// Tokens that were valid before, each with the time until which it counts.
    former: Vec<(Token, Instant)>,
    plain: Plain,
}

/// The validity of paths without a token.
#[derive(Debug, Clone, Copy)]
enum Plain {
    /// No report of the webhook configuration has arrived yet, so they count.
    Unreported,
    /// The webhook configuration names them, so they count.
    Named,
    /// They count until then, because the webhook configuration named them before.
    Until(Instant),
}

impl Door {
    /// Returns a door at which every caller counts as the API server, until tokens are known and a webhook
    /// configuration with tokens is reported.
    #[must_use]
    pub fn open() -> Self {
        Self(watch::Sender::new(Accepted { tokens: None, former: Vec::new(), plain: Plain::Unreported }))
    }

    /// Accepts these tokens from now on. The ones before count for ten minutes more.
    pub fn accept(&self, tokens: Tokens) {
        let now = Instant::now();
        self.0.send_if_modified(|accepted| {
            if accepted.tokens == Some(tokens) {
                return false;
            }
            let before = accepted.tokens.replace(tokens);
            accepted.former.retain(|(_, until)| now < *until);
            let replaced = before.into_iter().flat_map(|before| [before.current, before.next]);
            let replaced = replaced.filter(|token| *token != tokens.current && *token != tokens.next);
            accepted.former.extend(replaced.map(|token| (token, now + FORMER)));
            let surplus = accepted.former.len().saturating_sub(MAX_FORMER);
            accepted.former.drain(..surplus);
            true
        });
    }

    /// Records whether the live webhook configuration names paths without a token.
    pub fn report_plain(&self, named: bool) {
        self.0.send_if_modified(|accepted| {
            let plain = match (named, accepted.plain) {
                (true, Plain::Named) | (false, Plain::Until(_)) => return false,
                (true, _) => Plain::Named,
                (false, Plain::Named) => Plain::Until(Instant::now() + FORMER),
                (false, Plain::Unreported) => Plain::Until(Instant::now()),
            };
            accepted.plain = plain;
            true
        });
    }

    /// Returns true if this token is valid now. The paths without a token prove nothing here.
    #[must_use]
    pub fn proves(&self, shown: Token) -> bool {
        let accepted = self.0.borrow();
        accepted.valid(shown, Instant::now())
    }

    /// Returns true if the caller that showed this token, or none, counts as the API server. A token that is not known
    /// yet is waited for a moment, because the API server may have learned of it first.
    pub(crate) async fn admits(&self, shown: Option<Token>, deadline: Instant) -> bool {
        if self.0.borrow().admits(shown, Instant::now()) {
            return true;
        }
        let mut accepted = self.0.subscribe();
        let until = deadline.min(Instant::now() + BEHIND);
        let admitted = accepted.wait_for(|accepted| accepted.admits(shown, Instant::now()));
        timeout_at(until, admitted).await.is_ok_and(|admitted| admitted.is_ok())
    }
}

impl Accepted {
    fn admits(&self, shown: Option<Token>, now: Instant) -> bool {
        if self.tokens.is_none() {
            return true;
        }
        let plain = match self.plain {
            Plain::Unreported | Plain::Named => true,
            Plain::Until(until) => now < until,
        };
        // While anybody can come in without a token, a wrong token proves nothing.
        plain || shown.is_some_and(|token| self.valid(token, now))
    }

    /// Returns true if the token is one of those that count.
    fn valid(&self, token: Token, now: Instant) -> bool {
        let former = self.former.iter().any(|(former, until)| now < *until && *former == token);
        former || self.tokens.is_some_and(|tokens| tokens.current == token || tokens.next == token)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const fn token(number: u8) -> Token {
        Token::new([number; tagpin_objects::door::LENGTH])
    }

    const fn tokens(current: u8, next: u8) -> Tokens {
        Tokens { current: token(current), next: token(next) }
    }

    async fn admitted(door: &Door, shown: impl IntoIterator<Item = Option<u8>>) -> Vec<bool> {
        let soon = Instant::now() + Duration::from_secs(5);
        let asked = shown.into_iter().map(|shown| door.admits(shown.map(token), soon));
        futures::future::join_all(asked).await
    }

    /// Returns a door whose configuration has tokens.
    fn closed(current: u8, next: u8) -> Door {
        let door = Door::open();
        door.accept(tokens(current, next));
        door.report_plain(false);
        door
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_counts_until_tokens_are_known_and_in_the_paths() {
        let door = Door::open();
        assert_eq!(admitted(&door, [None, Some(1)]).await, [true, true]);
        door.report_plain(false);
        assert_eq!(admitted(&door, [None, Some(1)]).await, [true, true], "no token is known");
        door.report_plain(true);
        door.accept(tokens(1, 2));
        assert_eq!(admitted(&door, [None, Some(1), Some(9)]).await, [true, true, true]);
        assert_eq!(
            admitted(&closed(1, 2), [None, Some(1), Some(2), Some(9)]).await,
            [false, true, true, false]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_valid_token_proves_anything() {
        let door = Door::open();
        assert!(!door.proves(token(1)), "everybody is admitted, and nothing is proved");
        door.report_plain(true);
        door.accept(tokens(1, 2));
        assert_eq!([1, 2, 3].map(|number| door.proves(token(number))), [true, true, false]);
        door.accept(tokens(2, 3));
        assert!(door.proves(token(1)));
        sleep(FORMER).await;
        assert!(!door.proves(token(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_yesterday_counts_for_a_while() {
        let door = closed(1, 2);
        door.accept(tokens(2, 3));
        assert_eq!(admitted(&door, [Some(1), Some(2), Some(3)]).await, [true, true, true]);
        sleep(FORMER - BEHIND * 2).await;
        assert_eq!(admitted(&door, [Some(1)]).await, [true]);
        sleep(BEHIND * 2).await;
        assert_eq!(admitted(&door, [Some(1), Some(2)]).await, [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn plain_paths_count_while_the_configuration_names_them_and_for_a_while_after() {
        let door = closed(1, 2);
        for _ in 0..2 {
            door.report_plain(true);
            assert_eq!(admitted(&door, [None]).await, [true]);
            door.report_plain(false);
            sleep(FORMER - BEHIND * 2).await;
            door.report_plain(false);
            assert_eq!(admitted(&door, [None, Some(1)]).await, [true, true]);
            sleep(BEHIND * 2).await;
            assert_eq!(admitted(&door, [None, Some(1)]).await, [false, true]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_is_on_its_way_is_waited_for() {
        let door = closed(1, 2);
        let reports = async {
            sleep(BEHIND / 2).await;
            door.accept(tokens(7, 8));
            sleep(BEHIND / 4).await;
            door.report_plain(true);
        };
        let (admitted, ()) = tokio::join!(admitted(&door, [Some(7), None]), reports);
        assert_eq!(admitted, [true, true]);
        let door = closed(1, 2);
        let started = Instant::now();
        assert!(!door.admits(None, started + BEHIND / 5).await);
        assert_eq!(started.elapsed(), BEHIND / 5, "never beyond the deadline");
        assert!(!door.admits(Some(token(9)), started + BEHIND * 9).await);
        assert_eq!(started.elapsed(), BEHIND / 5 + BEHIND);
    }

    #[tokio::test(start_paused = true)]
    async fn former_tokens_are_few() {
        let door = closed(0, 1);
        for number in 1..100 {
            door.accept(tokens(number, number + 1));
        }
        assert!(door.0.borrow().former.len() <= MAX_FORMER);
        assert_eq!(admitted(&door, [Some(98), Some(99), Some(50)]).await, [true, true, false]);
    }
}
