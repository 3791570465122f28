//! The counts of a status, as a table of policies, objects and expected counts.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tagpin_domain::kind::Kind;
use tagpin_domain::policy::PolicyId;
use tagpin_domain::workload::{Known, Labels};
use tagpin_kube::Cluster;
use tagpin_kube::discovery::ServedKinds;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy};
use tagpin_kube::policies::Reported;
use tagpin_kube::reader::Reader;
use tagpin_kube::slim::Slim;
use tagpin_kube::stored::Stored;
use tagpin_leader::findings::Found;
use tagpin_leader::policy_status::standing::{Standing, count, next_expiry};
use tagpin_objects::image_policy::{Unpinned, Violation};
use tagpin_objects::kinds::{CRON_JOB, DEPLOYMENT, JOB, Kinds, POD, REPLICA_SET, STATEFUL_SET};
use tagpin_review::Surroundings as _;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A reader that fails the test if it is used, because a status is made from memory alone.
struct Nobody;

#[async_trait]
impl Reader for Nobody {
    async fn object(&self, _: Kind, _: &str, _: &str, _: tokio::time::Instant) -> Option<Stored> {
        panic!("a status is made from memory alone")
    }

    async fn namespace_labels(&self, _: &str, _: tokio::time::Instant) -> Option<Labels> {
        panic!("a status is made from memory alone")
    }

    async fn pull_secrets(&self, _: &str, _: &str, _: tokio::time::Instant) -> Known<Option<Vec<String>>> {
        panic!("a status is made from memory alone")
    }

    async fn served_kinds(&self, _: tokio::time::Instant) -> Option<ServedKinds> {
        panic!("a status is made from memory alone")
    }
}

/// One object: kind, name, owner's kind and name, image of container `app`, and more of the object.
pub(crate) type Thing<'a> = (Kind, &'a str, Option<(&'a str, &'a str)>, &'a str, Value);

/// Returns a cluster with this policy and these objects.
pub(crate) fn cluster(spec: Value, objects: &[Thing<'_>]) -> Cluster {
    let cluster = Cluster::new(Kinds::default(), Nobody);
    let created = "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap();
    let metadata = ObjectMeta {
        name: Some("base".into()),
        uid: Some("p".into()),
        creation_timestamp: Some(Time(created)),
        ..ObjectMeta::default()
    };
    cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata, spec, Value::Null));
    for (kind, name, owner, image, more) in objects {
        let object = object(*kind, name, *owner, image, more);
        match *kind {
            POD => cluster.pods.apply(object),
            _ => cluster.workloads.apply(object),
        }
    }
    cluster
}

pub(crate) fn object(
    kind: Kind,
    name: &str,
    owner: Option<(&str, &str)>,
    image: &str,
    more: &Value,
) -> Stored {
    let mut value = json!({ "metadata": { "name": name, "namespace": "shop", "uid": name } });
    if let Some((owner_kind, owner)) = owner {
        let group =
            Kinds::default().all().find(|kind| kind.name() == owner_kind).map_or("example.com", Kind::group);
        let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        value["metadata"]["ownerReferences"] = json!([{ "apiVersion": api_version, "kind": owner_kind, "name": owner, "uid": owner, "controller": true }]);
    }
    let kinds = Kinds::default();
    let mut level = &mut value;
    for part in kinds.row(kind).unwrap().pod_spec {
        level = &mut level[*part];
    }
    *level = json!({ "containers": [{ "name": "app", "image": image }] });
    merge(&mut value, more);
    let slim = serde_json::from_str::<Slim>(&value.to_string()).unwrap();
    Stored::new(&kinds, kinds.row(kind).unwrap(), &slim).unwrap().unwrap()
}

/// Merges JSON documents by RFC 7386, as far as the tests need it.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => {
            if !from.is_null() {
                *into = from.clone();
            }
        }
    }
}

async fn stand(cluster: &Cluster) -> Standing {
    stand_with(cluster, &Found::default()).await
}

async fn stand_with(cluster: &Cluster, found: &Found) -> Standing {
    let offline = |image: &tagpin_domain::image::ImageRef| image.domain() == "localhost";
    let excluded = BTreeSet::from(["kube-system".to_owned()]);
    let now = "2026-11-21T10:00:00Z".parse::<Timestamp>().unwrap();
    let all = count(cluster, &excluded, &offline, found, now).await;
    all.standings[&PolicyId { namespace: None, name: "base".into() }].clone()
}

