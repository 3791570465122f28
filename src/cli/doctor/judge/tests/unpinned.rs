//! The rows `unpinned` and `undone`.

use tagpin_objects::image_policy::Unpinned;

use super::{one, policy_mut};
use crate::cli::doctor::judge::Status;

fn bare(kind: &str, name: &str, reason: &str) -> Unpinned {
    let text = str::to_owned;
    let (namespace, slot, image) = (text("shop"), text("app"), format!("{name}:1.4.2"));
    Unpinned { namespace, kind: text(kind), name: text(name), slot, image, reason: text(reason) }
}

#[test]
fn images_without_a_digest_are_named_with_a_command_that_pins_them() {
    let row = one("unpinned", Status::Note, |found| {
        policy_mut(found).unpinned = 3;
        policy_mut(found).without_digest = vec![
            bare("Pod", "bare", "OlderThanPolicy"),
            bare("StatefulSet", "web", "OlderThanPolicy"),
            bare("Deployment", "api", "RegistryUnavailable"),
            bare("Pod", "database", "ForeignOwner"),
        ];
    });
    let named = ": shop/Deployment/api (app): api:1.4.2, RegistryUnavailable; shop/Pod/bare (app): bare:1.4.2, \
                 OlderThanPolicy; shop/StatefulSet/web (app): web:1.4.2, OlderThanPolicy; reasons";
    assert!(row.detail.contains(named), "{row:?}");
    assert!(row.remedy.unwrap().starts_with("kubectl -n shop rollout restart statefulset/web pins"));
}

#[test]
fn ten_images_are_named_and_the_others_are_counted() {
    let row = one("unpinned", Status::Note, |found| {
        policy_mut(found).unpinned = 12;
        let names = (0..12).map(|number| format!("web-{number:02}"));
        policy_mut(found).without_digest = names.map(|name| bare("Job", &name, "NotRemembered")).collect();
    });
    assert!(row.detail.contains("web-09:1.4.2, NotRemembered; and 2 more; reasons"), "{row:?}");
    assert!(row.remedy.unwrap().starts_with("kubectl rollout restart deployment/NAME pins"));
}

#[test]
fn annotations_without_room_for_a_pin_have_a_remedy_of_their_own() {
    let remedy = |reason: &str| {
        let row = one("unpinned", Status::Note, |found| {
            policy_mut(found).unpinned = 1;
            policy_mut(found).without_digest = vec![bare("Deployment", "web", reason)];
        });
        assert!(row.detail.contains(&format!("(app): web:1.4.2, {reason}; reasons")), "{row:?}");
        row.remedy.unwrap()
    };
    assert!(remedy("AnnotationsFull").contains("; for AnnotationsFull, shorten the annotations of the pod"));
    assert!(!remedy("RateLimited").contains("shorten"));
}

#[test]
fn pins_that_a_later_webhook_undid_are_named() {
    let row = one("undone", Status::Note, |found| {
        policy_mut(found).without_digest =
            vec![bare("Deployment", "web", "PinUndone"), bare("Deployment", "api", "RateLimited")];
    });
    assert!(row.detail.ends_with("removed the digest: shop/Deployment/web (app): web:1.4.2"), "{row:?}");
    assert!(row.remedy.unwrap().contains("zz-tagpin"));
}
