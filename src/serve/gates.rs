//! The conditions that a replica waits for before it is ready: every store has been filled once, there is a
//! certificate, and the webhook server answers.

use std::convert::Infallible;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::telemetry::readiness::Gate;
use tagpin_kube::certificate::Pems;
use tagpin_kube::store::Store;
use tagpin_kube::{Cluster, Observed};
use tagpin_webhook::tls::CurrentCertificate;

/// Time limit for the webhook server to answer its own process.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause between questions until the first answer.
const UNTIL_FIRST: Duration = Duration::from_millis(250);
/// Pause between questions after that.
const BETWEEN: Duration = Duration::from_secs(10);
/// Number of questions in a row without an answer after which the replica is not ready any more.
const MAX_LOST: u32 = 3;

/// Opens the gate of each store once it has been filled, and sets `all` once every store has been.
pub(crate) async fn open_when_filled(
    cluster: Arc<Cluster>,
    mut shut: Vec<(Store, Gate)>,
    all: watch::Sender<bool>,
) -> Infallible {
    let mut changes = cluster.changes();
    loop {
        let missing = cluster.synced.missing();
        shut.retain(|(store, gate)| {
            let filled = !missing.contains(store);
            if filled {
                gate.open();
            }
            !filled
        });
        if shut.is_empty() {
            break;
        }
        // The wait comes after the check, and only while a store is missing: in a quiet cluster the last fill is the
        // last change.
        changes.changed().await;
    }
    all.send_replace(true);
    future::pending().await
}

/// Passes every certificate in the Secret on to the webhook server, and opens the gate with the first one.
pub(crate) async fn open_with_certificate(
    mut seen: watch::Receiver<Observed<Secret>>,
    current: CurrentCertificate,
    gate: Gate,
    shown: watch::Sender<bool>,
) -> anyhow::Result<()> {
    loop {
        if let Observed::Present(secret) = &*seen.borrow_and_update() {
            let pems = Pems::of(secret);
            match current.set(&pems.certificate, pems.key.expose_secret()) {
                Ok(()) => {
                    info!("uses the certificate in the Secret");
                    gate.open();
                    shown.send_replace(true);
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    warn!(error, "the certificate in the Secret is not usable; the one before stays in use");
                }
            }
        }
        seen.changed().await?;
    }
}

/// Asks the webhook server for ever. The gate opens with the first answer, shuts after several questions in a row
/// without an answer, and opens with the next answer. `answering` has the same state.
pub(crate) async fn open_while_answering<Q>(
    ask: impl Fn() -> Q,
    gate: Gate,
    answering: watch::Sender<bool>,
) -> Infallible
where
    Q: Future<Output = anyhow::Result<()>>,
{
    let (mut lost, mut pause) = (0, UNTIL_FIRST);
    loop {
        let error = match timeout(ANSWER, ask()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("no answer in time".to_owned()),
        };
        match error {
            None => {
                (lost, pause) = (0, BETWEEN);
                gate.open();
                answering.send_if_modified(|answering| !std::mem::replace(answering, true));
            }
            Some(error) => {
                lost += 1;
                warn!(error, "the webhook server does not answer its own process");
                if lost == MAX_LOST {
                    gate.shut();
                    answering.send_if_modified(|answering| std::mem::replace(answering, false));
                }
            }
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use anyhow::anyhow;

    use super::*;
    use crate::telemetry::readiness::Readiness;
    use tagpin_objects::kinds::Kinds;
    use tagpin_testing::NoObjects;

    #[tokio::test(start_paused = true)]
    async fn the_last_fill_opens_though_nothing_changes_after_it() {
        let cluster = Arc::new(Cluster::new(Kinds::default(), NoObjects));
        let readiness = Readiness::default();
        let shut: Vec<_> =
            Store::all(cluster.kinds()).map(|store| (store, readiness.gate(store.name()))).collect();
        let (all, mut filled) = watch::channel(false);
        tokio::spawn(open_when_filled(Arc::clone(&cluster), shut, all));
        for store in Store::all(cluster.kinds()) {
            cluster.synced.fill(store);
            // Each change is observed alone: the paused clock moves on only once the gates wait for the next change.
            sleep(Duration::from_secs(1)).await;
        }
        timeout(Duration::from_secs(60), filled.wait_for(|filled| *filled)).await.unwrap().unwrap();
        assert_eq!(readiness.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_server_that_falls_silent_ends_readiness_until_it_answers() {
        let readiness = Readiness::default();
        let gate = readiness.gate("webhook");
        let answers = Arc::new(AtomicBool::new(false));
        let (told, answered) = watch::channel(false);
        let asked = Arc::clone(&answers);
        let ask = move || {
            let answers = asked.load(Ordering::Relaxed);
            async move { if answers { Ok(()) } else { Err(anyhow!("connection refused")) } }
        };
        tokio::spawn(open_while_answering(ask, gate, told));
        sleep(BETWEEN * MAX_LOST).await;
        assert!(readiness.check().is_err() && !*answered.borrow());
        answers.store(true, Ordering::Relaxed);
        sleep(UNTIL_FIRST * 2).await;
        assert!(readiness.check().is_ok() && *answered.borrow(), "the first answer opens");
        answers.store(false, Ordering::Relaxed);
        sleep(BETWEEN * (MAX_LOST - 1)).await;
        assert!(readiness.check().is_ok(), "one answer that was lost is nothing yet");
        sleep(BETWEEN).await;
        assert!(readiness.check().is_err() && !*answered.borrow(), "three are");
        answers.store(true, Ordering::Relaxed);
        sleep(BETWEEN).await;
        assert!(readiness.check().is_ok() && *answered.borrow());
    }
}
