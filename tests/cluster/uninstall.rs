//! Uninstalling tagpin, in each of the usual ways: no request is delayed, and nothing stays.

use crate::readme::{blocks, typed};
use crate::support::creator::{Created, Creator};
use crate::support::manifests::pod;
use crate::support::release::{CHART, Release, armed, helm, in_force};
use crate::support::replicas::ours;
use crate::support::{LIMIT, Namespace, alone, kubectl, kubectl_with, rig, wait_for};

/// Number of pods that a creator makes in a second.
const SECOND: usize = 10;

/// The kinds of which tagpin may have objects, without policies and Events: policies may stay, and Events expire.
struct Kinds {
    namespaced: String,
    wide: String,
}

impl Kinds {
    fn known() -> Self {
        let kinds = |namespaced: &str| {
            let all = ["api-resources", "--verbs=list", "--no-headers", "--output=name", namespaced];
            let all = kubectl(&all).succeeded();
            let other = |kind: &&str| !kind.starts_with("events") && !kind.ends_with(".tagpin.dev");
            all.lines().filter(other).collect::<Vec<_>>().join(",")
        };
        Self { namespaced: kinds("--namespaced=true"), wide: kinds("--namespaced=false") }
    }

    /// Returns all objects in the namespace of the release, except those that Kubernetes puts into every namespace, and
    /// all cluster-wide objects with tagpin in their name, except definitions.
    fn left(&self) -> Vec<String> {
        let get = |kinds: &str| {
            let all = ["--namespace=tagpin-system", "get", kinds, "--ignore-not-found", "--output=name"];
            kubectl(&all).succeeded().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut found = get(&self.namespaced);
        found.retain(|object| {
            !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(&object.as_str())
        });
        let mut wide = get(&self.wide);
        wide.retain(|object| {
            let (kind, name) = object.split_once('/').unwrap();
            let defines = kind.starts_with("customresourcedefinition") || kind.starts_with("apiservice");
            name.contains("tagpin") && !defines && object != "namespace/tagpin-system"
        });
        found.extend(wide);
        found
    }
}

/// Removes tagpin while pods are created in an ordinary namespace and in one that fails closed, waits until only
/// `stays` is left, and returns the outcomes of the pods.
fn away(take: impl FnOnce(), stays: &[&str]) -> [Created; 2] {
    let kinds = Kinds::known();
    away_until(take, || {
        let left = kinds.left();
        eprintln!("left: {left:?}");
        left == stays
    })
}

/// Removes tagpin while pods are created in an ordinary namespace and in one that fails closed, waits until it is gone,
/// and returns the outcomes of the pods.
fn away_until(take: impl FnOnce(), is_gone: impl Fn() -> bool) -> [Created; 2] {
    armed();
    let ordinary = Namespace::new("uninstall");
    let closed = Namespace::fail_closed("uninstall-closed");
    let creators = [Creator::start(&ordinary), Creator::dry(&closed)];
    creators[0].goes_on(SECOND);
    take();
    wait_for("the end of what is ours", LIMIT, || is_gone().then_some(()));
    creators[0].goes_on(2 * SECOND);
    // Nobody judges forbidden tags any more.
    ordinary.apply(&pod("latest", "web:latest")).succeeded();
    closed.apply(&pod("latest", "web:latest")).succeeded();
    creators.map(Creator::end)
}

/// Returns the names of the entries in both webhook configurations, which must exist.
fn called() -> String {
    let objects = ["validatingwebhookconfiguration/tagpin", "mutatingwebhookconfiguration/zz-tagpin"];
    let names = ["-o", "jsonpath={.items[*].webhooks[*].name}"];
    kubectl(&[&["get"], &objects[..], &names].concat()).succeeded()
}

#[track_caller]
fn nobody_was_held_up(created: &Created) {
    assert_eq!(created.failures, Vec::<String>::new(), "of {}", created.images.len());
    // Some pods were created while tagpin ran, and some afterwards.
    let pinned = created.pinned();
    assert!(pinned > 0 && pinned < created.images.len(), "{pinned} of {}", created.images.len());
}

#[test]
fn a_release_goes_without_a_trace_and_comes_back_to_the_policies_that_stayed() {
    if rig::here("uninstalls tagpin").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    let namespace = Namespace::without_policy("kept");
    namespace.policy("kept", "{ mode: Enforce, rules: { tags: { forbidden: [ \"1.4.1\" ] } } }");
    let created =
        away(|| drop(helm(&["uninstall", "tagpin", "--wait", "--timeout", "90s"]).succeeded()), &[]);
    created.iter().for_each(nobody_was_held_up);
    namespace.apply(&pod("free", "web:1.4.1")).succeeded();

    release.install(CHART, &[]);
    namespace.apply(&pod("judged", "web:1.4.1")).refused_with("TagForbidden");
    namespace.apply(&pod("good", "web:1.4.2")).succeeded();
}

#[test]
fn manifests_that_were_applied_are_deleted_as_they_came() {
    if rig::here("uninstalls tagpin").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    // Without Helm's records, the release is the same as after `helm template … | kubectl apply -f -`.
    ours(&["delete", "secrets", "--selector=owner=helm"]);
    let manifests = release.helm(&["template"], CHART, &[]).succeeded();
    kubectl_with(&["apply", "-f", "-"], &manifests).succeeded();
    in_force();
    // The two commands of README.md: that of break glass, and the deletion of the rest.
    let broken = "kubectl delete validatingwebhookconfiguration";
    let blocks = blocks::all(env!("CARGO_MANIFEST_DIR"));
    let break_glass = blocks.into_iter().find(|block| block.key == broken).unwrap();
    let take = || {
        typed(&break_glass.text).succeeded();
        kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], &manifests).succeeded();
    };
    let created = away(take, &[]);
    created.iter().for_each(nobody_was_held_up);
    // The manifests contain the definitions, so the policies are deleted too.
    assert!(!kubectl(&["get", "clusterimagepolicies.tagpin.dev"]).ok);
}

#[test]
fn a_namespace_that_is_deleted_takes_the_webhooks_along() {
    if rig::here("uninstalls tagpin").is_none() {
        return;
    }
    let _cluster = alone();
    let _release = Release::found();
    // These rights are useless without the service account.
    let inert = [
        "clusterrolebinding.rbac.authorization.k8s.io/tagpin",
        "clusterrole.rbac.authorization.k8s.io/tagpin",
    ];
    let created = away(|| drop(kubectl(&["delete", "namespace", "tagpin-system"]).succeeded()), &inert);
    created.iter().for_each(nobody_was_held_up);
}

#[test]
fn a_deployment_that_is_deleted_alone_leaves_nothing_that_is_called() {
    if rig::here("uninstalls tagpin").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    // GitOps tools delete an application in one of these ways, and may leave out objects with owners.
    for cascade in ["background", "foreground"] {
        let take = || {
            let cascade = format!("--cascade={cascade}");
            ours(&["delete", "deployment/tagpin", &cascade, "--timeout=90s"]);
        };
        let created = away_until(take, || {
            let (pods, called) = (ours(&["get", "pods", "-o", "name"]), called());
            eprintln!("{cascade}: {pods:?} {called:?}");
            pods.is_empty() && called.is_empty()
        });
        created.iter().for_each(nobody_was_held_up);
        release.install(CHART, &[]);
    }
}
