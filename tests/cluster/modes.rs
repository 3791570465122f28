//! Enforce, Warn and Audit; exceptions and their expiry; applying an unchanged object.

use std::time::{Duration, SystemTime};

use crate::support::manifests::{deployment, pod};
use crate::support::{LIMIT, Namespace, image, undisturbed, wait_for};

#[test]
fn warn_lets_through_with_a_warning() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("warn");
    namespace.policy("soft", "{ mode: Warn }");
    let answer = namespace.apply(&deployment("web", "web:latest", 0));
    assert!(answer.err.contains("Warning:") && answer.err.contains("[TagForbidden]"), "{answer:?}");
    answer.succeeded();
}

#[test]
fn audit_lets_through_in_silence_and_the_status_counts_it() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("audit");
    namespace.policy("quiet", "{ mode: Audit }");
    let answer = namespace.apply(&deployment("web", "web:latest", 0));
    assert_eq!(answer.err, "");
    answer.succeeded();
    wait_for("the violation in the status", LIMIT, || {
        let policy = namespace.find("imagepolicies.tagpin.dev", "quiet")?;
        let summary = &policy["status"]["summary"];
        let top = &policy["status"]["topViolations"][0];
        (summary["violations"] == 1 && top["name"] == "web" && top["code"] == "TagForbidden").then_some(())
    });
}

#[test]
fn a_namespaced_policy_cannot_weaken_the_baseline() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("weaken");
    namespace.policy("quiet", "{ mode: Audit, rules: { tags: { forbidden: [] } } }");
    namespace.apply(&pod("web", "web:latest")).refused_with("TagForbidden");
}

fn in_seconds(seconds: u64) -> String {
    let at = SystemTime::now() + Duration::from_secs(seconds);
    jiff::Timestamp::try_from(at).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[test]
fn an_exception_waives_until_it_expires() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("exception");
    let spec = |seconds| {
        format!(
            "{{ mode: Enforce, exceptions: [ {{ name: legacy, reason: the vendor has no other tag, images: [ docker.io/library/web ], rules: [ tags ], expires: \"{}\" }} ] }}",
            in_seconds(seconds)
        )
    };
    namespace.policy("strict", &spec(3600));
    namespace.apply(&pod("covered", "web:latest")).succeeded();
    namespace.apply(&pod("other", "tool:latest")).refused_with("TagForbidden");
    namespace.policy("strict", &spec(10));
    let message = wait_for("the end of the exception", LIMIT, || {
        let answer =
            namespace.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &pod("late", "web:latest"));
        (!answer.ok).then(|| answer.refused_with("TagForbidden"))
    });
    assert!(message.contains("imagepolicy/"), "{message}");
}

#[test]
fn a_dry_run_answers_as_the_real_thing_and_writes_nothing() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("dry");
    let dry = &["apply", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image}", "-f", "-"];
    let out = namespace.kubectl_with(dry, &pod("web", "web:1.4.2")).succeeded();
    assert!(out.starts_with("web:1.4.2@sha256:"), "{out}");
    namespace.kubectl_with(dry, &pod("web", "web:latest")).refused_with("TagForbidden");
    assert!(namespace.find("pod", "web").is_none());
}

#[test]
fn a_server_side_diff_of_what_is_applied_shows_nothing() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("diff");
    let documents = [
        (pod("web", "web:1.4.2"), "pod/web", "condition=Ready"),
        (deployment("shop", "web:1.4.2", 1), "deployment/shop", "condition=Available"),
    ];
    for (document, object, settled) in documents {
        let apply = &["apply", "--server-side", "-f", "-"];
        namespace.kubectl_with(apply, &document).succeeded();
        // Waits until the kubelet and the controller have written the status.
        namespace.wait(object, settled);
        let diff = namespace
            .kubectl_with(&["diff", "--server-side", "--field-manager=kubectl", "-f", "-"], &document);
        assert!(diff.ok && diff.out.is_empty(), "{diff:?}");
    }
    assert!(image(&namespace.get("pod", "web")).contains("@sha256:"));
}