fn counts(standing: &Standing) -> (u32, u32, u32, u32, u32) {
    let of = standing.summary;
    (of.workloads, of.pinned, of.unpinned, of.violations, of.exceptions_active)
}

/// Returns the image and the annotations of a pod that tagpin pinned.
fn pinned(original: &str) -> (String, Value) {
    let entries = json!({ "containers/app": original }).to_string();
    (
        format!("{original}@{DIGEST}"),
        json!({ "metadata": { "annotations": { "tagpin.dev/original": entries } } }),
    )
}

pub(crate) const NO: Value = Value::Null;

/// Each row has a policy, objects, the counts (workloads, pinned, unpinned, violations), and the violations
/// as kind/name/slot/code.
#[tokio::test]
async fn the_numbers_of_a_status() {
    let pins = || json!({ "pin": { "targets": ["Pods"] } });
    let (image, annotated) = pinned("web:1");
    let (latest, annotated_latest) = pinned("web:latest");
    let ended = || json!({ "status": { "phase": "Succeeded" } });
    let complete = || json!({ "status": { "conditions": [{ "type": "Complete", "status": "True" }] } });
    let set = Some(("Deployment", "web"));
    let of_set = Some(("ReplicaSet", "web-1"));
    type Row<'a> = (&'a str, Value, Vec<Thing<'a>>, (u32, u32, u32, u32), &'a [&'a str]);
    let rows: Vec<Row<'_>> = vec![
        ("nothing runs", pins(), vec![], (0, 0, 0, 0), &[]),
        (
            "a deployment, its replica set and two pods are one workload",
            pins(),
            vec![
                (DEPLOYMENT, "web", None, "web:1", NO),
                (REPLICA_SET, "web-1", set, "web:1", NO),
                (POD, "web-1-a", of_set, &image, annotated.clone()),
                (POD, "web-1-b", of_set, "web:1", NO),
            ],
            (1, 1, 1, 0),
            &[],
        ),
        (
            "one mistake of an author is one violation, however many pods carry it",
            json!({}),
            vec![
                (DEPLOYMENT, "web", None, "web:latest", NO),
                (REPLICA_SET, "web-1", set, "web:latest", NO),
                (POD, "web-1-a", of_set, "web:latest", NO),
                (POD, "web-1-b", of_set, "web:latest", NO),
            ],
            (1, 0, 0, 1),
            &["Deployment/web/app/TagForbidden"],
        ),
        (
            "a revision that no pod is of does not count",
            json!({}),
            vec![
                (DEPLOYMENT, "web", None, "web:2", NO),
                (REPLICA_SET, "web-1", set, "web:latest", NO),
                (REPLICA_SET, "web-2", set, "web:2", NO),
                (POD, "web-2-a", Some(("ReplicaSet", "web-2")), "web:2", NO),
            ],
            (1, 0, 0, 0),
            &[],
        ),
        (
            "what was forbidden stays so behind our pin",
            pins(),
            vec![(POD, "bare", None, &latest, annotated_latest)],
            (1, 1, 0, 1),
            &["Pod/bare/app/TagForbidden"],
        ),
        (
            "a sidecar that only pods have is a violation of their workload",
            pins(),
            vec![
                (DEPLOYMENT, "web", None, "web:1", NO),
                (REPLICA_SET, "web-1", set, "web:1", NO),
                (
                    POD,
                    "web-1-a",
                    of_set,
                    "web:1",
                    json!({ "spec": { "initContainers": [{ "name": "mesh", "image": "mesh" }] } }),
                ),
            ],
            (1, 0, 2, 1),
            &["Deployment/web/mesh/TagForbidden"],
        ),
        (
            "two levels up",
            json!({}),
            vec![
                (CRON_JOB, "nightly", None, "job:latest", NO),
                (JOB, "nightly-1", Some(("CronJob", "nightly")), "job:latest", NO),
                (POD, "nightly-1-a", Some(("Job", "nightly-1")), "job:latest", NO),
            ],
            (1, 0, 0, 1),
            &["CronJob/nightly/app/TagForbidden"],
        ),
        (
            "what has ended does not count",
            pins(),
            vec![
                (POD, "done", None, "web:latest", ended()),
                (JOB, "done", None, "web:latest", complete()),
                (JOB, "runs", None, "web:1", NO),
            ],
            (1, 0, 0, 0),
            &[],
        ),
        (
            "pods of a custom resource are judged, and are not wanted pinned",
            pins(),
            vec![(POD, "db-1", Some(("Cluster", "db")), "db:latest", NO)],
            (1, 0, 0, 1),
            &["Pod/db-1/app/TagForbidden"],
        ),
        (
            "unless the policy says so",
            json!({ "pin": { "targets": ["Pods"], "owners": "Any" } }),
            vec![(POD, "db-1", Some(("Cluster", "db")), "db:1", NO)],
            (1, 0, 1, 0),
            &[],
        ),
        (
            "images that are never asked about are not missing a pin",
            pins(),
            vec![
                (
                    POD,
                    "loaded",
                    None,
                    "web:1",
                    json!({ "spec": { "containers": [{ "name": "app", "image": "web:1", "imagePullPolicy": "Never" }] } }),
                ),
                (POD, "offline", None, "localhost/web:1", NO),
            ],
            (2, 0, 0, 0),
            &[],
        ),
        (
            "a digest that an author wrote is pinned too",
            pins(),
            vec![(
                POD,
                "bare",
                None,
                "web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                NO,
            )],
            (1, 1, 0, 0),
            &[],
        ),
        (
            "a policy that pins nothing misses no pin",
            json!({}),
            vec![(POD, "bare", None, "web:1", NO)],
            (1, 0, 0, 0),
            &[],
        ),
        (
            "kinds are those of the top",
            json!({ "match": { "kinds": [{ "group": "apps", "kind": "Deployment" }] } }),
            vec![
                (DEPLOYMENT, "web", None, "web:latest", NO),
                (REPLICA_SET, "web-1", set, "web:latest", NO),
                (POD, "web-1-a", of_set, "web:latest", NO),
                (STATEFUL_SET, "db", None, "db:latest", NO),
                (POD, "db-0", Some(("StatefulSet", "db")), "db:latest", NO),
            ],
            (1, 0, 0, 1),
            &["Deployment/web/app/TagForbidden"],
        ),
        (
            "an owner that is not known matches every kind",
            json!({ "match": { "kinds": [{ "group": "apps", "kind": "Deployment" }] } }),
            vec![(POD, "orphan", Some(("ReplicaSet", "gone")), "web:latest", NO)],
            (1, 0, 0, 1),
            &["Pod/orphan/app/TagForbidden"],
        ),
        (
            "labels are those of the template",
            json!({ "match": { "objectSelector": { "matchLabels": { "tier": "front" } } } }),
            vec![
                (
                    DEPLOYMENT,
                    "web",
                    None,
                    "web:latest",
                    json!({ "spec": { "template": { "metadata": { "labels": { "tier": "front" } } } } }),
                ),
                (
                    DEPLOYMENT,
                    "api",
                    None,
                    "api:latest",
                    json!({ "metadata": { "labels": { "tier": "front" } } }),
                ),
            ],
            (1, 0, 0, 1),
            &["Deployment/web/app/TagForbidden"],
        ),
        (
            "namespaces are selected by their labels, and the excluded ones never",
            json!({ "match": { "namespaceSelector": { "matchLabels": { "env": "prod" } } } }),
            vec![
                (DEPLOYMENT, "web", None, "web:latest", NO),
                (DEPLOYMENT, "prod", None, "web:latest", json!({ "metadata": { "namespace": "prod" } })),
                (
                    DEPLOYMENT,
                    "system",
                    None,
                    "web:latest",
                    json!({ "metadata": { "namespace": "kube-system" } }),
                ),
            ],
            (1, 0, 0, 1),
            &["Deployment/prod/app/TagForbidden"],
        ),
        (
            "an unreadable reference is a violation of every policy",
            json!({ "match": { "images": ["ghcr.io/**"] } }),
            vec![(DEPLOYMENT, "web", None, "Not A Reference", NO)],
            (1, 0, 0, 1),
            &["Deployment/web/app/ReferenceInvalid"],
        ),
        (
            "exceptions waive rules and pins",
            json!({
                "pin": { "targets": ["Pods"] },
                "exceptions": [
                    { "name": "tags", "reason": "until it is mended", "rules": ["tags"], "expires": "2027-01-01T00:00:00Z" },
                    { "name": "pin", "reason": "until it is mended", "rules": ["pin"], "expires": "2027-01-01T00:00:00Z" },
                    { "name": "old", "reason": "until it is mended", "rules": ["reference"], "expires": "2026-01-01T00:00:00Z" },
                ],
            }),
            vec![(POD, "bare", None, "web:latest", NO), (POD, "broken", None, "???", NO)],
            (2, 0, 0, 1),
            &["Pod/broken/app/ReferenceInvalid"],
        ),
        (
            "an exception for some users waives nothing of what runs",
            json!({ "exceptions": [
                { "name": "all", "reason": "until it is mended", "users": ["**"], "groups": ["**"], "expires": "2027-01-01T00:00:00Z" },
            ] }),
            vec![(POD, "bare", None, "web:latest", NO)],
            (1, 0, 0, 1),
            &["Pod/bare/app/TagForbidden"],
        ),
    ];
    for (what, spec, objects, expected, violations) in rows {
        let cluster = cluster(spec, &objects);
        for (name, env) in [("shop", "test"), ("prod", "prod"), ("kube-system", "prod")] {
            cluster.namespaces.apply(name.into(), [("env".to_owned(), env.to_owned())].into());
        }
        let standing = stand(&cluster).await;
        let (workloads, pinned, unpinned, found, _) = counts(&standing);
        assert_eq!((workloads, pinned, unpinned, found), expected, "{what}");
        let named = standing.top.iter().map(|v| format!("{}/{}/{}/{}", v.kind, v.name, v.slot, v.code));
        assert_eq!(named.collect::<Vec<_>>(), violations, "{what}");
    }
}

