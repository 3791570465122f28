//! The webhook's certificate over the years, and the Secret that holds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tagpin_kube::Observed;
use tagpin_kube::certificate::Pems;
use tagpin_leader::certificates::issue::{self, Lifetimes};
use tagpin_leader::certificates::keep;
use tagpin_leader::reconcile::Reconcile;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use tagpin_testing::scripted_api::{Api, Call};

const NAMESPACE: &str = "tagpin-system";
const DAY: i64 = 24 * 3600;
const YEAR: i64 = 365 * DAY;
const USUAL: Lifetimes = lifetimes(90 * DAY, 10 * YEAR);

/// Returns these lifetimes, which are in seconds.
const fn lifetimes(leaf: i64, authority: i64) -> Lifetimes {
    Lifetimes {
        leaf: Duration::from_secs(leaf.unsigned_abs()),
        authority: Duration::from_secs(authority.unsigned_abs()),
    }
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds)
}

fn next(held: &Pems, at: i64) -> Option<Pems> {
    issue::next(Some(held), NAMESPACE, USUAL, after(at)).unwrap()
}

fn first() -> Pems {
    issue::next(None, NAMESPACE, USUAL, after(0)).unwrap().unwrap()
}

/// Returns the number of trusted authorities.
fn authorities(pems: &Pems) -> usize {
    CertificateDer::pem_slice_iter(&pems.ca).map(Result::unwrap).count()
}

/// Returns true if a client that trusts this bundle accepts the certificate under this name at that time.
fn trusts(bundle: &[u8], certificate: &[u8], name: &str, at: i64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(certificate).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(after(at).as_second().try_into().unwrap()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&leaf, &[], &name, &[], at).is_ok()
}

#[test]
fn the_api_server_trusts_the_first_one_under_every_name_of_the_service() {
    let pems = first();
    for name in ["tagpin.tagpin-system.svc", "tagpin.tagpin-system", "tagpin.tagpin-system.svc.cluster.local"]
    {
        assert!(trusts(&pems.ca, &pems.certificate, name, 0), "{name}");
        assert!(trusts(&pems.ca, &pems.certificate, name, -1800), "{name}, by a clock that is late");
    }
    assert!(!trusts(&pems.ca, &pems.certificate, "tagpin.other.svc", 0));
    assert!(!trusts(&first().ca, &pems.certificate, "tagpin.tagpin-system.svc", 0));
}

#[test]
fn a_leaf_is_renewed_after_two_thirds_of_its_life_by_the_same_authority() {
    let pems = first();
    for day in [0, 1, 30, 59] {
        assert!(next(&pems, day * DAY).is_none(), "day {day}");
    }
    let renewed = next(&pems, 61 * DAY).unwrap();
    assert_eq!(renewed.ca, pems.ca);
    assert_ne!(renewed.certificate, pems.certificate);
    assert!(trusts(&pems.ca, &renewed.certificate, "tagpin.tagpin-system.svc", 61 * DAY));
    assert!(next(&renewed, 61 * DAY).is_none());
}

/// Checks again and again, with clients that know the bundle of the last check. Returns the number of writes.
fn nobody_meets_a_certificate_they_do_not_trust(lifetimes: Lifetimes, step: i64, end: i64) -> usize {
    let wanted = |held: &Pems, at| issue::next(Some(held), NAMESPACE, lifetimes, after(at)).unwrap();
    let mut pems = issue::next(None, NAMESPACE, lifetimes, after(0)).unwrap().unwrap();
    let (mut known, mut most, mut changes) = (pems.ca.clone(), 0, 0);
    for at in (0..end).step_by(usize::try_from(step).unwrap()) {
        let before = pems.clone();
        while let Some(wanted) = wanted(&pems, at) {
            pems = wanted;
            changes += 1;
        }
        assert!(trusts(&known, &pems.certificate, "tagpin.tagpin-system.svc", at), "second {at}");
        assert!(trusts(&pems.ca, &before.certificate, "tagpin.tagpin-system.svc", at), "second {at}");
        known = pems.ca.clone();
        most = most.max(authorities(&pems));
    }
    assert_eq!(most, 2, "an old authority goes when it has expired");
    changes
}

#[test]
fn over_fourteen_years_nobody_meets_a_certificate_they_do_not_trust() {
    let changes = nobody_meets_a_certificate_they_do_not_trust(USUAL, 4 * DAY, 14 * YEAR);
    assert!((80..95).contains(&changes), "{changes}");
}

#[test]
fn a_leaf_of_seconds_and_an_authority_of_minutes_are_renewed_as_calmly() {
    // Ten minutes bring a new leaf every six or seven seconds, a new authority every minute, and the removal of
    // each old authority.
    let changes = nobody_meets_a_certificate_they_do_not_trust(lifetimes(8, 90), 1, 600);
    assert!((90..110).contains(&changes), "{changes}");
}

