//! The review of the bench: a pod of a Deployment with three images by tag, as the API server sends it. Also checks
//! what the answers do to the pod.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tagpin_domain::digest::Digest;

/// Returns the digest that each tag of the bench names.
pub(crate) fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "a1".repeat(32))).unwrap()
}

/// Returns the review, with its pod.
pub(crate) fn review() -> Value {
    serde_json::from_str(include_str!("review.json")).unwrap()
}

/// Returns the bytes of a POST of this review, head and body.
pub(crate) fn request(path: &str, review: &Value) -> Vec<u8> {
    let body = review.to_string();
    // The head is as the API server's client writes it.
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}:443\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\n\
         Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
        crate::client::HOST,
        body.len(),
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Returns the pod of the review after the patch of this answer. The answer must allow the pod.
pub(crate) fn patched(review: &Value, answer: &[u8]) -> Value {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let response = &answer["response"];
    assert_eq!(response["allowed"], true, "{answer}");
    assert_eq!(response["uid"], review["request"]["uid"]);
    let mut object = review["request"]["object"].clone();
    let patch = match &response["patch"] {
        Value::Null => return object,
        Value::String(text) => STANDARD.decode(text).unwrap(),
        // kube writes the bytes as a list of numbers, which the API server takes too.
        bytes => serde_json::from_value(bytes.clone()).unwrap(),
    };
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}
