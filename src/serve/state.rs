//! Gathers the state of every part for the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use crate::serve::registry::Registry;
use crate::telemetry::state::{PolicyCount, State};
use tagpin_kube::certificate::Pems;
use tagpin_kube::policies::Held;
use tagpin_kube::{Cluster, Observed};
use tagpin_leader::break_glass;
use tagpin_leader::webhook_config::Installed;
use tagpin_leader::webhook_config::documents::{FAIL_CLOSED, ON};
use tagpin_objects::findings::AGAIN;
use tagpin_review::Surroundings as _;

/// Time before the end of an exception from which it counts as expiring.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Maximum age of the last refusal of a user who is refused again and again.
const RECENT: SignedDuration = SignedDuration::from_hours(1);

/// The parts that hold the state.
pub(crate) struct Shown {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) leading: Leading,
    /// Namespaces that are never intercepted.
    pub(crate) excluded: BTreeSet<String>,
    /// The Secret that holds the webhook's certificate.
    pub(crate) certificate: watch::Receiver<Observed<Secret>>,
}

/// The state of the Lease and of the leader.
pub(crate) struct Leading {
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) installed: watch::Receiver<Installed>,
    pub(crate) closed: watch::Receiver<bool>,
    pub(crate) added: watch::Receiver<usize>,
    pub(crate) baseline_differs: watch::Receiver<BTreeSet<String>>,
}

impl Shown {
    /// Reads the state now.
    pub(crate) fn state(&self) -> State {
        let now = Timestamp::now();
        let leads = *self.leading.leads.borrow();
        let installed = self.leading.installed.borrow().clone();
        let policies = self.cluster.policies.all();
        let summaries = policies.iter().filter_map(|policy| policy.status.summary.as_ref());
        let violations = summaries.map(|summary| summary.violations);
        State {
            leads,
            webhooks_installed: leads.then_some(installed.in_sync()),
            webhooks_withdrawn: leads.then_some(installed == Installed::Withdrawn),
            webhooks_contested: leads.then_some(matches!(installed, Installed::Contested { .. })),
            selectors_added: leads.then(|| *self.leading.added.borrow()),
            webhooks_armed: leads.then_some(*self.leading.closed.borrow()),
            fail_closed_namespaces: leads.then(|| {
                let asking = self.cluster.namespaces.with(&[(FAIL_CLOSED, ON)]);
                asking.difference(&self.excluded).count()
            }),
            break_glass: leads.then(|| {
                let namespaces = break_glass::namespaces(&self.cluster, &self.excluded);
                let cluster = matches!(installed, Installed::Missing | Installed::BrokenGlass { .. });
                (cluster, namespaces.len())
            }),
            baseline_differs: leads.then(|| self.leading.baseline_differs.borrow().len()),
            certificate_expires: self.certificate_expires(),
            pin_keys: self.cluster.pods.keys().map_or(0, |keys| keys.count()),
            policies: counted(&policies),
            policies_invalid: policies.iter().filter(|policy| policy.error.is_some()).count(),
            exceptions_expiring: self
                .cluster
                .policies()
                .expiring(now, now.saturating_add(SOON).unwrap_or(now)),
            violations: leads.then(|| violations.sum()),
            refused_again: leads.then(|| refused_again(&policies, now)),
            objects: vec![
                ("namespaces", self.cluster.namespaces.count()),
                ("workloads", self.cluster.workloads.all().len()),
                ("pods", self.cluster.pods.all().len()),
            ],
            unreadable: self.cluster.unreadable.counts(self.cluster.kinds()),
            stores: (self.cluster.budget.held(), self.cluster.budget.limit()),
            cache: self.registry.held(),
        }
    }

    fn certificate_expires(&self) -> Option<i64> {
        let Observed::Present(secret) = &*self.certificate.borrow() else { return None };
        let leaf = CertificateDer::from_pem_slice(&Pems::of(secret).certificate).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).ok()?;
        Some(parsed.validity().not_after.timestamp())
    }
}

/// Counts the requests that are refused again and again. A request that several policies refuse counts once.
fn refused_again(policies: &[Held], now: Timestamp) -> usize {
    let rows = policies.iter().flat_map(|policy| &policy.status.refused);
    let again = rows.filter(|row| row.count >= AGAIN && now.duration_since(row.last) <= RECENT);
    let requests: BTreeSet<_> = again.map(|row| (&row.namespace, &row.kind, &row.user, &row.image)).collect();
    requests.len()
}

/// Counts the policies in force by kind and mode.
fn counted(policies: &[Held]) -> Vec<PolicyCount> {
    let mut counts = BTreeMap::new();
    for policy in policies.iter().filter_map(|policy| policy.good.as_ref()) {
        let policy = &policy.policy;
        *counts.entry((policy.id.kind().word(), policy.mode.word())).or_default() += 1;
    }
    counts.into_iter().map(|((kind, mode), count)| PolicyCount { kind, mode, count }).collect()
}
