//! The Lease, by which one replica at a time is the leader and writes.
//!
//! It works as in client-go: another holder's lease has expired when it has not changed for its duration by our own
//! monotonic clock. Clocks of two machines are never compared. A leader that cannot renew the lease stops writing well
//! before another replica can take it over.

use std::collections::BTreeMap;
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

/// Duration of the lease: another replica may take over a lease that has not changed for this time.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// Time since the last renewal after which a leader stops writing.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Interval between renewals. It is long, because some datastores have a single writer.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// Interval between reads of a lease that another replica holds, plus up to a fifth. After a release another
/// replica has to lead, and to write, within 2 s.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Pause after a call that failed, plus up to a fifth.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Claims, renews and releases the lease for one replica.
pub struct LeaseManager {
    client: Client,
    namespace: String,
    leases: Api<Lease>,
    /// The identity of this process as a holder.
    identity: String,
    leads: watch::Sender<bool>,
    /// The annotations of the lease as they were last seen.
    seen: watch::Sender<BTreeMap<String, String>>,
    /// The annotations that the next renewal writes.
    wanted: watch::Sender<BTreeMap<String, String>>,
}

/// The annotations of the lease, in which a leader keeps what has to outlast it, and which people edit.
#[derive(Debug, Clone)]
pub struct Notes {
    /// All annotations, as the leader has last seen them. An edit is seen by the next renewal.
    pub seen: watch::Receiver<BTreeMap<String, String>>,
    /// The annotations that the leader sets by its next renewal. A new term begins with none.
    pub wanted: watch::Sender<BTreeMap<String, String>>,
}

/// A version of the lease, and the time by our own clock when it was first observed.
struct Observation {
    version: Option<String>,
    at: Instant,
}

/// The outcome of a claim.
enum Claim {
    /// This replica holds the lease.
    Acquired(Box<Lease>),
    /// Another replica holds the lease; it expires at this time unless it is renewed.
    Held(Instant),
    /// Another replica wrote the lease first, or nobody may lead.
    Lost,
}

/// The reason why a term as leader ended.
enum TermEnd<E> {
    /// The process stops.
    Stopped,
    /// The lease could not be renewed in time.
    LeaseLost,
    /// The work of the leader ended.
    Failed(E),
}

impl LeaseManager {
    /// Returns a manager for the replica in this pod. The identity is the pod's name with a random suffix, so that a
    /// restarted process counts as another holder.
    #[must_use]
    pub fn new(client: Client, namespace: &str, pod: &str) -> Self {
        let identity = format!("{pod}_{:016x}", fastrand::u64(..));
        let leases = Api::namespaced(client.clone(), namespace);
        Self {
            client,
            namespace: namespace.to_owned(),
            leases,
            identity,
            leads: watch::Sender::new(false),
            seen: watch::Sender::default(),
            wanted: watch::Sender::default(),
        }
    }

    /// Returns the annotations of the lease.
    #[must_use]
    pub fn notes(&self) -> Notes {
        Notes { seen: self.seen.subscribe(), wanted: self.wanted.clone() }
    }

