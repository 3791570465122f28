//! Asks a replica itself, by a port-forward through the API server, because a laptop reaches other registries than the
//! replica does. A port-forward enters the network of the pod, so that no NetworkPolicy applies to it.

use std::time::Duration;

use anyhow::{Context, anyhow};
use hyper::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::cli::doctor::findings::{Answer, Answers, Counters};
use tagpin_leader::replicas::page;

/// Time limit for one page, including the way through the API server and the kubelet.
const LIMIT: Duration = Duration::from_secs(10);
/// Name of the port in the chart.
const PORT: &str = "admin";
/// Codes of findings that leave an image without a digest. Codes that forbid the tag itself are not among them.
const UNPINNED_CODES: [&str; 15] = [
    "NotPinned",
    "AnnotationsFull",
    "PinUndone",
    "TagNotFound",
    "DigestNotFound",
    "ImageArchived",
    "RepositoryNotFound",
    "RepositoryMissingOrPrivate",
    "AccessDenied",
    "CredentialsRejected",
    "RateLimited",
    "RegistryUnavailable",
    "RegistryForbidden",
    "RegistryAnswerInvalid",
    "ManifestUnsupported",
];

/// Returns the answers of this pod.
pub(crate) async fn ask(pods: &Api<Pod>, pod: &Pod) -> Answer<Answers> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let port = admin_port(pod).ok_or("the pod has no port named admin")?;
    let (status, ready) = get(pods, name, port, "/readyz").await?;
    let waits = (status != StatusCode::OK).then(|| ready.trim().to_owned());
    let (_, metrics) = get(pods, name, port, "/metrics").await?;
    Ok(Answers {
        waits,
        policies: list(get(pods, name, port, "/policies").await?)?,
        registries: list(get(pods, name, port, "/registries").await?)?,
        unreadable: list(get(pods, name, port, "/unreadable").await?)?,
        counters: counters(&metrics),
    })
}

fn admin_port(pod: &Pod) -> Option<u16> {
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    u16::try_from(ports.find(|port| port.name.as_deref() == Some(PORT))?.container_port).ok()
}

async fn get(pods: &Api<Pod>, name: &str, port: u16, path: &str) -> Answer<(StatusCode, String)> {
    let asked = async {
        let mut forwarder = pods.portforward(name, &[port]).await?;
        let stream = forwarder.take_stream(port).context("the port-forward opened no stream")?;
        let (status, body) = page(stream, path).await?;
        forwarder.abort();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let answer = timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_| Err(anyhow!("no answer within {} s", LIMIT.as_secs())));
    answer.map_err(|cause| format!("get {path} through a port-forward: {cause}"))
}

fn list<T: DeserializeOwned>((status, body): (StatusCode, String)) -> Answer<Vec<T>> {
    if status != StatusCode::OK {
        return Err(format!(
            "the replica answers with status {status}: does it run another version of tagpin?"
        ));
    }
    serde_json::from_str(&body).map_err(|error| error.to_string())
}

/// Parses the counters that are judged from the text format of Prometheus.
fn counters(metrics: &str) -> Counters {
    let mut counters = Counters::default();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<u64>() else { continue };
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        match name {
            "tagpin_admission_requests_total" => counters.reviews += value,
            "tagpin_registries_invalid" => counters.earlier_configuration = value > 0,
            "tagpin_foreign_owner_images_total" => counters.foreign_owner += value,
            "tagpin_images_evaluated_total" if !labels.contains("result=\"deny\"") => {
                let code =
                    UNPINNED_CODES.into_iter().find(|code| labels.contains(&format!("code=\"{code}\"")));
                counters.codes.extend(code.map(|code| (code.to_owned(), value)));
            }
            _ => {}
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin_domain::denial::Code;

    #[test]
    fn only_what_leaves_an_image_unpinned_is_counted() {
        let text = "\
# HELP tagpin_admission_requests Reviews answered.
tagpin_admission_requests_total{webhook=\"pin\",kind=\"Pod\"} 3
tagpin_admission_requests_total{webhook=\"validate\",kind=\"Pod\"} 4
tagpin_images_evaluated_total{result=\"warn\",code=\"RegistryUnavailable\"} 5
tagpin_images_evaluated_total{result=\"deny\",code=\"TagNotFound\"} 6
tagpin_images_evaluated_total{result=\"warn\",code=\"TagForbidden\"} 7
tagpin_images_evaluated_total{result=\"allow\",code=\"none\"} 8
tagpin_foreign_owner_images_total 9
tagpin_registries_invalid 1
tagpin_admission_duration_seconds_sum{webhook=\"pin\"} 0.25
";
        let counters = counters(text);
        assert_eq!((counters.reviews, counters.foreign_owner), (7, 9));
        assert!(counters.earlier_configuration);
        assert_eq!(counters.codes, [("RegistryUnavailable".to_owned(), 5)]);
    }

    #[test]
    fn the_codes_exist() {
        for code in UNPINNED_CODES {
            assert!(Code::ALL.iter().any(|known| known.as_str() == code), "{code}");
        }
    }
}