#[test]
fn what_would_last_longer_than_is_wanted_now_is_made_anew() {
    let long = first();
    let wanted =
        |held: &Pems, at| issue::next(Some(held), NAMESPACE, lifetimes(DAY, 30 * DAY), after(at)).unwrap();
    let authority = wanted(&long, DAY).unwrap();
    assert_eq!(
        (authorities(&authority), &authority.certificate),
        (2, &long.certificate),
        "first it is trusted"
    );
    let both = wanted(&authority, 2 * DAY).unwrap();
    assert!(trusts(&authority.ca, &both.certificate, "tagpin.tagpin-system.svc", 2 * DAY));
    assert!(!trusts(&both.ca, &both.certificate, "tagpin.tagpin-system.svc", 3 * DAY + 60));
    assert!(wanted(&both, 2 * DAY).is_none());
}

#[test]
fn a_leaf_of_seconds_is_not_forgotten_when_leaves_are_to_live_for_months_again() {
    let seconds = lifetimes(8, 90);
    let short = issue::next(None, NAMESPACE, seconds, after(0)).unwrap().unwrap();
    let look = |held, lifetimes| issue::next_check(Some(held), lifetimes, after(2));
    assert_eq!(look(&short, USUAL), look(&short, seconds));
    assert!(look(&short, USUAL) < Duration::from_secs(1), "{:?}", look(&short, USUAL));
    assert_eq!(look(&first(), USUAL), Duration::from_hours(1));

    let (mut pems, mut known) = (short.clone(), short.ca.clone());
    for at in 2..20 {
        while let Some(wanted) = next(&pems, at) {
            pems = wanted;
        }
        assert!(trusts(&known, &pems.certificate, "tagpin.tagpin-system.svc", at), "second {at}");
        known = pems.ca.clone();
    }
    assert!(trusts(&pems.ca, &pems.certificate, "tagpin.tagpin-system.svc", 60 * DAY));
}

#[test]
fn a_young_authority_does_not_sign_yet() {
    // The leaf is renewed shortly before the authority is due, so that both are not due at once.
    let pems = next(&first(), 2400 * DAY).unwrap();
    let due = 2440 * DAY;
    let with_new = next(&pems, due).unwrap();
    assert_eq!(authorities(&with_new), 2);
    assert!(with_new.certificate == pems.certificate, "the leaf stays");
    assert!(next(&with_new, due).is_none());
    // The new authority signs when the leaf is due.
    let renewed = next(&with_new, due + 61 * DAY).unwrap();
    assert!(!trusts(&pems.ca, &renewed.certificate, "tagpin.tagpin-system.svc", due + 61 * DAY));
    assert!(trusts(&with_new.ca, &renewed.certificate, "tagpin.tagpin-system.svc", due + 61 * DAY));
}

#[test]
fn what_is_broken_is_made_anew() {
    let (pems, other) = (first(), first());
    let elsewhere = issue::next(None, "elsewhere", USUAL, after(0)).unwrap().unwrap();
    let cases: [(&str, Pems, bool); 8] = [
        (
            "nothing",
            Pems { ca: vec![], ca_key: vec![].into(), certificate: vec![], key: vec![].into() },
            false,
        ),
        ("no leaf", Pems { certificate: vec![], ..pems.clone() }, true),
        ("the key of another leaf", Pems { key: other.key.clone(), ..pems.clone() }, true),
        (
            "a leaf of another authority",
            Pems { certificate: other.certificate, key: other.key, ..pems.clone() },
            true,
        ),
        ("the key of another authority", Pems { ca_key: other.ca_key.clone(), ..pems.clone() }, false),
        ("no key of the authority", Pems { ca_key: vec![].into(), ..pems.clone() }, false),
        (
            "garbage",
            Pems {
                ca: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
                ..pems.clone()
            },
            false,
        ),
        ("a leaf of another namespace", elsewhere, true),
    ];
    for (what, broken, same_authority) in cases {
        let healed = next(&broken, DAY).unwrap_or_else(|| panic!("{what}: nothing is done"));
        assert!(trusts(&healed.ca, &healed.certificate, "tagpin.tagpin-system.svc", DAY), "{what}");
        assert_eq!(healed.ca == broken.ca, same_authority, "{what}");
        assert!(next(&healed, DAY).is_none(), "{what}");
    }
}

#[test]
fn an_authority_without_its_key_is_trusted_on_while_its_leaf_serves() {
    let pems = first();
    let healed = next(&Pems { ca_key: vec![].into(), ..pems.clone() }, DAY).unwrap();
    assert_eq!((authorities(&healed), &healed.certificate), (2, &pems.certificate));
}

/// The leader's keeper of the Secret, and the API server.
struct Keeper {
    api: Api,
    seen: watch::Sender<Observed<Secret>>,
    reconcile: Reconcile,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const SECRETS: &str = "/api/v1/namespaces/tagpin-system/secrets";
const DEPLOYMENT: &str = "GET /apis/apps/v1/namespaces/tagpin-system/deployments/tagpin";

fn owners() -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "tagpin", "uid": "d" }])
}

