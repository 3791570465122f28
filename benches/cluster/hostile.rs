//! Creates large pod templates, as anybody could, for measuring the memory and the start of a replica beside them.

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, PodTemplate};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Map, json};

/// Number of requests in flight.
const AT_ONCE: usize = 2;
/// Number of pod templates, and the number of these that are as large as any that the API server stores.
const TEMPLATES: (usize, usize) = (200, 60);
/// Numbers of labels of the large templates, of 1.4 MB each, and of the others, of 100 KB each.
const LABELS: (usize, usize) = (115_000, 8_000);
const NAMESPACE: &str = "bench-hostile";

/// Creates the namespace with its templates.
pub(crate) async fn fill(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } })).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let all: Api<PodTemplate> = Api::namespaced(client.clone(), NAMESPACE);
    let (templates, large) = TEMPLATES;
    stream::iter(0..templates)
        .for_each_concurrent(AT_ONCE, |number| {
            let (all, labels) = (&all, if number < large { LABELS.0 } else { LABELS.1 });
            async move { drop(all.create(&PostParams::default(), &template(number, labels)).await.unwrap()) }
        })
        .await;
}

fn template(number: usize, labels: usize) -> PodTemplate {
    let labels: Map<_, _> = (0..labels).map(|number| (format!("l{number}"), json!(""))).collect();
    serde_json::from_value(json!({
        "metadata": { "name": format!("t{number}") },
        "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "web", "image": "web:1.4.2" }] },
        },
    }))
    .unwrap()
}
