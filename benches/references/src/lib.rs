//! The webhooks that `make bench` measures tagpin against: one that always answers with the same bytes, one that gives
//! a constant answer, and the usual webhook. The usual webhook does the same as tagpin for one review, as the
//! documentation of kube shows it. Each reads the whole body.
//!
//! The webhooks are a crate of their own, which the bench builds for speed. Generic code of serde is compiled where it
//! is used, so a fast `serde_json` alone would not make the webhooks fast.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench fails by panicking")]

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The digest of each reference.
pub type Digests = HashMap<String, String>;

/// Gives the same answer to every review, except for the UID. The API server refuses an answer without the UID of its
/// review, so this one field is read, and replaces `uid` in `answer`.
pub fn constant(answer: &[u8], uid: &str) -> Router {
    let answer = std::str::from_utf8(answer).unwrap();
    let (before, after) = answer.split_once(uid).unwrap();
    let (before, after): (Arc<str>, Arc<str>) = (before.into(), after.into());
    Router::new().route(
        "/mutate",
        post(move |body: Bytes| {
            let (before, after) = (Arc::clone(&before), Arc::clone(&after));
            async move {
                let review: Review<'_> = serde_json::from_slice(&body).unwrap();
                written([&*before, review.request.uid, &*after].concat())
            }
        }),
    )
}

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: &'a str,
}

/// Answers every request with these bytes, which shows the cost of TLS and HTTP alone.
pub fn bytes(answer: Vec<u8>) -> Router {
    let answer = Bytes::from(answer);
    Router::new().route(
        "/mutate",
        post(move |_: Bytes| {
            let answer = answer.clone();
            async move { written(answer) }
        }),
    )
}

/// Pins the references that `digests` has, keeps the originals in this annotation, and refuses `latest`.
pub fn usual(digests: Digests, annotation: String) -> Router {
    let usual = Arc::new(Usual { digests: RwLock::new(digests), annotation });
    Router::new().route("/mutate", post(pin)).with_state(usual)
}

struct Usual {
    digests: RwLock<Digests>,
    annotation: String,
}

async fn pin(State(usual): State<Arc<Usual>>, body: Bytes) -> Response {
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(&body).unwrap();
    let request: AdmissionRequest<DynamicObject> = review.try_into().unwrap();
    let answer = answer(&usual.digests.read().unwrap(), &usual.annotation, &request).into_review();
    written(serde_json::to_vec(&answer).unwrap())
}

fn answer(
    digests: &Digests,
    annotation: &str,
    request: &AdmissionRequest<DynamicObject>,
) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let Some(object) = &request.object else { return response };
    let mut operations = Vec::new();
    let mut originals = Map::new();
    for list in ["containers", "initContainers"] {
        let containers = object.data["spec"][list].as_array();
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let (Some(name), Some(image)) = (container["name"].as_str(), container["image"].as_str()) else {
                continue;
            };
            if image.ends_with(":latest") {
                return response.deny(format!("image {image} (container {name}): say a version"));
            }
            if let Some(digest) = digests.get(image) {
                let path = PointerBuf::parse(format!("/spec/{list}/{index}/image")).unwrap();
                let value = format!("{image}@{digest}").into();
                operations.push(PatchOperation::Replace(ReplaceOperation { path, value }));
                originals.insert(format!("{list}/{name}"), image.into());
            }
        }
    }
    let original = Value::Object(originals).to_string();
    let (path, value) = if object.metadata.annotations.is_some() {
        (PointerBuf::from_tokens(["metadata", "annotations", annotation]), original.into())
    } else {
        (PointerBuf::from_tokens(["metadata", "annotations"]), json!({ annotation: original }))
    };
    operations.push(PatchOperation::Add(AddOperation { path, value }));
    response.with_patch(Patch(operations)).unwrap()
}

fn written(answer: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer).into_response()
}
