//! The mutating webhook configuration, which every replica watches. It tells whether the API server sends
//! pods to be pinned.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::follow::{Observed, follow_one};
use crate::unreadable::{Unreadables, Watched};
use tagpin_objects::door::MUTATE;
use tagpin_objects::release::MUTATING;

/// Maximum delay with which a replica hears that the configuration is gone.
const BEHIND: Duration = Duration::from_millis(500);

/// The last reported state of the mutating webhook configuration.
#[derive(Debug)]
pub struct Pinning(watch::Sender<Observed<MutatingWebhookConfiguration>>);

impl Default for Pinning {
    fn default() -> Self {
        Self(watch::Sender::new(Observed::Unknown))
    }
}

impl Pinning {
    /// Records a report of the configuration.
    pub fn report(&self, seen: Observed<MutatingWebhookConfiguration>) {
        self.0.send_replace(seen);
    }

    /// Returns a receiver of the configuration, now and later.
    #[must_use]
    pub fn seen(&self) -> watch::Receiver<Observed<MutatingWebhookConfiguration>> {
        self.0.subscribe()
    }

    /// Returns true if no pod is sent to be pinned, or if a report says so within half a second and before
    /// the deadline.
    pub(crate) async fn is_off(&self, deadline: Instant) -> bool {
        let off = |seen: &Observed<MutatingWebhookConfiguration>| match seen {
            Observed::Unknown => false,
            Observed::Absent => true,
            Observed::Present(configuration) => configuration.webhooks.iter().flatten().next().is_none(),
        };
        let until = deadline.min(Instant::now() + BEHIND);
        let mut seen = self.seen();
        timeout_at(until, seen.wait_for(off)).await.is_ok_and(|off| off.is_ok())
    }
}

/// Returns true if an entry of the configuration names a path without a token.
#[must_use]
pub fn names_plain_path(configuration: &MutatingWebhookConfiguration) -> bool {
    let services = configuration.webhooks.iter().flatten().filter_map(|it| it.client_config.service.as_ref());
    services.into_iter().any(|service| service.path.as_deref() == Some(MUTATE))
}

/// Watches the mutating webhook configuration for ever.
pub async fn watch(client: Client, pinning: &Pinning, unreadable: &Unreadables) -> Infallible {
    follow_one(Api::all(client), MUTATING, pinning.0.clone(), unreadable, Watched::Mutating).await
}