#[tokio::test]
async fn a_violation_has_the_image_of_the_author_and_the_exception_for_some_users() {
    let spec = json!({ "exceptions": [
        { "name": "ended", "reason": "until it is mended", "users": ["anna"], "expires": "2026-01-01T00:00:00Z" },
        { "name": "pins", "reason": "until it is mended", "users": ["anna"], "rules": ["pin"], "expires": "2027-01-01T00:00:00Z" },
        { "name": "apps", "reason": "until it is mended", "users": ["anna"], "images": ["docker.io/library/app"], "expires": "2027-01-01T00:00:00Z" },
    ] });
    let (image, annotations) = pinned("app:latest");
    let cluster = cluster(
        spec,
        &[
            (DEPLOYMENT, "web", None, "web:latest", NO),
            (POD, "web-1", Some(("Deployment", "web")), "old:latest", NO),
            (POD, "app", None, &image, annotations),
        ],
    );
    let top = stand(&cluster).await.top;
    let named = |v: &Violation| (v.name.clone(), v.image.clone(), v.exception.clone());
    let named: Vec<_> = top.iter().map(named).collect();
    let row = |name: &str, image: &str, exception: Option<&str>| {
        (name.to_owned(), image.to_owned(), exception.map(str::to_owned))
    };
    assert_eq!(named, [row("web", "web:latest", None), row("app", "app:latest", Some("apps"))]);
}

