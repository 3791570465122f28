//! The canaries of a leader: their schedule and their outcome. A canary is a dry-run create through the API server. It
//! came through if the answer carries tagpin's warning.

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

use crate::webhook_config::arming::{Arming, Canary, Reach};
use crate::webhook_config::documents;
use tagpin_kube::Observed;
use tagpin_objects::canary::{ANNOTATION, NAME, warning};

/// Time limit for the answer of the API server, which also waits for webhooks of others.
const LIMIT: Duration = Duration::from_secs(10);

/// The canaries of this leader: the outcome so far, and the time of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canaries {
    /// The state of the canaries; none while the configuration has no entry for canaries.
    arming: Option<Arming>,
    due: Instant,
}

impl Canaries {
    /// Returns the state of a leader that has sent no canary.
    pub(crate) fn new() -> Self {
        Self { arming: None, due: Instant::now() }
    }

    /// Starts when the entry for canaries appears, and forgets every outcome when it is removed. Returns true
    /// if anything changed.
    pub(crate) fn follow(&mut self, validating: &Observed<ValidatingWebhookConfiguration>) -> bool {
        let before = *self;
        match validating {
            Observed::Unknown => {}
            Observed::Present(live) if documents::has_canary(live) => {
                if self.arming.is_none() {
                    let arming = Arming::new(documents::fails_closed(live));
                    *self = Self { arming: Some(arming), due: Instant::now() };
                }
            }
            Observed::Present(_) | Observed::Absent => self.arming = None,
        }
        *self != before
    }

    /// Returns the time of the next canary; none while there is no entry for canaries.
    pub(crate) fn due(self) -> Option<Instant> {
        self.arming.map(|_| self.due)
    }

    /// Records the outcome of the canary that was sent at this time.
    pub(crate) fn heard(&mut self, canary: Canary, sent: Instant) {
        let before = self.reach();
        if let Some(arming) = &mut self.arming {
            self.due = sent + arming.heard(canary);
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

    /// Returns true if unanswered requests may be refused; none while the number of replicas is not known. A Deployment
    /// that does not exist or is being deleted has no replica that could answer.
    pub(crate) fn fail_closed(
        self,
        deployment: &Observed<Deployment>,
        validating: &Observed<ValidatingWebhookConfiguration>,
    ) -> Option<bool> {
        let replicas = match deployment {
            Observed::Unknown => return None,
            Observed::Absent => return Some(false),
            Observed::Present(live) if live.metadata.deletion_timestamp.is_some() => return Some(false),
            // The API server's own default.
            Observed::Present(live) => live.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        };
        let at_present = matches!(validating, Observed::Present(live) if documents::fails_closed(live));
        Some(self.arming.is_some_and(|arming| arming.fails_closed(replicas, at_present)))
    }
}

/// Sends one canary in this namespace.
pub(crate) async fn send(client: &Client, namespace: &str) -> Canary {
    let nonce = format!("{:016x}", fastrand::u64(..));
    match timeout(LIMIT, ask(client, namespace, &nonce)).await {
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
