//! Policies as their authors see them: `kubectl explain`, refusals, the last good generation, counts in the status.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::manifests::{deployment, pod};
use crate::support::{LIMIT, Namespace, kubectl, ready, undisturbed, wait_for};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tagpin.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{ name: {name} }}\nspec: {spec}\n"
    )
}

#[test]
fn explain_teaches() {
    let _cluster = undisturbed();
    let text = kubectl(&["explain", "clusterimagepolicies.tagpin.dev.spec.rules.tags"]).succeeded();
    assert!(text.contains("forbidden") && text.contains("requireExplicit"), "{text}");
    let text = kubectl(&["explain", "ipol.spec.resolution.lastKnownMaxAge"]).succeeded();
    assert!(text.contains("168h"), "{text}");
}

/// An invalid policy of tests/cases/policies-invalid.yaml.
#[derive(Deserialize)]
struct Bad {
    kind: Option<String>,
    name: Option<String>,
    spec: Value,
    refused: Option<String>,
}

#[test]
fn what_the_schema_can_tell_is_refused_at_apply() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("invalid");
    let table: Vec<Bad> = serde_saphyr::from_str(include_str!("../cases/policies-invalid.yaml")).unwrap();
    for bad in table {
        let document = json!({
            "apiVersion": "tagpin.dev/v1alpha1",
            "kind": bad.kind.as_deref().unwrap_or("ClusterImagePolicy"),
            "metadata": { "name": bad.name.as_deref().unwrap_or("case") },
            "spec": bad.spec,
        });
        let answer =
            namespace.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &document.to_string());
        match bad.refused {
            Some(refused) => {
                let message = answer.refused();
                assert!(message.contains(&refused), "{document}: {message}");
            }
            // The API server accepts the policy; only the compiler finds the mistake.
            None => drop(answer.succeeded()),
        }
    }
    // An unknown field is refused.
    let strict = &["create", "--validate=strict", "-f", "-"];
    let message = namespace.kubectl_with(strict, &policy("unknown", "{ platforms: {} }")).refused();
    assert!(message.contains("unknown field"), "{message}");
}

#[test]
fn a_policy_that_does_not_compile_keeps_the_last_good_one_in_force() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("lastgood");
    namespace.policy("strict", "{ mode: Enforce, rules: { tags: { forbidden: [ latest ] } } }");
    namespace.apply(&pod("web", "web:latest")).refused_with("TagForbidden");
    namespace
        .apply(&policy("strict", "{ mode: Enforce, rules: { tags: { forbidden: [ \"[z-a]\" ] } } }"))
        .succeeded();
    let seen = wait_for("Ready=False", LIMIT, || {
        let seen = namespace.find("imagepolicies.tagpin.dev", "strict")?;
        let generation = seen["status"]["observedGeneration"] == seen["metadata"]["generation"];
        (generation && ready(&seen)?["status"] == "False").then_some(seen)
    });
    assert_eq!(ready(&seen).unwrap()["reason"], "Invalid");
    assert!(ready(&seen).unwrap()["message"].as_str().unwrap().contains("rules.tags.forbidden"));
    assert_eq!(seen["status"]["lastGood"]["spec"]["rules"]["tags"]["forbidden"][0], "latest");
    namespace.apply(&pod("web", "web:latest")).refused_with("TagForbidden");

    namespace.policy("strict", "{ mode: Enforce, rules: { tags: { forbidden: [ nightly ] } } }");
    namespace.apply(&pod("web", "web:latest")).succeeded();
    let seen = namespace.get("imagepolicies.tagpin.dev", "strict");
    assert_eq!(seen["status"].get("lastGood"), None);
}