#[tokio::test]
async fn images_without_a_digest_are_named_with_the_reason() {
    let (image, annotations) = pinned("app:1");
    let at = |time: &str| json!({ "metadata": { "creationTimestamp": time } });
    let (before, after) = (at("2026-11-20T10:00:00Z"), at("2026-11-20T10:00:01Z"));
    let cluster = cluster(
        json!({ "pin": { "targets": ["Pods"] } }),
        &[
            (DEPLOYMENT, "web", None, "web:1", NO),
            (REPLICA_SET, "web-1", Some(("Deployment", "web")), "web:1", NO),
            (POD, "web-1-a", Some(("ReplicaSet", "web-1")), "web:1", before.clone()),
            (POD, "web-1-b", Some(("ReplicaSet", "web-1")), "web:1", before.clone()),
            (POD, "limited", None, "busy:1", before.clone()),
            (POD, "elsewhere", None, "other:1", after.clone()),
            (POD, "database", Some(("Cluster", "database")), "postgres:1", after.clone()),
            (POD, "pinned", None, &image, annotations),
            (POD, "preloaded", None, "localhost/web:1", before),
            (POD, "digest", None, &format!("web:1@{DIGEST}"), after),
        ],
    );
    let key = |slot: &str, image: &str| ["shop".to_owned(), slot.to_owned(), image.to_owned()];
    let unpinned = [
        (key("app", "busy:1"), "RateLimited".to_owned()),
        (key("else", "other:1"), "AccessDenied".to_owned()),
    ];
    let found = Found { unpinned: unpinned.into(), ..Found::default() };
    let standing = stand_with(&cluster, &found).await;
    assert_eq!((standing.summary.unpinned, standing.summary.foreign), (4, 1));
    let named = standing.without_digest.iter().map(|row| {
        let Unpinned { namespace, kind, name, slot, image, reason } = row;
        format!("{namespace}/{kind}/{name} ({slot}) {image} {reason}")
    });
    assert_eq!(
        named.collect::<Vec<_>>(),
        [
            "shop/Deployment/web (app) web:1 OlderThanPolicy",
            "shop/Pod/elsewhere (app) other:1 NotRemembered",
            "shop/Pod/limited (app) busy:1 RateLimited",
            "shop/Pod/database (app) postgres:1 ForeignOwner",
        ]
    );
    let any = json!({ "pin": { "targets": ["Pods"], "owners": "Any" } });
    let cluster = self::cluster(any, &[(POD, "database", Some(("Cluster", "database")), "postgres:1", NO)]);
    let standing = stand(&cluster).await;
    assert_eq!((standing.summary.unpinned, standing.summary.foreign), (1, 0));
}

