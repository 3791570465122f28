//! The Lease: one replica writes at a time.
//!
//! As client-go does it: whether another holder's lease has run out is judged by our own monotonic clock since we last
//! saw it change, never by comparing clocks. Whoever can not renew stops writing well before others may take over.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::call::{CallError, within};
use crate::owner;
use tagpin_objects::release::NAME;

/// Others may take over when the lease has not changed for so long.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that has not renewed for so long stops writing.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between renewals: few writes, as some datastores have one writer.
const RENEW: Duration = Duration::from_secs(5);
/// Between looks at the lease of another, and up to a fifth more: what was given back is to be in other hands, and
/// written with, within 2 s. A look writes nothing.
const LOOK: Duration = Duration::from_millis(500);
/// After a call that failed, and up to a fifth more.
const RETRY: Duration = Duration::from_secs(2);
/// Of one call.
const CALL: Duration = Duration::from_secs(3);

/// Takes part in the election of one leader.
pub struct Election {
    client: Client,
    namespace: String,
    leases: Api<Lease>,
    identity: String,
    leads: watch::Sender<bool>,
}

/// What we saw of somebody's lease, and when by our own clock.
struct Seen {
    version: Option<String>,
    at: Instant,
}

/// What became of an attempt to take the lease.
enum Attempt {
    /// It is ours.
    Taken(Box<Lease>),
    /// Another holds it, until then unless it is renewed.
    Held(Instant),
    /// Another was first.
    Beaten,
}

/// How a time as leader ended.
enum End<E> {
    Stopped,
    Lost,
    Died(E),
}

impl Election {
    /// For the replica in this pod. The identity is the pod's name and something random: a restarted process is
    /// another holder.
    #[must_use]
    pub fn new(client: Client, namespace: &str, pod: &str) -> Self {
        let identity = format!("{pod}_{:016x}", fastrand::u64(..));
        let leases = Api::namespaced(client.clone(), namespace);
        Self { client, namespace: namespace.to_owned(), leases, identity, leads: watch::Sender::new(false) }
    }

