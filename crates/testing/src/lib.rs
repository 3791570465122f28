//! Helpers of the tests and benches of several crates: an API server that is scripted call by call, and
//! objects as watches report them. Nothing of this crate ships.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use async_trait::async_trait;
use serde_json::{Value, json};
use tagpin_domain::digest::Digest;
use tagpin_domain::kind::Kind;
use tagpin_domain::workload::{Known, Labels};
use tagpin_kube::discovery::ServedKinds;
use tagpin_kube::reader::Reader;
use tagpin_kube::slim::Slim;
use tagpin_kube::store::Store;
use tagpin_kube::stored::Stored;
use tagpin_objects::kinds::Kinds;
use tokio::time::Instant;

pub mod scripted_api;

/// Returns a digest whose hexadecimal digits are all this one.
#[must_use]
pub fn digest(digit: char) -> Digest {
    format!("sha256:{}", String::from(digit).repeat(64)).parse().unwrap()
}

/// Returns an object as a watch reports it.
#[must_use]
pub fn object(kind: Kind, value: Value) -> Stored {
    let (kinds, slim) = (Kinds::default(), serde_json::from_str::<Slim>(&value.to_string()).unwrap());
    Stored::new(&kinds, kinds.row(kind).unwrap(), &slim).unwrap().unwrap()
}

/// Returns owner references with one controller.
#[must_use]
pub fn owned_by(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true }])
}

/// Returns the path at which the objects of a store are listed.
#[must_use]
pub fn path(store: Store) -> String {
    match store {
        Store::ClusterImagePolicies | Store::ImagePolicies => {
            format!("/apis/tagpin.dev/v1alpha1/{}", store.name())
        }
        Store::ControllerRevisions => "/apis/apps/v1/controllerrevisions".to_owned(),
        Store::Namespaces | Store::ServiceAccounts => format!("/api/v1/{}", store.name()),
        Store::Objects(row) if row.kind.group().is_empty() => format!("/api/v1/{}", row.resource),
        Store::Objects(row) => format!("/apis/{}/v1/{}", row.kind.group(), row.resource),
    }
}

/// An API server without objects: an object that no watch has reported does not exist.
pub struct NoObjects;

#[async_trait]
impl Reader for NoObjects {
    async fn object(&self, _: Kind, _: &str, _: &str, _: Instant) -> Option<Stored> {
        None
    }

    async fn namespace_labels(&self, _: &str, _: Instant) -> Option<Labels> {
        None
    }

    async fn pull_secrets(&self, _: &str, _: &str, _: Instant) -> Known<Option<Vec<String>>> {
        Known::Yes(None)
    }

    async fn served_kinds(&self, _: Instant) -> Option<ServedKinds> {
        None
    }
}
