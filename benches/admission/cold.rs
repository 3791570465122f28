//! Many reviews at the same time of a tag that is not in the cache.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use futures::future::join_all;
use http_body_util::BodyExt as _;
use tokio::runtime;
use tower::ServiceExt as _;

use crate::figures::goal;
use crate::review::{self, patched};
use crate::tagpin_webhook::{Registry, router};

const REVIEWS: usize = 1000;
/// Delay of the registry's answer. It is longer than all reviews take to arrive.
const ANSWERS_AFTER: Duration = Duration::from_millis(500);

/// Counts look-ups. The limit on reviews in flight is lifted, so that all reviews ask.
pub(crate) fn measure() {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let registry = Registry::new(ANSWERS_AFTER);
    let mut review = review::review();
    let spec = &mut review["request"]["object"]["spec"];
    spec["initContainers"] = serde_json::json!([]);
    spec["containers"].as_array_mut().unwrap().truncate(1);
    let body = review.to_string();
    let started = Instant::now();
    let answers = runtime.block_on(async {
        let router = router(registry.clone(), REVIEWS);
        let asked = (0..REVIEWS).map(|_| {
            let request = Request::post("/mutate?timeout=5s").body(Body::from(body.clone())).unwrap();
            let answer = router.clone().oneshot(request);
            tokio::spawn(async move { answer.await.unwrap().into_body().collect().await.unwrap().to_bytes() })
        });
        join_all(asked).await
    });
    let took = started.elapsed();
    let digest = review::digest();
    for answer in answers {
        let pod = patched(&review, &answer.unwrap());
        assert!(pod["spec"]["containers"][0]["image"].as_str().unwrap().ends_with(digest.as_str()));
    }
    println!("\n{REVIEWS} reviews at once of a cold tag, whose registry answers after {ANSWERS_AFTER:?}");
    goal(
        format_args!("  look-ups {}, all pinned after {:.2} s", registry.asked(), took.as_secs_f64()),
        "one look-up",
        registry.asked() == 1,
    );
}