    /// Whether this replica leads, now and later.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Holds the lease whenever it can, and runs `lead` for as long as it holds it: dropped when the lease is lost or
    /// the process stops, before anybody else may hold the lease. On a stop the lease is given back at once.
    ///
    /// # Errors
    /// When `lead` ends by itself, which nothing that leads does.
    pub async fn run<F, E>(&self, stop: CancellationToken, lead: impl Fn() -> F) -> Result<(), E>
    where
        F: Future<Output = E>,
    {
        loop {
            let (mut lease, since) = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                held = self.acquire() => held,
            };
            info!(identity = self.identity, "leads");
            self.leads.send_replace(true);
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => End::Stopped,
                () = self.keep(&mut lease, since) => End::Lost,
                died = lead() => End::Died(died),
            };
            self.leads.send_replace(false);
            match end {
                End::Lost => warn!("lost the lease; the writers stopped"),
                End::Stopped => {
                    self.release(lease).await;
                    return Ok(());
                }
                End::Died(error) => {
                    self.release(lease).await;
                    return Err(error);
                }
            }
        }
    }

    /// Tries until the lease is ours; returns it with the time when the write that made it so was sent.
    async fn acquire(&self) -> (Lease, Instant) {
        let mut seen = None;
        loop {
            let sent = Instant::now();
            let next = match self.try_acquire(&mut seen).await {
                Ok(Attempt::Taken(lease)) => return (*lease, sent),
                Ok(Attempt::Held(until)) => until.min(Instant::now() + jittered(LOOK)),
                Ok(Attempt::Beaten) => Instant::now() + jittered(LOOK),
                Err(error) => {
                    warn!(%error, "can not take the lease");
                    Instant::now() + jittered(RETRY)
                }
            };
            sleep_until(next).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<Attempt, CallError> {
        let Some(mut lease) = within(CALL, self.leases.get_opt(NAME)).await? else {
            let Some(owner) = owner::deployment(&self.client, &self.namespace).await? else {
                debug!("there is no Deployment any more: nobody leads");
                return Ok(Attempt::Beaten);
            };
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata, spec: Some(self.taken(0)) };
            let made = within(CALL, self.leases.create(&PostParams::default(), &lease)).await;
            return Ok(
                unless_conflict(made)?.map_or(Attempt::Beaten, |lease| Attempt::Taken(Box::new(lease)))
            );
        };
        let spec = lease.spec.take().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let seen = match seen {
            Some(seen) if seen.version == version => &*seen,
            seen => seen.insert(Seen { version, at: Instant::now() }),
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(DURATION, Duration::from_secs);
        let until = seen.at + lasts;
        if !holder.is_empty() && holder != self.identity && Instant::now() < until {
            debug!(holder, "another replica leads");
            return Ok(Attempt::Held(until));
        }
        // One that an earlier version made.
        if lease.metadata.owner_references.is_none() {
            let owner = owner::deployment(&self.client, &self.namespace).await?;
            lease.metadata.owner_references = owner.map(|owner| vec![owner]);
        }
        lease.spec = Some(self.taken(spec.lease_transitions.unwrap_or_default().saturating_add(1)));
        Ok(self.replace(&lease).await?.map_or(Attempt::Beaten, |lease| Attempt::Taken(Box::new(lease))))
    }

    /// Renews until it can not; returns when the writers must stop.
    async fn keep(&self, lease: &mut Lease, since: Instant) {
        let mut renewed = since;
        let mut next = renewed + RENEW;
        loop {
            let end = renewed + DEADLINE;
            sleep_until(next.min(end)).await;
            let sent = Instant::now();
            let renewal = tokio::select! {
                biased;
                () = sleep_until(end) => return,
                renewal = self.renew(lease) => renewal,
            };
            match renewal {
                Ok(true) => {
                    renewed = sent;
                    next = sent + RENEW;
                }
                Ok(false) => return,
                Err(error) => {
                    warn!(%error, "can not renew the lease");
                    next = Instant::now() + jittered(RETRY);
                }
            }
        }
    }

    /// Renews once. `false` means that somebody else holds the lease.
    async fn renew(&self, lease: &mut Lease) -> Result<bool, CallError> {
        let renew = |spec: &mut LeaseSpec| spec.renew_time = Some(MicroTime(Timestamp::now()));
        let Some(renewed) = self.update(lease.clone(), renew).await? else { return Ok(false) };
        *lease = renewed;
        Ok(true)
    }

    /// Gives the lease back, so that another replica leads at once. Failing costs [`DURATION`], nothing else.
    async fn release(&self, lease: Lease) {
        let released = self.update(lease, |spec| {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        });
        match timeout(CALL, released).await.unwrap_or(Err(CallError::Timeout)) {
            Ok(Some(_)) => info!("gave the lease back"),
            Ok(None) => {}
            Err(error) => warn!(%error, "can not give the lease back; it runs out by itself"),
        }
    }

    /// Changes the lease while it is ours; nothing when somebody else holds it.
    async fn update(
        &self,
        mut lease: Lease,
        change: impl Fn(&mut LeaseSpec),
    ) -> Result<Option<Lease>, CallError> {
        change(lease.spec.get_or_insert_default());
        if let Some(written) = self.replace(&lease).await? {
            return Ok(Some(written));
        }
        // Somebody wrote it: a new holder, or only a label, or ourselves without seeing the answer.
        let Some(mut found) = within(CALL, self.leases.get_opt(NAME)).await? else { return Ok(None) };
        let spec = found.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(None);
        }
        change(spec);
        self.replace(&found).await
    }

    /// Ours from now on.
    fn taken(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Writes the lease at the version that it carries; nothing when somebody else was first.
    async fn replace(&self, lease: &Lease) -> Result<Option<Lease>, CallError> {
        unless_conflict(within(CALL, self.leases.replace(NAME, &PostParams::default(), lease)).await)
    }
}

fn unless_conflict(result: Result<Lease, CallError>) -> Result<Option<Lease>, CallError> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.code() == Some(409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A little longer by chance, so that replicas do not step in time.
fn jittered(time: Duration) -> Duration {
    let percent = fastrand::u32(..20);
    time + time * percent / 100
}