#[test]
fn a_policy_that_cannot_work_is_refused_or_told_of() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("cannotwork");
    for (images, told) in [
        ("docker.io/Library/web", "write the name in lower case"),
        ("https://docker.io/*", "write the name without https://"),
        ("registry-1.docker.io/**", "all of Docker Hub is docker.io/**"),
    ] {
        let document = policy("wrong", &format!("{{ match: {{ images: [ \"{images}\" ] }} }}"));
        let message = namespace.apply(&document).refused();
        assert!(message.contains(told), "{images}: {message}");
    }
    // Only the compiler can tell that these match nothing.
    namespace
        .apply(&policy("wrong", "{ match: { images: [ \"{docker.io/Web,ghcr.io/Web}\" ] } }"))
        .succeeded();
    let told = |name: &str, part: &str| {
        wait_for(part, LIMIT, || {
            let seen = namespace.find("imagepolicies.tagpin.dev", name)?;
            let ready = ready(&seen)?;
            ready["message"].as_str()?.contains(part).then(|| ready["status"].clone())
        })
    };
    let status = told("wrong", "\"{docker.io/Web,ghcr.io/Web}\" matches nothing");
    assert_eq!(status, "True");
    let spec = "{ mode: Warn, resolution: { onUnavailable: Deny }, exceptions: [ \
                { name: old, reason: it was needed once, expires: \"2026-01-31T00:00:00Z\" } ] }";
    namespace.policy("soft", spec);
    let status = told("soft", "note: the exception old expired at 2026-01-31T00:00:00Z");
    assert_eq!(status, "True");
    wait_for("the counts", LIMIT, || {
        let seen = namespace.find("imagepolicies.tagpin.dev", "soft")?;
        (seen["status"]["summary"]["exceptionsExpired"] == 1).then_some(())
    });
    told("soft", "note: resolution.onUnavailable: Deny only warns, because the mode is Warn");
}

#[test]
fn the_table_shows_mode_readiness_and_what_is_wrong() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("table");
    namespace.apply(&deployment("web", "web:latest", 1)).succeeded();
    // The pod is older than the policy, so it was not pinned.
    namespace.pods_when("app=web", 1);
    namespace.policy("soft", "{ mode: Warn, pin: { targets: [ Pods ] } }");
    wait_for("the counts", LIMIT, || {
        let seen = namespace.find("imagepolicies.tagpin.dev", "soft")?;
        let summary: &Value = &seen["status"]["summary"];
        let right = summary["workloads"] == 1 && summary["unpinned"] == 1 && summary["violations"] == 1;
        let bare = &seen["status"]["unpinned"][0];
        let named = (bare["kind"].as_str()?, bare["name"].as_str()?, bare["image"].as_str()?);
        (right && named == ("Deployment", "web", "web:latest") && bare["reason"] == "OlderThanPolicy")
            .then_some(())
    });
    let table = namespace.kubectl(&["get", "ipol"]).succeeded();
    for word in ["MODE", "READY", "VIOLATIONS", "Warn", "True"] {
        assert!(table.contains(word), "{table}");
    }
    namespace.kubectl(&["rollout", "restart", "deployment/web"]).succeeded();
    wait_for("the pin in the counts", LIMIT, || {
        let seen = namespace.find("imagepolicies.tagpin.dev", "soft")?;
        let summary = &seen["status"]["summary"];
        (summary["pinned"] == 1 && summary["unpinned"] == 0).then_some(())
    });
}

#[test]
fn the_baseline_is_ready_and_enforces() {
    let _cluster = undisturbed();
    let out = kubectl(&["get", "clusterimagepolicies.tagpin.dev", "baseline", "-o", "json"]).succeeded();
    let baseline: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(ready(&baseline).unwrap()["status"], "True");
    assert_eq!(ready(&baseline).unwrap()["reason"], "Enforcing");
    assert_eq!(baseline["metadata"]["labels"]["app.kubernetes.io/managed-by"], "tagpin");
}

#[test]
fn a_quiet_policy_is_not_written() {
    let _cluster = crate::support::alone();
    let version = || {
        let path = "jsonpath={.metadata.resourceVersion}";
        kubectl(&["get", "clusterimagepolicies.tagpin.dev", "baseline", "-o", path]).succeeded()
    };
    // Waits until the status no longer changes, because the objects of other tests are still being deleted.
    let mut last = version();
    let mut since = std::time::Instant::now();
    wait_for("20 s without a write to a policy", LIMIT, || {
        let now = version();
        if now != last {
            (last, since) = (now, std::time::Instant::now());
        }
        (since.elapsed().as_secs() >= 20).then_some(())
    });
}