impl Keeper {
    fn start(seen: Observed<Secret>) -> Self {
        let (client, api) = Api::new();
        let (sender, receiver) = watch::channel(seen);
        let reconcile = Reconcile::default();
        let passes = reconcile.clone();
        let task = tokio::spawn(async move { keep(client, NAMESPACE, USUAL, receiver, passes).await });
        Self { api, seen: sender, reconcile, task }
    }

    /// Returns the next call after the read of the Deployment, which becomes the owner of the Secret.
    async fn write(&mut self, line: &str) -> Call {
        let asks = self.api.expect(DEPLOYMENT).await;
        let metadata = json!({ "name": "tagpin", "uid": "d" });
        asks.ok(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata,
        }));
        let write = self.api.expect(line).await;
        assert_eq!(write.json()["metadata"]["ownerReferences"], owners());
        write
    }

    /// Reports this Secret as the watch does.
    fn tell(&self, value: Value) {
        self.seen.send_replace(Observed::Present(Arc::new(serde_json::from_value(value).unwrap())));
    }
}

fn secret(pems: &Pems, version: &str) -> Value {
    let data: BTreeMap<_, _> = [
        ("ca.crt", pems.ca.as_slice()),
        ("ca.key", pems.ca_key.expose_secret()),
        ("tls.crt", &pems.certificate),
        ("tls.key", pems.key.expose_secret()),
    ]
    .into_iter()
    .map(|(name, pem)| (name, STANDARD.encode(pem)))
    .collect();
    let metadata = json!({
        "name": "tagpin-webhook-tls", "namespace": NAMESPACE, "resourceVersion": version,
        "ownerReferences": owners(),
    });
    json!({ "metadata": metadata, "data": data, "type": "kubernetes.io/tls" })
}

fn now() -> Pems {
    issue::next(None, NAMESPACE, USUAL, Timestamp::now()).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_missing_is_made_and_one_in_order_is_left_alone() {
    let mut keeper = Keeper::start(Observed::Unknown);
    keeper.api.quiet(Duration::from_hours(2)).await;
    keeper.seen.send_replace(Observed::Absent);
    let create = keeper.write(&format!("POST {SECRETS}")).await;
    let made = create.json();
    assert_eq!(made["type"], "kubernetes.io/tls");
    assert_eq!(made["metadata"]["labels"]["app.kubernetes.io/managed-by"], "tagpin");
    let keys: Vec<_> = made["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    create.answer(201, made.clone());
    keeper.tell(made);
    keeper.api.quiet(Duration::from_hours(48)).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_deleted_comes_back_as_it_was() {
    let pems = now();
    let mut keeper = Keeper::start(Observed::Unknown);
    keeper.tell(secret(&pems, "7"));
    keeper.api.quiet(Duration::from_hours(2)).await;
    keeper.seen.send_replace(Observed::Absent);
    let create = keeper.write(&format!("POST {SECRETS}")).await;
    assert_eq!(create.json()["data"], secret(&pems, "7")["data"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_an_earlier_version_is_given_its_owner() {
    let pems = now();
    let mut keeper = Keeper::start(Observed::Unknown);
    let mut unowned = secret(&pems, "7");
    unowned["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    let data = unowned["data"].clone();
    keeper.tell(unowned);
    let put = keeper.write(&format!("PUT {SECRETS}/tagpin-webhook-tls")).await;
    assert_eq!(put.json()["data"], data);
    put.ok(secret(&pems, "8"));
    keeper.tell(secret(&pems, "8"));
    keeper.api.quiet(Duration::from_hours(48)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_once_the_deployment_is_gone() {
    let mut keeper = Keeper::start(Observed::Absent);
    for _ in 0..3 {
        keeper.api.expect(DEPLOYMENT).await.refuse(404, "NotFound");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_spoilt_is_replaced_at_its_version() {
    let pems = now();
    let mut keeper = Keeper::start(Observed::Unknown);
    keeper.tell(secret(&Pems { certificate: b"spoilt".to_vec(), ..pems.clone() }, "9"));
    let put = keeper.write(&format!("PUT {SECRETS}/tagpin-webhook-tls")).await;
    assert_eq!(put.json()["metadata"]["resourceVersion"], "9");
    assert_eq!(put.json()["data"]["ca.crt"], STANDARD.encode(&pems.ca));
    // Another writer was first. The keeper checks what that writer wrote.
    put.refuse(409, "Conflict");
    keeper.tell(secret(&pems, "10"));
    keeper.api.quiet(Duration::from_hours(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again() {
    let mut keeper = Keeper::start(Observed::Absent);
    for refusal in [(403, "Forbidden"), (500, "InternalError")] {
        keeper.write(&format!("POST {SECRETS}")).await.refuse(refusal.0, refusal.1);
    }
    let hangs = keeper.write(&format!("POST {SECRETS}")).await;
    hangs.given_up().await;
    let last = keeper.write(&format!("POST {SECRETS}")).await;
    assert_eq!(keeper.reconcile.failures(), 3);
    last.refuse(403, "Forbidden");
}

#[test]
fn keys_are_not_shown() {
    let pems = now();
    assert_eq!(format!("{pems:?}"), "Pems");
}