#[tokio::test]
async fn active_exceptions_are_counted_and_the_next_expiry_is_known() {
    let exception = |name: &str, expires: &str| json!({ "name": name, "reason": "until it is mended", "expires": expires });
    let spec = json!({ "exceptions": [
        exception("a", "2026-11-21T09:59:59Z"),
        exception("b", "2026-11-21T10:00:01Z"),
        exception("c", "2027-01-01T00:00:00Z"),
    ] });
    let cluster = cluster(spec, &[]);
    assert_eq!((counts(&stand(&cluster).await).4, stand(&cluster).await.summary.exceptions_expired), (2, 1));
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let next = |now: &str| next_expiry(&cluster.policies(), at(now));
    assert_eq!(next("2026-11-21T10:00:00Z"), Some(at("2026-11-21T10:00:01Z")));
    assert_eq!(next("2026-11-21T10:00:01Z"), Some(at("2027-01-01T00:00:00Z")));
    assert_eq!(next("2027-01-01T00:00:00Z"), None);
}

#[tokio::test]
async fn twenty_violations_are_named_and_all_are_counted() {
    let names: Vec<String> = (0..30).map(|number| format!("web-{number:02}")).collect();
    let objects: Vec<_> =
        names.iter().map(|name| (DEPLOYMENT, name.as_str(), None, "web:latest", NO)).collect();
    let standing = stand(&cluster(json!({}), &objects)).await;
    assert_eq!((standing.summary.violations, standing.top.len()), (30, 20));
    assert_eq!((standing.top[0].name.as_str(), standing.top[19].name.as_str()), ("web-00", "web-19"));
}

