//! The canaries of a leader: their schedule and their outcome. A canary is a dry-run create through the API server. It
//! came through if the answer carries tagpin's warning.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplate;
use kube::api::PostParams;
use kube::client::Body;
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::webhook_config::arming::{Arming, Canary, Reach, UNREACHED_INTERVAL};
use crate::webhook_config::documents;
use crate::webhook_config::withdrawal::Withdrawal;
use tagpin_kube::Observed;
use tagpin_kube::client::ClientError;
use tagpin_objects::canary::{ANNOTATION, NAME, warning};

/// Time limit for the answer of the API server, which also waits for webhooks of others.
const LIMIT: Duration = Duration::from_secs(10);

/// Makes a client without open connections.
pub type Connect = Arc<dyn Fn() -> Result<Client, ClientError> + Send + Sync>;

/// The canaries of this leader: the outcome so far, and the time of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canaries {
    /// The state of the canaries; none while the configuration has no entry for canaries.
    arming: Option<Arming>,
    withdrawal: Withdrawal,
    due: Instant,
}

impl Canaries {
    /// Returns the state of a leader that has sent no canary.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { arming: None, withdrawal: Withdrawal::new(now), due: now }
    }

    /// Starts when the entry for canaries appears, and forgets every outcome when it is removed. Returns true
    /// if anything changed.
    pub(crate) fn follow(&mut self, validating: &Observed<ValidatingWebhookConfiguration>) -> bool {
        let before = *self;
        match validating {
            Observed::Unknown => {}
            Observed::Present(live) if documents::has_canary(live) => {
                if self.arming.is_none() {
                    let now = Instant::now();
                    self.withdrawal.begin(documents::has_only_canary(live), now);
                    self.arming = Some(Arming::new(documents::fails_closed(live)));
                    self.due = now;
                }
            }
            Observed::Present(_) | Observed::Absent => {
                self.arming = None;
                self.withdrawal.begin(false, Instant::now());
            }
        }
        (self.arming, self.is_withdrawn()) != (before.arming, before.is_withdrawn())
    }

    /// Returns the time of the next canary; none while there is no entry for canaries.
    pub(crate) fn due(self) -> Option<Instant> {
        self.arming.map(|_| self.due)
    }

    /// Records the outcome of the canary that was sent at this time.
    pub(crate) fn heard(&mut self, canary: Canary, sent: Instant) {
        let (before, withdrawn) = (self.reach(), self.is_withdrawn());
        if let Some(arming) = &mut self.arming {
            let next = arming.heard(canary);
            let unreachable = arming.reach() == Reach::Unreachable;
            self.withdrawal.heard(canary, unreachable, sent, Instant::now());
            // Webhooks that are out of the way should not stay there for want of canaries.
            self.due = sent + if self.withdrawal.is_on() { UNREACHED_INTERVAL } else { next };
        }
        match (withdrawn, self.is_withdrawn()) {
            (false, true) => warn!("the webhooks are taken out of the way until the API server reaches them"),
            (true, false) => info!("the webhooks come back"),
            _ => {}
        }
        match (before, self.reach()) {
            (before, after) if before == after => {}
            (_, Reach::Unreachable) => {
                warn!("the API server does not reach the webhook: no unanswered request is refused");
            }
            _ => info!("the API server reaches the webhook"),
        }
    }

    /// Returns the reach of the API server to tagpin.
    pub(crate) fn reach(self) -> Reach {
        self.arming.map_or(Reach::Untried, Arming::reach)
    }

    /// Returns true while the webhooks are to be out of the API server's way.
    pub(crate) fn is_withdrawn(self) -> bool {
        self.withdrawal.is_on()
    }

    /// Returns true if unanswered requests may be refused; none without a known Deployment, which has the number of
    /// replicas.
    pub(crate) fn fail_closed(
        self,
        deployment: &Observed<Deployment>,
        validating: &Observed<ValidatingWebhookConfiguration>,
    ) -> Option<bool> {
        // The API server's own default.
        let replicas = deployment.object()?.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let at_present = matches!(validating, Observed::Present(live) if documents::fails_closed(live));
        Some(self.arming.is_some_and(|arming| arming.fails_closed(replicas, at_present)))
    }
}

/// Sends one canary in this namespace, over a connection of its own: an open connection may still lead to an API server
/// that other clients no longer reach.
pub(crate) async fn send(connect: &Connect, namespace: &str) -> Canary {
    let client = match connect() {
        Ok(client) => client,
        Err(error) => {
            debug!(%error, "there is no client for the canary");
            return Canary::Unanswered;
        }
    };
    let nonce = format!("{:016x}", fastrand::u64(..));
    match timeout(LIMIT, ask(&client, namespace, &nonce)).await {
        Ok(Ok(canary)) => canary,
        Ok(Err(error)) => {
            debug!(%error, "the API server did not answer the canary");
            Canary::Unanswered
        }
        Err(_) => {
            debug!("the API server did not answer the canary in time");
            Canary::Unanswered
        }
    }
}

async fn ask(client: &Client, namespace: &str, nonce: &str) -> kube::Result<Canary> {
    let object = json!({
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": { "name": NAME, "annotations": { ANNOTATION: nonce } },
        "template": { "spec": { "containers": [{ "name": "canary", "image": "canary" }] } },
    });
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let url = PodTemplate::url_path(&(), Some(namespace));
    let request = Request::new(url).create(&params, object.to_string().into_bytes());
    // Warnings are headers, which the typed calls of the client hide.
    let answer = client.send(request.map_err(kube::Error::BuildRequest)?.map(Body::from)).await?;
    let expected = warning(nonce);
    let warnings = answer.headers().get_all("warning").iter().filter_map(|value| value.to_str().ok());
    let through = warnings.into_iter().any(|text| expected.as_ref().is_some_and(|it| text.contains(it)));
    debug!(status = answer.status().as_u16(), through, "the API server answered the canary");
    Ok(match (through, answer.status().is_success()) {
        (true, _) => Canary::Through,
        (false, true) => Canary::Lost,
        (false, false) => Canary::Unanswered,
    })
}
