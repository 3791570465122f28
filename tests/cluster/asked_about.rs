//! The requests that the API server sends to tagpin's webhooks. The test installs a webhook with the same rules and
//! match conditions that fails closed and that nobody answers, so every request that it refuses would have been sent.

use serde_json::json;
use tagpin_objects::kinds::Kinds;
use tagpin_objects::match_conditions::{all_rules, match_conditions};

use crate::support::manifests::{cron_job, deployment, pod};
use crate::support::{Answer, LIMIT, Namespace, kubectl, kubectl_with, undisturbed, wait_for};

/// A webhook for one namespace that nobody answers; it is deleted when this is dropped.
struct Unanswered(String);

impl Unanswered {
    fn on(namespace: &Namespace) -> Self {
        let name = format!("unanswered-{}", namespace.name);
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": "unanswered.tagpin.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 1,
                "clientConfig": { "url": "https://127.0.0.1:1/validate" },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace.name } },
                "rules": all_rules(&Kinds::default()),
                "matchConditions": match_conditions(&Kinds::default()),
            }],
        });
        kubectl_with(&["create", "-f", "-"], &configuration.to_string()).succeeded();
        let webhook = Self(name);
        wait_for("the webhook in force", LIMIT, || {
            let probe = ["create", "deployment", "probe", "--image=web:1.4.2", "--dry-run=server"];
            asked(&namespace.kubectl(&probe)).then_some(())
        });
        webhook
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        kubectl(&["delete", "validatingwebhookconfiguration", &self.0, "--wait=false"]);
    }
}

fn asked(answer: &Answer) -> bool {
    answer.err.contains("failed calling webhook \"unanswered.tagpin.dev\"")
}

fn patch<'a>(what: &'a str, merge: &'a str) -> Vec<&'a str> {
    vec!["patch", what, "--type=merge", "-p", merge]
}

#[test]
fn templates_and_pods_that_change_are_asked_about_and_nothing_else_is() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("asked");
    let controller = "apiVersion: v1\nkind: ReplicationController\nmetadata: { name: rc }\nspec: { replicas: 0, \
                      selector: { app: rc }, template: { metadata: { labels: { app: rc } }, \
                      spec: { containers: [ { name: app, image: \"web:1.4.2\" } ] } } }\n";
    let template = "apiVersion: v1\nkind: PodTemplate\nmetadata: { name: pt }\ntemplate: { metadata: { labels: { app: pt } }, \
                    spec: { containers: [ { name: app, image: \"web:1.4.2\" } ] } }\n";
    let suspended = r#"{"spec":{"suspend":true}}"#;
    for document in [
        deployment("web", "web:1.4.2", 0),
        pod("bare", "web:1.4.2"),
        cron_job("cj", "web:1.4.2"),
        controller.to_owned(),
        template.to_owned(),
    ] {
        namespace.apply(&document).succeeded();
    }
    namespace.kubectl(&patch("cronjob/cj", suspended)).succeeded();
    namespace.apply(&deployment("going", "web:1.4.2", 0)).succeeded();
    let finalizer = r#"{"metadata":{"finalizers":["tagpin.dev/test"]}}"#;
    namespace.kubectl(&patch("deployment/going", finalizer)).succeeded();
    namespace.kubectl(&["delete", "deployment/going", "--wait=false"]).succeeded();
    let webhook = Unanswered::on(&namespace);

    for spared in [
        vec!["scale", "deployment/web", "--replicas=0"],
        vec!["label", "deployment/web", "team=a"],
        vec!["label", "pod/bare", "team=a"],
        vec!["label", "replicationcontroller/rc", "team=a"],
        vec!["label", "podtemplate/pt", "team=a"],
        patch("replicationcontroller/rc", r#"{"spec":{"minReadySeconds":3}}"#),
        patch("cronjob/cj", r#"{"spec":{"schedule":"0 0 1 1 *"}}"#),
        patch("pod/bare", finalizer),
        vec!["delete", "pod/bare", "--wait=false", "--grace-period=1"],
        patch("pod/bare", r#"{"metadata":{"finalizers":null}}"#),
    ] {
        namespace.kubectl(&spared).succeeded();
    }
    let ephemeral = r#"{"spec":{"ephemeralContainers":[{"name":"d","image":"web:1.4.2"}]}}"#;
    for about in [
        vec!["rollout", "restart", "deployment/web"],
        vec!["set", "image", "deployment/web", "app=web:1.4.3"],
        vec!["run", "another", "--image=web:1.4.2"],
        vec!["create", "job", "j", "--image=web:1.4.2"],
        patch("cronjob/cj", r#"{"spec":{"jobTemplate":{"metadata":{"labels":{"a":"b"}}}}}"#),
        patch("podtemplate/pt", r#"{"template":{"metadata":{"labels":{"a":"b"}}}}"#),
        patch("replicationcontroller/rc", r#"{"spec":{"template":{"metadata":{"labels":{"a":"b"}}}}}"#),
        vec!["set", "image", "deployment/going", "app=web:latest"],
    ] {
        let answer = namespace.kubectl(&about);
        assert!(asked(&answer), "{about:?}: {answer:?}");
    }
    namespace.kubectl(&patch("deployment/going", r#"{"metadata":{"finalizers":null}}"#)).succeeded();
    drop(webhook);
    namespace.apply(&pod("debugged", "web:1.4.2")).succeeded();
    let _webhook = Unanswered::on(&namespace);
    let answer =
        namespace.kubectl(&["patch", "pod/debugged", "--subresource=ephemeralcontainers", "-p", ephemeral]);
    assert!(asked(&answer), "{answer:?}");
}

#[test]
fn a_mirror_pod_is_spared_when_a_node_makes_it() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("mirror");
    let nodes =
        kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}"])
            .succeeded();
    let (node, uid) = nodes.split_once(' ').unwrap();
    let _webhook = Unanswered::on(&namespace);
    let mirror = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: mirror, annotations: {{ kubernetes.io/config.mirror: abc }}, \
         ownerReferences: [ {{ apiVersion: v1, kind: Node, name: {node}, uid: {uid}, controller: true }} ] }}\n\
         spec: {{ nodeName: {node}, containers: [ {{ name: app, image: \"web:1.4.2\" }} ] }}\n"
    );
    let create = ["create", "--dry-run=server", "-f", "-"];
    assert!(asked(&namespace.kubectl_with(&create, &mirror)));
    // The group of nodes alone is not enough. The other group lets the request reach the webhooks.
    let in_group = ["--as=someone", "--as-group=system:nodes", "--as-group=system:masters"];
    assert!(asked(&namespace.kubectl_with(&[&create[..], &in_group].concat(), &mirror)));
    let user = format!("--as=system:node:{node}");
    let as_node =
        [&create[..], &[&user, "--as-group=system:nodes", "--as-group=system:authenticated"]].concat();
    namespace.kubectl_with(&as_node, &mirror).succeeded();
}
