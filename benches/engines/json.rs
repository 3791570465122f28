//! Compares the one-pass reader of `tagpin-json` with serde_json and sonic-rs, for reading an admission review.
//!
//! The webhook's own reader is private, so `json/ours.rs` reads the same fields of a pod in the same way. The crates
//! read them into derived structs. Derived code borrows strings through a newtype (`Option<Cow>` would allocate each
//! time), and refuses a struct's field that occurs twice. It lacks three things. It keeps an object either as raw text
//! or as a struct, so it reads the bytes of the object twice. It gives nothing back of a review whose object is broken,
//! where the webhook still answers with the UID. It does not check that a key of a map occurs only once.

mod found;
mod ours;
mod theirs;

use std::hint::black_box;

use serde_json::{Value, json};

use self::found::Found;
use crate::figures::goal;
use crate::race::{self, Contender, EARNED};

pub(crate) fn measure() {
    let small = serde_json::from_str(include_str!("../admission/review.json")).unwrap();
    let large = large(&small);
    for (what, review, times) in [("a small review", small, 2_000), ("a large review", large, 60)] {
        compare(what, review.to_string().as_bytes(), times);
    }
}

fn compare(what: &str, body: &[u8], times: u32) {
    let found = ours::read(body).found();
    assert!(!found.images.is_empty());
    assert_eq!(theirs::serde_json_raw(body).found(), found);
    assert_eq!(theirs::sonic_raw(body).found(), found);
    let in_place = Found { object_bytes: None, ..found };
    assert_eq!(theirs::serde_json_in_place(body).found(), in_place);
    assert_eq!(theirs::sonic_in_place(body).found(), in_place);
    let contenders = vec![
        Contender::new("tagpin-json", || drop(black_box(ours::read(black_box(body))))),
        Contender::new("serde_json, raw and struct", || {
            drop(black_box(theirs::serde_json_raw(black_box(body))));
        }),
        Contender::new("serde_json, struct alone", || {
            drop(black_box(theirs::serde_json_in_place(black_box(body))));
        }),
        Contender::new("sonic-rs, raw and struct", || drop(black_box(theirs::sonic_raw(black_box(body))))),
        Contender::new("sonic-rs, struct alone", || {
            drop(black_box(theirs::sonic_in_place(black_box(body))));
        }),
    ];
    println!("\n{what} ({} bytes, {} images) is read", body.len(), in_place.images.len());
    let times = race::run(times, contenders);
    for time in &times {
        println!("  {:<28} {:>9.2} µs  {:>5.2}", time.name, time.nanoseconds / 1e3, time.ratio);
    }
    // Only those that keep the raw object count, because the webhook needs it.
    let raw = times.iter().filter(|time| time.name.ends_with("raw and struct"));
    let best = raw.map(|time| time.ratio).fold(f64::INFINITY, f64::min);
    goal(
        format_args!("  the best crate that keeps the raw object takes {best:.2} of tagpin-json's time"),
        format_args!("more than {EARNED}"),
        best > EARNED,
    );
}

/// Returns the same review, whose pod has many containers, variables, labels and annotations: about 200 KB.
fn large(small: &Value) -> Value {
    let mut review = small.clone();
    let object = &mut review["request"]["object"];
    let numbered = |prefix: &str, count: usize| -> serde_json::Map<String, Value> {
        let pair = |n| (format!("{prefix}{n:04}"), format!("value number {n}").into());
        (0..count).map(pair).collect()
    };
    object["metadata"]["labels"] = numbered("example.com/label-", 150).into();
    object["metadata"]["annotations"] = numbered("example.com/annotation-", 150).into();
    let container = object["spec"]["containers"][0].clone();
    let containers = (0..32).map(|n| {
        let mut container = container.clone();
        container["name"] = format!("checkout-{n}").into();
        container["image"] = format!("registry.example.com/shop/checkout-{n}:1.29.{n}").into();
        let variable = |v| json!({ "name": format!("SETTING_{v}"), "value": format!("https://{v}.example.com/<a>?x=\"{n}\"") });
        container["env"] = (0..64).map(variable).collect();
        container
    });
    object["spec"]["containers"] = containers.collect();
    review
}
