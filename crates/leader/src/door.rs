//! The keeper of the tokens in the webhook's paths. It makes the tokens, renews them every day and after outages, and
//! tells when the webhook configurations may name them.
//!
//! A replica of an earlier version does not know the paths with tokens, so they are named only while every replica
//! runs this version.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::call::CallError;
use crate::reconcile::Reconcile;
use crate::secret::{Document, write};
use crate::webhook_config::Installed;
use tagpin_kube::Observed;
use tagpin_kube::door::{CURRENT, NEXT, WAIT, held, since};
use tagpin_kube::secret::SINCE;
use tagpin_objects::door::{LENGTH, Token, Tokens};
use tagpin_objects::release;

/// Age of the current token at which the next one takes its place.
const RENEWAL: SignedDuration = SignedDuration::from_hours(24);
/// Time from the end of an outage to a renewal: the API server shows the URLs of calls that fail.
const AFTER_OUTAGE: Duration = Duration::from_secs(60);
/// Time in which every replica has learned of new tokens, and has ended once its termination grace period is over.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);
/// Termination grace period of a Deployment that names none, in seconds.
const GRACE: i64 = 30;
/// Maximum time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// Time to the next check after a write or a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// The paths that the webhook configurations name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// Not known yet.
    Unknown,
    /// Paths without a token.
    Plain,
    /// Paths with this token.
    With(Token),
}

/// The keeper of the tokens.
pub struct DoorKeeper {
    /// Client of the API server.
    pub client: Client,
    /// Namespace of the release.
    pub namespace: String,
    /// The Secret with the tokens, from [`tagpin_kube::door::watch`].
    pub seen: watch::Receiver<Observed<Secret>>,
    /// The Deployment, which tells when every replica runs this version.
    pub deployment: watch::Receiver<Observed<Deployment>>,
    /// The state of the webhook configurations, which tells of outages.
    pub installed: watch::Receiver<Installed>,
    /// Receives the paths.
    pub paths: watch::Sender<Paths>,
    /// Metrics of the passes.
    pub reconcile: Reconcile,
}

/// The content of the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    tokens: Tokens,
    /// Time since when the current token is the current one.
    since: Timestamp,
}

/// The progress of the Deployment towards one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rollout {
    /// The controller of Deployments has not looked at the last change yet.
    Unobserved,
    /// Replicas of another version run, or may run soon.
    Underway,
    /// No replica of another version runs after this time.
    Done(Timestamp),
}

/// An outage of the way from the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    None,
    Ongoing,
    /// Canaries come through again since then.
    Over(Instant),
}

