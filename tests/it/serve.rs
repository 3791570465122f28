//! The operator as a process in a cluster where nothing happens: when it is ready.

use std::time::Duration;

use tagpin::cluster::store::Store;
use tagpin::domain::slot::Kind;

use crate::support::serving::{Serving, path};

/// How long an answer over TLS may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_ready_answers_though_nothing_happened_after_the_lists() {
    let pods = path(Store::Objects(Kind::Pod));
    let replica = Serving::start(&[], Some(&pods), "info").await;
    // All else was told, and nothing will be told after this list.
    replica.readiness_is("waiting for pods, webhook").await;
    assert_eq!(
        replica.asked_over_tls(Duration::from_millis(300)).await,
        None,
        "empty stores would allow all"
    );
    replica.release();
    replica.readiness_is("ok").await;
    let answer = replica.asked_over_tls(AT_ONCE).await;
    assert_eq!(answer.as_deref(), Some("HTTP/1.1 405 Method Not Allowed"), "{}", replica.log());
    let (_, metrics) = replica.page("/metrics").await.unwrap();
    let turned_away = r#"tagpin_admission_turned_away_total{reason="not_found"} 1"#;
    assert!(metrics.contains(turned_away), "its own question is no review: {metrics}");
}
