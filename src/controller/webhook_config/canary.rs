//! One canary: a dry-run create through the API server, and whether its answer carries our warning.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodTemplate;
use kube::api::PostParams;
use kube::client::Body;
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::json;
use tokio::time::timeout;
use tracing::debug;

use crate::controller::random::random;
use crate::controller::webhook_config::arming::Canary;
use crate::k8s::canary::{ANNOTATION, NAME, warning};

/// For the answer of the API server, which waits for the webhooks of others too.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends one canary in this namespace.
pub(crate) async fn send(client: &Client, namespace: &str) -> Canary {
    let nonce = format!("{:016x}", random());
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
    // The client's own calls hide the headers, and warnings are headers.
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