impl DoorKeeper {
    /// Keeps the tokens up to date, for ever.
    pub async fn keep(mut self) -> Infallible {
        let started = Instant::now();
        let (mut last, mut outage) = (None, Outage::None);
        loop {
            outage = outage.after(&self.installed.borrow_and_update());
            let rollout = Rollout::of(&self.deployment.borrow_and_update());
            let seen = self.seen.borrow_and_update().clone();
            let pause = match (seen, rollout) {
                (Observed::Unknown, _) | (_, None) => {
                    let left = (started + WAIT).saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        self.tell_first(Paths::Plain);
                        CHECK_INTERVAL
                    } else {
                        left
                    }
                }
                (seen, Some(rollout)) => {
                    let _pass = self.reconcile.pass();
                    match self.check(seen.object(), rollout, &mut last, &mut outage).await {
                        Ok(pause) => pause,
                        Err(error) => {
                            self.reconcile.failed();
                            self.tell_first(Paths::Plain);
                            warn!(%error, secret = release::DOOR, "cannot write the tokens of the webhook's paths");
                            PAUSE
                        }
                    }
                }
            };
            // The senders live as long as the leader. The pattern ignores a closed channel, which would spin the loop.
            tokio::select! {
                () = sleep(pause.min(CHECK_INTERVAL)) => {}
                Ok(()) = self.seen.changed() => {}
                Ok(()) = self.deployment.changed() => {}
                Ok(()) = self.installed.changed() => {}
            }
        }
    }

    /// Runs one pass. Returns the time to the next one.
    async fn check(
        &self,
        secret: Option<&Secret>,
        rollout: Rollout,
        last: &mut Option<Held>,
        outage: &mut Outage,
    ) -> Result<Duration, CallError> {
        let now = Timestamp::now();
        let done = match rollout {
            Rollout::Underway => {
                self.tell(Paths::Plain);
                return Ok(CHECK_INTERVAL);
            }
            Rollout::Unobserved => {
                self.tell_first(Paths::Plain);
                return Ok(CHECK_INTERVAL);
            }
            Rollout::Done(done) => done,
        };
        let held = secret.and_then(Held::of);
        // A Secret that somebody deletes or empties is restored as it was.
        let before = held.or(*last);
        let renews =
            before.is_none_or(|before| left(before.since, RENEWAL, now).is_zero()) || outage.is_over();
        let wanted = if renews { Held::following(before, now) } else { before };
        let Some(wanted) = wanted else {
            warn!("there is no randomness for a token");
            self.tell_first(Paths::Plain);
            return Ok(PAUSE);
        };
        if held != Some(wanted) {
            let document = Document { name: release::DOOR, kind: "Opaque", data: wanted.data() };
            if write(&self.client, &self.namespace, secret, document).await? {
                info!(secret = release::DOOR, "wrote the tokens of the webhook's paths");
                (*last, *outage) = (Some(wanted), Outage::None);
            }
            self.tell_first(Paths::Plain);
            return Ok(PAUSE);
        }
        *last = held;
        let unsettled = left(done, MARGIN, now).max(left(wanted.since, MARGIN, now));
        if !unsettled.is_zero() {
            self.tell_first(Paths::Plain);
            return Ok(unsettled);
        }
        self.tell(Paths::With(wanted.tokens.current));
        Ok(left(wanted.since, RENEWAL, now).min(outage.rest()))
    }

    fn tell(&self, paths: Paths) {
        self.paths.send_if_modified(|told| std::mem::replace(told, paths) != paths);
    }

    /// Tells the paths if none were told before, because the webhook configurations wait for them.
    fn tell_first(&self, paths: Paths) {
        self.paths.send_if_modified(|told| {
            let first = *told == Paths::Unknown;
            if first {
                *told = paths;
            }
            first
        });
    }
}

impl Held {
    fn of(secret: &Secret) -> Option<Self> {
        Some(Self { tokens: held(secret)?, since: since(secret) })
    }

    /// Returns the tokens after these: the next one becomes the current one, and a new one follows. Returns none
    /// without randomness.
    fn following(before: Option<Self>, now: Timestamp) -> Option<Self> {
        let current = match before {
            Some(before) => before.tokens.next,
            None => new_token()?,
        };
        // The Secret has whole seconds.
        let since = Timestamp::from_second(now.as_second()).ok()?;
        Some(Self { tokens: Tokens { current, next: new_token()? }, since })
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let Self { tokens: Tokens { current, next }, since } = self;
        let entries = [
            (CURRENT, current.bytes().to_vec()),
            (NEXT, next.bytes().to_vec()),
            (SINCE, since.as_second().to_string().into()),
        ];
        entries.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value))).collect()
    }
}

impl Rollout {
    /// Returns the progress; none while it is not known.
    fn of(deployment: &Observed<Deployment>) -> Option<Self> {
        let live = match deployment {
            Observed::Unknown => return None,
            Observed::Absent => return Some(Self::Underway),
            Observed::Present(live) => live,
        };
        let status = live.status.clone().unwrap_or_default();
        if status.observed_generation < live.metadata.generation {
            return Some(Self::Unobserved);
        }
        if status.updated_replicas.unwrap_or_default() < status.replicas.unwrap_or_default() {
            return Some(Self::Underway);
        }
        // Replicas of the version before no longer count here while they end, and still answer.
        let pod = live.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let grace = pod.and_then(|pod| pod.termination_grace_period_seconds).unwrap_or(GRACE);
        let conditions = status.conditions.unwrap_or_default();
        let progress = conditions.iter().find(|condition| condition.type_ == "Progressing");
        let complete = progress.and_then(|progress| progress.last_update_time.as_ref()).map(|time| time.0);
        let complete = complete.unwrap_or_default();
        Some(Self::Done(complete.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(complete)))
    }
}

