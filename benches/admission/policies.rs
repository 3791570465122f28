//! A namespace whose policies are as expensive as the API server lets them be, beside one under the baseline alone:
//! measures what the policies of the first cost the second. All of it runs in this process, without TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tagpin::serve::compose::IN_FLIGHT;
use tagpin_domain::policy::Mode;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy};
use tagpin_kube::policies::Reported;
use tagpin_leader::baseline::Baseline;
use tokio::runtime;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{MissedTickBehavior, interval};
use tower::ServiceExt as _;

use crate::figures::{goal, median};
use crate::review::review;
use crate::tagpin_webhook::{Registry, around};

/// Number of reviews of the quiet namespace in a round, and number of them in flight.
const REVIEWS: (usize, usize) = (19_200, 64);
/// Number of clients that post the hostile pod, and the time from one post of a client to its next. kubectl asks at most
/// 50 times a second.
const CLIENTS: (usize, Duration) = (4, Duration::from_millis(20));
/// The namespace with expensive policies, and the one under the baseline alone, to which clients post.
const LOUD: &str = "loud";
const PLAIN: &str = "plain";
const ROUNDS: usize = 15;

/// Compares rounds beside clients of the namespace with expensive policies, and beside clients of the one without, in
/// turns. The clients post the same pod, so that only the policies make a difference.
pub(crate) fn measure() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ratios = runtime.block_on(async {
        let router = router();
        let quiet: Arc<str> = in_namespace(review(), "shop").into();
        let [plain, loud] =
            [PLAIN, LOUD].map(|namespace| Arc::<str>::from(in_namespace(hostile(), namespace)));
        let refused = post(&router, &loud).await;
        assert!(refused.contains("[ReviewUnreadable]"), "the policies are not expensive: {refused}");
        round(&router, &quiet).await;
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let without = beside(&router, &quiet, &plain).await;
            let with = beside(&router, &quiet, &loud).await;
            ratios.push(without.as_secs_f64() / with.as_secs_f64());
        }
        ratios
    });
    let ratio = median(ratios);
    println!(
        "\n{} reviews, {} at the same time, beside {} clients that each post, every {:?}, a pod of 64 long names to a \
         namespace whose policy has 1024 globs of 120 stars, {ROUNDS} rounds",
        REVIEWS.0, REVIEWS.1, CLIENTS.0, CLIENTS.1
    );
    goal(
        format_args!(
            "  speed beside them / beside the same clients of a namespace without policies {ratio:.2}"
        ),
        "at least 0.90",
        ratio >= 0.90,
    );
}

/// Returns the time that all reviews of the quiet namespace take while clients post the other review.
async fn beside(router: &Router, quiet: &Arc<str>, posted: &Arc<str>) -> Duration {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS.0 {
        let (router, posted) = (router.clone(), Arc::clone(posted));
        clients.spawn(async move {
            let mut pace = interval(CLIENTS.1);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                pace.tick().await;
                post(&router, &posted).await;
            }
        });
    }
    let took = round(router, quiet).await;
    clients.shutdown().await;
    took
}

/// Returns the time that all reviews of the quiet namespace take, on the threads that the other clients use too.
async fn round(router: &Router, review: &Arc<str>) -> Duration {
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..REVIEWS.1 {
        let (router, review) = (router.clone(), Arc::clone(review));
        lanes.spawn(async move {
            for _ in 0..REVIEWS.0 / REVIEWS.1 {
                let answer = post(&router, &review).await;
                assert!(
                    answer.contains(r#""allowed":true"#),
                    "a review of the quiet namespace was refused: {answer}"
                );
                yield_now().await;
            }
        });
    }
    lanes.join_all().await;
    started.elapsed()
}

async fn post(router: &Router, review: &str) -> String {
    let request = Request::post("/validate?timeout=10s").body(Body::from(review.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Returns the webhook with the chart's baseline, which does not pin, and the policy of the loud namespace.
fn router() -> Router {
    let (cluster, composed) = around(Registry::new(Duration::ZERO), IN_FLIGHT);
    let baseline = Baseline {
        mode: Mode::Enforce,
        pin: false,
        namespace_selector: Default::default(),
        exceptions: Vec::new(),
    };
    let metadata = json!({ "name": "baseline", "uid": "baseline", "generation": 1 });
    cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(
        &serde_json::from_value(metadata).unwrap(),
        baseline.document()["spec"].clone(),
        Value::Null,
    ));
    let metadata = json!({ "name": "slow", "namespace": LOUD, "uid": "slow", "generation": 1 });
    let glob = |n: usize| format!("docker.io/library/{}b{n}", "*a".repeat(110));
    let images: Vec<String> = (0..16).map(glob).collect();
    let exception = |n: usize| json!({ "name": format!("e{n}"), "reason": "a bench", "expires": "2999-01-01T00:00:00Z", "images": images });
    let exceptions: Vec<Value> = (0..64).map(exception).collect();
    cluster.policies.apply(Reported::parse::<ImagePolicy>(
        &serde_json::from_value(metadata).unwrap(),
        json!({ "mode": "Enforce", "exceptions": exceptions }),
        Value::Null,
    ));
    composed.router
}

/// Returns a review of a pod with 64 long names of images, on which globs with many stars take the longest.
fn hostile() -> Value {
    let mut review = review();
    let container =
        |n: usize| json!({ "name": format!("c{n}"), "image": format!("{}{n:03}:1", "a".repeat(200)) });
    review["request"]["object"]["spec"] = json!({ "containers": (0..64).map(container).collect::<Vec<_>>() });
    review
}

/// Returns the body of a review in this namespace.
fn in_namespace(mut review: Value, namespace: &str) -> String {
    review["request"]["namespace"] = json!(namespace);
    review["request"]["object"]["metadata"]["namespace"] = json!(namespace);
    // A developer creates the pod, so nothing softens the answer.
    review["request"]["userInfo"] = json!({ "username": "developer", "groups": ["system:authenticated"] });
    review.to_string()
}
