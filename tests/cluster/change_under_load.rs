//! Restarts, kills, renewed certificates and drains under a constant load: no request is lost, except those in flight
//! at a killed replica.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::support::load::{Load, LostKind};
use crate::support::release::OtherValues;
use crate::support::replicas::{self, ours};
use crate::support::webhook::{Door, Published, creation};
use crate::support::{LIMIT, Namespace, alone, kubectl, rig, wait_for};

#[test]
fn three_rolling_restarts_lose_nothing() {
    let _cluster = alone();
    let namespace = Namespace::new("restarts");
    let load = Load::start(&namespace);
    for _ in 0..3 {
        ours(&["rollout", "restart", "deployment/tagpin"]);
        ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    }
    load.goes_on(40);
    load.end().nothing_lost();
}

#[test]
fn a_replica_that_is_killed_loses_what_was_in_flight_there() {
    let Some(_rig) = rig::here("kills a process") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("killed");
    let load = Load::start(&namespace);
    let replicas = replicas::when_ready(2);
    let began = Instant::now();
    replicas[0].kill();
    replicas[0].comes_back();
    let over = Instant::now();
    load.goes_on(100);
    let result = load.end();
    for lost in &result.counts.lost {
        // A pod that the dead replica did not pin may be refused by the other replica, which knows the digest.
        let passed_by = match &lost.kind {
            LostKind::Unpinned | LostKind::Admitted => true,
            LostKind::Answered(message) => message.contains("[NotPinned]"),
            LostKind::Unanswered => false,
        };
        assert!(passed_by, "{lost:?}");
        assert!(lost.answered >= began && lost.sent <= over, "{lost:?}");
    }
    // Each lost request was on its way to the dead replica; the API server counts such calls.
    let lost = result.counts.lost.len() + result.counts.children(false);
    assert!(lost <= result.api_server.failed_open, "{result}");
}

/// Returns an entry of the Secret with the certificate.
fn secret(part: &str) -> Vec<u8> {
    let path = format!("jsonpath={{.data.{part}}}");
    BASE64_STANDARD.decode(ours(&["get", "secret", "tagpin-webhook-tls", "-o", &path])).unwrap()
}

#[test]
fn leaves_of_seconds_and_authorities_of_a_minute_lose_nothing() {
    let Some(_rig) = rig::here("upgrades the release and asks replicas by their address") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("rotation");
    let load = Load::start(&namespace);
    // A certificate is renewed when a third of its lifetime is left (here every 5 s), and so is its authority.
    let _values = OtherValues::set("certificate.lifetime=7s,certificate.authorityLifetime=90s");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let review = creation(&namespace.name, "web:latest", 0);
    let (mut leaves, mut authorities) = (BTreeSet::new(), BTreeSet::new());
    let mut together = 0;
    // Waits for three authorities: the one of ten years, and two short-lived ones that follow it.
    wait_for("two new authorities and ten leaves", Duration::from_secs(150), || {
        let published = Published::now();
        together = together.max(CertificateDer::pem_slice_iter(&published.authorities).count());
        leaves.insert(secret("tls\\.crt"));
        authorities.insert(CertificateDer::from_pem_slice(&published.authorities).unwrap().to_vec());
        // A client that trusts the published authorities accepts the certificate of every replica.
        for replica in replicas::ready() {
            let asked =
                async { Door::of(&replica, &published).open().await?.review("/validate", &review).await };
            match runtime.block_on(asked) {
                Ok(answer) => assert_eq!(answer["allowed"], false, "{answer}"),
                Err(error) => assert!(!replicas::ready().contains(&replica), "{replica:?}: {error}"),
            }
        }
        (authorities.len() >= 3 && leaves.len() >= 10).then_some(())
    });
    assert!(together >= 2, "the next authority is published beside the one before");
    load.end().nothing_lost();
    eprintln!("{} leaves, {} authorities, {together} published together", leaves.len(), authorities.len());
}

/// A drained node; it accepts pods again when this is dropped.
struct Drained(&'static str);

impl Drained {
    fn new(node: &'static str) -> Self {
        let drain =
            ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"];
        kubectl(&drain).succeeded();
        Self(node)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        drop(kubectl(&["uncordon", self.0]));
    }
}

#[test]
fn a_drain_of_a_node_loses_nothing() {
    let Some(rig) = rig::here("drains a node") else { return };
    if !rig.has_two_nodes() {
        return;
    }
    let _cluster = alone();
    let on_the_second =
        || ours(&["get", "pods", "--field-selector=spec.nodeName=rig-2", "-o", "name"]).lines().count();
    // A restart spreads the replicas over the nodes.
    ours(&["rollout", "restart", "deployment/tagpin"]);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    wait_for("a replica on the second node", LIMIT, || (on_the_second() > 0).then_some(()));
    let namespace = Namespace::new("drained");
    let load = Load::start(&namespace);
    let _drained = Drained::new("rig-2");
    assert_eq!(on_the_second(), 0);
    replicas::when_ready(2);
    load.goes_on(40);
    load.end().nothing_lost();
}