#[tokio::test]
async fn one_namespace_leaves_rows_to_the_others() {
    let names: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    let within = |namespace: &str| json!({ "metadata": { "namespace": namespace } });
    let many = names.iter().map(|name| (POD, name.as_str(), None, "web:latest", within("aaa")));
    let of_others = [
        (POD, "one", None, "web:latest", within("bbb")),
        (POD, "database", Some(("Cluster", "database")), "postgres:latest", within("ccc")),
    ];
    // The order in which objects are found does not matter, or a status would be written anew without a change.
    let many: Vec<_> = many.chain(of_others).collect();
    let turned: Vec<_> = many.iter().rev().cloned().collect();
    let pins = json!({ "pin": { "targets": ["Pods"] } });
    let standing = stand(&cluster(pins.clone(), &many)).await;
    assert_eq!(stand(&cluster(pins, &turned)).await, standing);
    let mut expected = names[..18].to_vec();
    expected.extend(["one", "database"].map(str::to_owned));
    let named = standing.top.iter().map(|row| row.name.clone());
    assert_eq!(named.collect::<Vec<_>>(), expected);
    let named = standing.without_digest.iter().map(|row| row.name.clone());
    assert_eq!(named.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_namespaced_policy_counts_its_own_namespace() {
    let cluster = cluster(json!({}), &[(DEPLOYMENT, "web", None, "web:latest", NO)]);
    for namespace in ["shop", "other"] {
        let metadata = ObjectMeta {
            name: Some("mine".into()),
            namespace: Some(namespace.into()),
            uid: Some(namespace.into()),
            ..ObjectMeta::default()
        };
        cluster.policies.apply(Reported::parse::<ImagePolicy>(&metadata, json!({}), Value::Null));
    }
    let (excluded, found) = (BTreeSet::new(), Found::default());
    let all = count(&cluster, &excluded, &|_| false, &found, Timestamp::UNIX_EPOCH).await.standings;
    let of = |namespace: &str| {
        all[&PolicyId { namespace: Some(namespace.into()), name: "mine".into() }].summary.violations
    };
    assert_eq!((of("shop"), of("other")), (1, 0));
}

/// Returns an exception for many globs that are slow to match.
fn slow(name: &str, globs: usize) -> Value {
    let images: Vec<String> =
        (0..globs).map(|n| format!("docker.io/library/{}{n}", "*a".repeat(110))).collect();
    json!({ "name": name, "reason": "a test", "expires": "2027-01-01T00:00:00Z", "images": images })
}

#[tokio::test]
async fn an_object_that_policies_cannot_be_compared_with_violates_them_and_no_others() {
    let image = format!("{}:latest", "a".repeat(200));
    let cluster =
        cluster(json!({}), &[(DEPLOYMENT, "web", None, &image, NO), (POD, "bare", None, &image, NO)]);
    for name in ["slow", "quick"] {
        let exceptions: Vec<Value> =
            if name == "slow" { (0..64).map(|n| slow(&format!("e{n}"), 16)).collect() } else { Vec::new() };
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("shop".into()),
            uid: Some(name.into()),
            ..ObjectMeta::default()
        };
        let spec = json!({ "exceptions": exceptions });
        cluster.policies.apply(Reported::parse::<ImagePolicy>(&metadata, spec, Value::Null));
    }
    let all = count(&cluster, &BTreeSet::new(), &|_| false, &Found::default(), Timestamp::UNIX_EPOCH)
        .await
        .standings;
    let of = |namespace: Option<&str>, name: &str| {
        let id = PolicyId { namespace: namespace.map(str::to_owned), name: name.into() };
        let Standing { summary, top, .. } = &all[&id];
        let found =
            |violation: &Violation| format!("{} {} {}", violation.name, violation.slot, violation.code);
        (summary.workloads, top.iter().map(found).collect::<Vec<_>>())
    };
    let unreadable = || vec!["web  ReviewUnreadable".to_owned(), "bare  ReviewUnreadable".to_owned()];
    assert_eq!(of(Some("shop"), "slow"), (2, unreadable()));
    assert_eq!(of(Some("shop"), "quick"), (2, unreadable()));
    let forbidden = vec!["web app TagForbidden".to_owned(), "bare app TagForbidden".to_owned()];
    assert_eq!(of(None, "base"), (2, forbidden));
}

#[tokio::test]
async fn a_count_of_a_large_cluster_leaves_the_processor_to_others() {
    let names: Vec<String> = (0..200).map(|n| format!("web-{n}")).collect();
    let objects: Vec<Thing<'_>> =
        names.iter().map(|name| (DEPLOYMENT, name.as_str(), None, "web:1", NO)).collect();
    let cluster = cluster(json!({}), &objects);
    let (none, found) = (BTreeSet::new(), Found::default());
    let mut counting = std::pin::pin!(count(&cluster, &none, &|_| false, &found, Timestamp::UNIX_EPOCH));
    let mut left = 0;
    while futures::poll!(&mut counting).is_pending() {
        left += 1;
    }
    assert!(left >= 3, "{left}");
}

#[tokio::test]
async fn a_namespace_that_nobody_knows_counts_for_every_policy_that_may_select_it() {
    let selector = |key: &str, value: &str| json!({ "match": { "namespaceSelector": { "matchLabels": { key: value } } } });
    for (key, value, workloads) in [
        ("env", "prod", 1),
        ("kubernetes.io/metadata.name", "shop", 1),
        ("kubernetes.io/metadata.name", "other", 0),
    ] {
        let cluster = cluster(selector(key, value), &[(DEPLOYMENT, "web", None, "web:latest", NO)]);
        assert_eq!(stand(&cluster).await.summary.workloads, workloads, "{key}: {value}");
        cluster.namespaces.apply("shop".to_owned(), [("env".to_owned(), "test".to_owned())].into());
        assert_eq!(stand(&cluster).await.summary.workloads, 0, "{key}: {value}");
    }
}
