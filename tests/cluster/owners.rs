//! Owners of pods: bare pods and the pods of built-in controllers are pinned; the pods of a custom resource are only
//! judged.

use serde_json::Value;

use crate::support::manifests::pod;
use crate::support::{LIMIT, Namespace, image, kubectl_with, originals, undisturbed, wait_for};

const CRD: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: databases.test.tagpin.dev }
spec:
  group: test.tagpin.dev
  scope: Namespaced
  names: { plural: databases, singular: database, kind: Database }
  versions:
  - name: v1
    served: true
    storage: true
    schema: { openAPIV3Schema: { type: object } }
"#;

#[test]
fn a_pod_of_a_custom_resource_is_judged_and_not_pinned() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("custom");
    kubectl_with(&["apply", "-f", "-"], CRD).succeeded();
    let owner = wait_for("a Database", LIMIT, || {
        let answer =
            namespace.apply("apiVersion: test.tagpin.dev/v1\nkind: Database\nmetadata: { name: main }\n");
        answer.ok.then(|| namespace.get("databases.test.tagpin.dev", "main"))
    });
    let reference = format!(
        "[ {{ apiVersion: test.tagpin.dev/v1, kind: Database, name: main, uid: {}, controller: true }} ]",
        owner["metadata"]["uid"].as_str().unwrap()
    );
    let owned = |image: &str| {
        pod("main-1", image).replace("name: main-1,", &format!("name: main-1, ownerReferences: {reference},"))
    };
    // Only a service account makes pods of a custom resource.
    namespace.kubectl(&["create", "serviceaccount", "operator"]).succeeded();
    let account = format!("{}:operator", namespace.name);
    let bind = ["create", "rolebinding", "operator", "--clusterrole=admin"];
    namespace.kubectl(&[&bind[..], &[&format!("--serviceaccount={account}")]].concat()).succeeded();
    let user = format!("--as=system:serviceaccount:{account}");
    let accounts = format!("--as-group=system:serviceaccounts:{}", namespace.name);
    let create = ["create", "-f", "-", &user, &accounts];
    // The role binding counts once the API server has seen it.
    wait_for("the rights of the operator", LIMIT, || {
        let answer = namespace.kubectl_with(&create, &owned("web:latest"));
        assert!(!answer.ok, "{answer:?}");
        answer.err.contains("[TagForbidden]").then_some(())
    });
    namespace.kubectl_with(&create, &owned("web:1.4.2")).succeeded();
    let seen = namespace.get("pod", "main-1");
    assert_eq!(image(&seen), "web:1.4.2");
    assert_eq!(originals(&seen), Value::Null);

    // With `owners: Any`, the pods of custom resources are pinned too.
    namespace.policy("any", "{ mode: Enforce, pin: { targets: [ Pods ], owners: Any } }");
    namespace.kubectl_with(&create, &owned("web:1.4.2").replace("main-1", "main-2")).succeeded();
    let seen = namespace.get("pod", "main-2");
    assert!(image(&seen).starts_with("web:1.4.2@sha256:"), "{}", image(&seen));
}
