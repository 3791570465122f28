//! What a replica knows, from events as watches report them: complete, doubled, late and out of order.

mod by_name;
mod marks;
mod owners;
mod pods;
mod policies;
mod replica;
mod unreadable;
mod watch;

use serde_json::{Value, json};
use tagpin_domain::digest::Digest;
use tagpin_domain::kind::Kind;
use tagpin_kube::slim::Slim;
use tagpin_kube::stored::Stored;
use tagpin_objects::kinds::Kinds;

/// A digest whose hexadecimal digits are all this one.
pub(crate) fn digest(digit: char) -> Digest {
    format!("sha256:{}", String::from(digit).repeat(64)).parse().unwrap()
}

/// An object as a watch reports it.
pub(crate) fn object(kind: Kind, value: Value) -> Stored {
    let (kinds, slim) = (Kinds::default(), serde_json::from_str::<Slim>(&value.to_string()).unwrap());
    Stored::new(&kinds, kinds.row(kind).unwrap(), &slim).unwrap().unwrap()
}

/// A controller reference.
pub(crate) fn owned_by(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true }])
}
