//! Creates pods through the API server in alternating rounds: in a namespace without a webhook, in a namespace of a
//! webhook that allows everything unread, and in a namespace of tagpin.

use std::time::Instant;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::null_webhook;

/// Number of pods in each namespace and round, and number of requests in flight.
const PODS: (usize, usize) = (200, 8);
const ROUNDS: usize = 9;
/// The two namespaces that tagpin was told to leave alone, and the namespace of tagpin.
const NAMESPACES: [&str; 3] = ["bench-none", "bench-null", "bench-tagpin"];

pub(crate) async fn measure(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in NAMESPACES {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    let [_, null, _] = NAMESPACES;
    null_webhook::install(client, null).await;
    let mut rates = NAMESPACES.map(|namespace| (namespace, Vec::new()));
    for round in 0..=ROUNDS {
        // The order of the namespaces changes with each round.
        rates.rotate_left(1);
        for (namespace, rates) in &mut rates {
            let rate = round_in(client, namespace).await;
            // The first round is for warming up.
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    rates.sort_by_key(|(namespace, _)| NAMESPACES.iter().position(|name| name == namespace));
    let [none, null, tagpin] = rates.map(|(_, rates)| median(rates));
    println!(
        "\npods created through the API server, {ROUNDS} rounds of {} with {} at once, pods/s (median)\n  without a \
         webhook {none:.0}, with a null webhook twice {null:.0}, with tagpin {tagpin:.0}\n  ratios: tagpin / without \
         {:.2}, null / without {:.2}, tagpin / null {:.2}",
        PODS.0,
        PODS.1,
        tagpin / none,
        null / none,
        tagpin / null,
    );
}

/// Returns the number of pods created per second. The pods are deleted after the clock has stopped.
async fn round_in(client: &Client, namespace: &str) -> f64 {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    stream::iter(0..PODS.0)
        .for_each_concurrent(PODS.1, |number| {
            let pods = &pods;
            async move {
                let made = pods.create(&PostParams::default(), &pod(&format!("pod-{number}"))).await.unwrap();
                let image = made.spec.unwrap().containers.remove(0).image.unwrap();
                let [_, _, tagpin] = NAMESPACES;
                assert_eq!(image.contains("@sha256:"), namespace == tagpin, "{image}");
            }
        })
        .await;
    let took = started.elapsed();
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await.unwrap();
    while !pods.list_metadata(&ListParams::default().limit(1)).await.unwrap().items.is_empty() {}
    PODS.0 as f64 / took.as_secs_f64()
}

/// Returns a pod that waits for a scheduling gate, so that no node has work with it.
pub(crate) fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "app": "bench" } },
        "spec": {
            "schedulingGates": [ { "name": "tagpin.dev/bench" } ],
            "containers": [ { "name": "web", "image": "web:1.4.2" } ],
        },
    }))
    .unwrap()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.swap_remove(rates.len() / 2)
}