impl Outage {
    /// Returns the outage after a report of the webhook configurations.
    fn after(self, installed: &Installed) -> Self {
        match (self, installed) {
            (_, Installed::Unreachable | Installed::Withdrawn) => Self::Ongoing,
            (Self::Ongoing, Installed::Yes | Installed::Armed) => Self::Over(Instant::now()),
            (before, _) => before,
        }
    }

    /// Returns the time until a renewal is due for this outage.
    fn rest(self) -> Duration {
        match self {
            Self::None | Self::Ongoing => Duration::MAX,
            Self::Over(since) => (since + AFTER_OUTAGE).saturating_duration_since(Instant::now()),
        }
    }

    fn is_over(self) -> bool {
        self.rest().is_zero()
    }
}

/// Returns the part of this time after `since` that is left. A `since` that lies ahead by more than the time is no clock
/// of ours, and leaves nothing.
fn left(since: Timestamp, time: SignedDuration, now: Timestamp) -> Duration {
    let age = now.duration_since(since);
    if age.abs() >= time { Duration::ZERO } else { Duration::try_from(time - age).unwrap_or_default() }
}

/// Returns a new random token; none without randomness.
fn new_token() -> Option<Token> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(Token::new(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(status: serde_json::Value) -> Option<Rollout> {
        let deployment = json!({
            "metadata": { "name": "tagpin", "generation": 3 },
            "spec": { "selector": {}, "template": { "spec": { "containers": [], "terminationGracePeriodSeconds": 20 } } },
            "status": status,
        });
        Rollout::of(&Observed::Present(
            serde_json::from_value::<Deployment>(deployment).map(Into::into).ok()?,
        ))
    }

    #[test]
    fn a_rollout_is_done_once_the_last_replica_of_another_version_has_ended() {
        let complete = json!([{
            "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
            "lastUpdateTime": "1970-01-01T00:01:40Z",
        }]);
        let done = Timestamp::from_second(120).map(Rollout::Done).ok();
        let status = |observed: i64, updated: i32| {
            rollout(json!({
                "observedGeneration": observed, "replicas": 2, "updatedReplicas": updated, "conditions": complete,
            }))
        };
        assert_eq!(status(3, 2), done);
        assert_eq!(status(3, 1), Some(Rollout::Underway));
        assert_eq!(status(2, 2), Some(Rollout::Unobserved));
        assert_eq!(rollout(json!({ "observedGeneration": 3, "replicas": 2 })), Some(Rollout::Underway));
        assert_eq!(Rollout::of(&Observed::Absent), Some(Rollout::Underway));
        assert_eq!(Rollout::of(&Observed::Unknown), None);
    }

    #[test]
    fn the_next_token_becomes_the_current_one() {
        let now = Timestamp::from_second(100).unwrap_or_default();
        let first = Held::following(None, now);
        let second = Held::following(first, now);
        let tokens = |held: Option<Held>| held.map(|held| held.tokens);
        let (first, second) = (tokens(first), tokens(second));
        assert_eq!(first.map(|tokens| tokens.next), second.map(|tokens| tokens.current));
        assert_ne!(first.map(|tokens| tokens.current), second.map(|tokens| tokens.next));
        assert_ne!(first.map(|tokens| tokens.current), first.map(|tokens| tokens.next));
    }

    #[test]
    fn time_that_is_left_ends_whatever_the_clock_says() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let day = SignedDuration::from_secs(100);
        assert_eq!(left(at(1000), day, at(1010)), Duration::from_secs(90));
        assert_eq!(left(at(1000), day, at(1100)), Duration::ZERO);
        assert_eq!(left(at(1000), day, at(990)), Duration::from_secs(110));
        assert_eq!(left(at(9000), day, at(1000)), Duration::ZERO, "such a clock is wrong");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_over_a_minute_after_canaries_came_back() {
        let quiet = Outage::None.after(&Installed::Yes).after(&Installed::NotYet).after(&Installed::Armed);
        assert_eq!(quiet, Outage::None);
        let ongoing = quiet.after(&Installed::Unreachable).after(&Installed::Unwritable);
        assert_eq!(ongoing, Outage::Ongoing);
        let over = ongoing.after(&Installed::Yes);
        assert!(!over.is_over() && !over.after(&Installed::Armed).is_over());
        sleep(AFTER_OUTAGE).await;
        assert!(over.is_over() && !over.after(&Installed::Unreachable).is_over());
    }
}