    /// Returns true while this replica leads, now and later.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Claims the lease again and again, and runs `lead` while it holds the lease. `lead` is dropped when the lease is
    /// lost or the process stops, before another replica can hold the lease. On a stop `leave` runs once more under the
    /// lease, which is released then.
    ///
    /// # Errors
    /// Returns the error that ends `lead`.
    pub async fn run<F, L, E>(
        &self,
        stop: CancellationToken,
        lead: impl Fn() -> F,
        leave: impl Fn() -> L,
    ) -> Result<(), E>
    where
        F: Future<Output = E>,
        L: Future<Output = ()>,
    {
        loop {
            let (mut lease, since) = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                held = self.acquire() => held,
            };
            info!(identity = self.identity, "leads");
            self.wanted.send_replace(BTreeMap::new());
            self.look_at(&lease);
            self.leads.send_replace(true);
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => TermEnd::Stopped,
                () = self.renew_until_lost(&mut lease, since) => TermEnd::LeaseLost,
                error = lead() => TermEnd::Failed(error),
            };
            self.leads.send_replace(false);
            match ended {
                TermEnd::LeaseLost => warn!("lost the lease; the writers stopped"),
                TermEnd::Stopped => {
                    leave().await;
                    self.release(lease).await;
                    return Ok(());
                }
                TermEnd::Failed(error) => {
                    self.release(lease).await;
                    return Err(error);
                }
            }
        }
    }

    /// Claims the lease until it succeeds. Returns the lease, and the time when the successful write was sent.
    async fn acquire(&self) -> (Lease, Instant) {
        let mut observed = None;
        loop {
            let sent = Instant::now();
            let next = match self.claim(&mut observed).await {
                Ok(Claim::Acquired(lease)) => return (*lease, sent),
                Ok(Claim::Held(until)) => until.min(Instant::now() + jittered(POLL_INTERVAL)),
                Ok(Claim::Lost) => Instant::now() + jittered(POLL_INTERVAL),
                Err(error) => {
                    warn!(%error, "cannot claim the lease");
                    Instant::now() + jittered(RETRY_INTERVAL)
                }
            };
            sleep_until(next).await;
        }
    }

    /// Claims the lease once, if it is free or has expired.
    async fn claim(&self, observed: &mut Option<Observation>) -> Result<Claim, CallError> {
        let Some(mut lease) = within(CALL_TIMEOUT, self.leases.get_opt(NAME)).await? else {
            let Some(owner) = owner::deployment(&self.client, &self.namespace).await? else {
                debug!("the Deployment does not exist any more: nobody leads");
                return Ok(Claim::Lost);
            };
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata, spec: Some(self.acquired_spec(0)) };
            let made = within(CALL_TIMEOUT, self.leases.create(&PostParams::default(), &lease)).await;
            return Ok(unless_conflict(made)?.map_or(Claim::Lost, |lease| Claim::Acquired(Box::new(lease))));
        };
        let spec = lease.spec.take().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let observed = match observed {
            Some(observed) if observed.version == version => &*observed,
            outdated => outdated.insert(Observation { version, at: Instant::now() }),
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(LEASE_DURATION, Duration::from_secs);
        let until = observed.at + lasts;
        if !holder.is_empty() && holder != self.identity && Instant::now() < until {
            debug!(holder, "another replica leads");
            return Ok(Claim::Held(until));
        }
        // A lease that an earlier version of tagpin created has no owner.
        if lease.metadata.owner_references.is_none() {
            let owner = owner::deployment(&self.client, &self.namespace).await?;
            lease.metadata.owner_references = owner.map(|owner| vec![owner]);
        }
        lease.spec = Some(self.acquired_spec(spec.lease_transitions.unwrap_or_default().saturating_add(1)));
        Ok(self.replace(&lease).await?.map_or(Claim::Lost, |lease| Claim::Acquired(Box::new(lease))))
    }

    /// Renews the lease until it is lost; returns when the writers must stop.
    async fn renew_until_lost(&self, lease: &mut Lease, since: Instant) {
        let mut renewed = since;
        let mut next = renewed + RENEW_INTERVAL;
        loop {
            let deadline = renewed + RENEW_DEADLINE;
            sleep_until(next.min(deadline)).await;
            let sent = Instant::now();
            let renewal = tokio::select! {
                biased;
                () = sleep_until(deadline) => return,
                renewal = self.renew(lease) => renewal,
            };
            match renewal {
                Ok(true) => {
                    renewed = sent;
                    next = sent + RENEW_INTERVAL;
                }
                Ok(false) => return,
                Err(error) => {
                    warn!(%error, "cannot renew the lease");
                    next = Instant::now() + jittered(RETRY_INTERVAL);
                }
            }
        }
    }

    /// Renews the lease once. Returns false if the lease is lost.
    async fn renew(&self, lease: &mut Lease) -> Result<bool, CallError> {
        let renew = |spec: &mut LeaseSpec| spec.renew_time = Some(MicroTime(Timestamp::now()));
        let Some(renewed) = self.update(lease.clone(), renew).await? else { return Ok(false) };
        self.look_at(&renewed);
        *lease = renewed;
        Ok(true)
    }

    /// Releases the lease, so that another replica leads at once. After a failure the lease expires by itself.
    async fn release(&self, lease: Lease) {
        let released = self.update(lease, |spec| {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        });
        match timeout(CALL_TIMEOUT, released).await.unwrap_or(Err(CallError::Timeout)) {
            Ok(Some(_)) => info!("released the lease"),
            Ok(None) => {}
            Err(error) => warn!(%error, "cannot release the lease; it expires by itself"),
        }
    }

    /// Publishes the annotations of this lease.
    fn look_at(&self, lease: &Lease) {
        let now = lease.metadata.annotations.clone().unwrap_or_default();
        self.seen.send_if_modified(|seen| {
            let changed = *seen != now;
            *seen = now;
            changed
        });
    }

    /// Sets the wanted annotations, and leaves all others.
    fn annotate(&self, lease: &mut Lease) {
        let wanted = self.wanted.borrow().clone();
        if !wanted.is_empty() {
            lease.metadata.annotations.get_or_insert_default().extend(wanted);
        }
    }

    /// Changes the lease and returns it; none if another replica holds it.
    async fn update(
        &self,
        mut lease: Lease,
        change: impl Fn(&mut LeaseSpec),
    ) -> Result<Option<Lease>, CallError> {
        change(lease.spec.get_or_insert_default());
        self.annotate(&mut lease);
        if let Some(written) = self.replace(&lease).await? {
            return Ok(Some(written));
        }
        // The lease was written meanwhile: by a new holder, by somebody who changed a label, or by us without
        // an answer.
        let Some(mut found) = within(CALL_TIMEOUT, self.leases.get_opt(NAME)).await? else { return Ok(None) };
        let spec = found.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(None);
        }
        change(spec);
        self.annotate(&mut found);
        self.replace(&found).await
    }

    /// Returns the spec of a lease that this replica acquires now.
    fn acquired_spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Writes the lease at the version that it carries; none if somebody else wrote it first.
    async fn replace(&self, lease: &Lease) -> Result<Option<Lease>, CallError> {
        unless_conflict(within(CALL_TIMEOUT, self.leases.replace(NAME, &PostParams::default(), lease)).await)
    }
}

fn unless_conflict(result: Result<Lease, CallError>) -> Result<Option<Lease>, CallError> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.code() == Some(409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the time plus up to a fifth at random, so that replicas do not act at the same moment.
fn jittered(time: Duration) -> Duration {
    let percent = fastrand::u32(..20);
    time + time * percent / 100
}
