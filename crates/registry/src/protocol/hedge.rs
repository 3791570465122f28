//! Asks the endpoints of a registry in order, each as soon as the one before it did not find the tag, or beside it
//! once that one has had its head start. The first one that has the tag wins.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout_at};

use tagpin_domain::fact::Fact;

/// Asks endpoints 0 to `count` - 1 by calling `ask`. Returns what one of them has under the tag, or else the facts
/// of all of them, in their order. Of answers that arrive together, that of the first endpoint counts.
///
/// # Errors
/// Returns the facts if none of them has the tag.
pub(super) async fn first_found<F: Future<Output = Fact>>(
    count: usize,
    head_start: Duration,
    ask: impl Fn(usize) -> F,
) -> Result<Fact, Vec<Fact>> {
    let mut facts = vec![None; count];
    let mut in_flight = FuturesUnordered::new();
    let (mut next, mut alone_until) = (0, Instant::now());
    loop {
        if next < count && (in_flight.is_empty() || alone_until <= Instant::now()) {
            let (index, fact) = (next, ask(next));
            in_flight.push(fact.map(move |fact| (index, fact)));
            next += 1;
            alone_until = Instant::now() + head_start;
        }
        let answered = match next < count {
            true => timeout_at(alone_until, in_flight.next()).await,
            false => Ok(in_flight.next().await),
        };
        match answered {
            // The head start is over.
            Err(_) => {}
            Ok(None) => return Err(facts.into_iter().flatten().collect()),
            Ok(Some((index, found))) if has_the_tag(&found) => {
                let mut first = (index, found);
                while let Some(Some((index, fact))) = in_flight.next().now_or_never() {
                    if has_the_tag(&fact) && index < first.0 {
                        first = (index, fact);
                    }
                }
                return Ok(first.1);
            }
            Ok(Some((index, fact))) => {
                if let Some(place) = facts.get_mut(index) {
                    *place = Some(fact);
                }
            }
        }
    }
}

/// Returns true if the endpoint has something under the tag, be it an image or not.
const fn has_the_tag(fact: &Fact) -> bool {
    matches!(fact, Fact::Present(_) | Fact::Artifact { .. })
}

#[cfg(test)]
mod tests {
    use tagpin_domain::digest::Digest;
    use tokio::time::sleep;

    use super::*;

    const HEAD_START: Duration = Duration::from_millis(400);

    fn digest(letter: char) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
    }

    fn present(letter: char) -> Fact {
        Fact::Present(digest(letter))
    }

    /// Asks endpoints that answer after so many milliseconds; returns the result and the time that it took.
    async fn ask(endpoints: &[(u64, Fact)]) -> (Result<Fact, Vec<Fact>>, u128) {
        let start = Instant::now();
        let said = first_found(endpoints.len(), HEAD_START, async |index: usize| {
            let (after, fact) = &endpoints[index];
            sleep(Duration::from_millis(*after)).await;
            fact.clone()
        })
        .await;
        (said, start.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_asked_beside_one_that_has_had_its_head_start() {
        assert_eq!(ask(&[(300, present('a')), (0, present('b'))]).await, (Ok(present('a')), 300));
        assert_eq!(ask(&[(9000, present('a')), (50, present('b'))]).await, (Ok(present('b')), 450));
        assert_eq!(ask(&[(500, present('a')), (900, present('b'))]).await, (Ok(present('a')), 500));
        let artifact = Fact::Artifact { digest: digest('c'), wasm: false };
        assert_eq!(ask(&[(9000, present('a')), (50, artifact.clone())]).await, (Ok(artifact), 450));
        let three = [(9000, present('a')), (9000, present('b')), (50, present('c'))];
        assert_eq!(ask(&three).await, (Ok(present('c')), 850));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_asked_at_once_after_one_that_does_not_have_the_tag() {
        assert_eq!(ask(&[(100, Fact::TagMissing), (50, present('b'))]).await, (Ok(present('b')), 150));
        let second_is_alone = [(450, Fact::TagMissing), (500, present('b')), (0, present('c'))];
        assert_eq!(ask(&second_is_alone).await, (Ok(present('c')), 800));
    }

    #[tokio::test(start_paused = true)]
    async fn other_facts_are_returned_in_order_once_all_endpoints_have_answered() {
        let facts = vec![Fact::TagMissing, Fact::RepositoryMissing];
        let said = ask(&[(2000, Fact::TagMissing), (50, Fact::RepositoryMissing)]).await;
        assert_eq!(said, (Err(facts), 2000));
        assert_eq!(ask(&[(2000, present('a')), (50, Fact::TagMissing)]).await, (Ok(present('a')), 2000));
        assert_eq!(ask(&[]).await, (Err(Vec::new()), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn of_digests_that_arrive_together_the_first_endpoints_counts() {
        for _ in 0..20 {
            assert_eq!(ask(&[(500, present('a')), (100, present('b'))]).await, (Ok(present('a')), 500));
        }
    }
}
