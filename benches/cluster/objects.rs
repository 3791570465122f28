//! Creates many pods and Deployments, for measuring the memory that a replica needs for them.

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::creates::pod;

/// Number of requests in flight.
const AT_ONCE: usize = 8;
/// Number of pods that are named after the same Deployment.
const PODS_EACH: usize = 4;
const NAMESPACE: &str = "bench-objects";

/// Creates the missing pods and Deployments, up to these numbers. The Deployments have no replicas. The pods are
/// created directly, and are named after the Deployments.
pub(crate) async fn fill(client: &Client, pods: usize, deployments: usize) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt(NAMESPACE).await.unwrap().is_none() {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } })).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    let all_pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let all_deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let there = all_pods.list_metadata(&ListParams::default()).await.unwrap().items.len();
    stream::iter(there..pods)
        .for_each_concurrent(AT_ONCE, |number| {
            let name = format!("web-{}-{}", number / PODS_EACH, number % PODS_EACH);
            let all = &all_pods;
            async move { drop(all.create(&PostParams::default(), &pod(&name)).await.unwrap()) }
        })
        .await;
    let there = all_deployments.list_metadata(&ListParams::default()).await.unwrap().items.len();
    stream::iter(there..deployments)
        .for_each_concurrent(AT_ONCE, |number| {
            let all = &all_deployments;
            async move {
                let deployment = deployment(&format!("web-{number}"));
                drop(all.create(&PostParams::default(), &deployment).await.unwrap());
            }
        })
        .await;
}

fn deployment(name: &str) -> Deployment {
    let labels = json!({ "app": name });
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [
                    { "name": "web", "image": "web:1.4.2" },
                    { "name": "sidecar", "image": "sidecar:1.0.0" },
                ] },
            },
        },
    }))
    .unwrap()
}
