//! The cost of tagpin for a cluster, measured from outside on the cluster of `KUBECONFIG`, where `cargo xtask bench`
//! has installed it. One part measures how fast pods are created with tagpin, without it and beside a webhook that does
//! nothing. The others create hostile or many objects, for measuring the memory of the replicas that watch them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench fails by panicking, and speaks to people"
)]

mod creates;
mod hostile;
mod null_webhook;
mod objects;

use kube::Client;
use tokio::runtime;

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::try_default().await.expect("a cluster to measure");
        match *words.as_slice() {
            ["creates"] => creates::measure(&client).await,
            ["hostile"] => hostile::fill(&client).await,
            ["objects", pods, deployments] => {
                objects::fill(&client, pods.parse().unwrap(), deployments.parse().unwrap()).await;
            }
            _ => println!(
                "`cargo xtask bench` runs this inside a rig: `creates`, `hostile`, or `objects PODS DEPLOYMENTS`"
            ),
        }
    });
}
