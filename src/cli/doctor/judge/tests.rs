use std::collections::BTreeMap;

use crate::cli::doctor::findings::{
    Answers, Baseline, BehindSecrets, Certificate, Configuration, Counters, Crd, Deployment, Entry, Findings,
    Holder, Labelled, Policy, Ready, Replica, Validity,
};
use crate::cli::doctor::judge::{Row, Status, judge};
use baseline::{held, spec};
use serde_json::json;
use tagpin_domain::policy::{PolicyId, PolicyKind};
use tagpin_kube::policies::InForce;
use tagpin_kube::unreadable::{Named, Row as Unreadable};
use tagpin_registry::{LastAsked, UnusedCredential};

mod baseline;
mod policies;
mod refused;
mod registries;
mod unpinned;
mod unused;

const CA: &[u8] = b"authority";

fn entry(name: &str) -> Entry {
    let namespace = Some("tagpin-system".into());
    Entry { name: name.to_owned(), fails: false, ca: CA.to_vec(), added: vec![], namespace }
}

fn replica(name: &str) -> Replica {
    let in_force = InForce {
        kind: PolicyKind::ClusterImagePolicy,
        namespace: None,
        name: "baseline".into(),
        uid: "u".into(),
        generation: Some(3),
        error: None,
    };
    let answers = Answers {
        policies: vec![in_force],
        registries: vec![asked("docker.io", "2xx", 5)],
        counters: Counters { reviews: 7, ..Counters::default() },
        ..Answers::default()
    };
    Replica { name: name.to_owned(), answers: Ok(answers) }
}

fn asked(registry: &str, last: &str, seconds_ago: u64) -> LastAsked {
    let (registry, last) = (registry.to_owned(), Some(last.to_owned()));
    LastAsked { registry, last, seconds_ago: Some(seconds_ago), ..LastAsked::default() }
}

/// Returns the findings of an installation without a fault.
fn well() -> Findings {
    let validity = |until: &str| Validity {
        from: "2026-11-01T00:00:00Z".parse().unwrap(),
        until: until.parse().unwrap(),
    };
    Findings {
        now: "2026-11-25T12:00:00Z".parse().unwrap(),
        namespace: "tagpin-system".into(),
        crds: Ok(vec![Crd { name: "clusterimagepolicies.tagpin.dev".into(), established: true }]),
        mutating: Ok(Some(vec![entry("pin.tagpin.dev")])),
        validating: Ok(Some(vec![entry("validate.tagpin.dev")])),
        certificate: Ok(Some(Certificate {
            ca: CA.to_vec(),
            leaf: Some(validity("2026-12-25T00:00:00Z")),
            authority: Some(validity("2036-11-01T00:00:00Z")),
        })),
        lease: Ok(Some(Holder {
            identity: "tagpin-a_0123".into(),
            renewed: Some("2026-11-25T11:59:58Z".parse().unwrap()),
        })),
        denied: Ok(vec![]),
        deployment: Ok(Some(Deployment { wanted: 2, pull_secrets_off: false })),
        replicas: Ok(vec![replica("tagpin-a"), replica("tagpin-b")]),
        configuration: Ok(Some(Configuration { checked: Ok(vec![]), entries: vec![], unseen: vec![] })),
        policies: Ok(vec![Policy {
            id: PolicyId { namespace: None, name: "baseline".into() },
            uid: "u".into(),
            generation: 3,
            observed: Some(3),
            ready: Some(Ready { holds: true, reason: "Enforcing".into(), message: String::new() }),
            notes: vec![],
            unpinned: 0,
            without_digest: vec![],
            refused: vec![],
        }]),
        baseline: Ok(Baseline { wanted: Some(spec(json!({}))), held: Some(held(json!({}))) }),
        labelled: Ok(Labelled::default()),
        behind_secrets: Ok(vec![]),
    }
}

/// Changes a sound installation, and returns the only row of this check that has this status.
#[track_caller]
fn one(check: &str, status: Status, change: impl FnOnce(&mut Findings)) -> Row {
    let mut found = well();
    change(&mut found);
    let rows = judge(&found);
    for row in &rows {
        assert!(row.status != Status::Red || row.remedy.is_some(), "{row:?}");
    }
    let mut matching: Vec<_> =
        rows.iter().filter(|row| row.check == check && row.status == status).cloned().collect();
    assert_eq!(matching.len(), 1, "{check} {status:?} in {rows:#?}");
    matching.remove(0)
}

/// Changes a sound installation, and returns the fault and the remedy in the red row of this check.
#[track_caller]
fn red(check: &str, change: impl FnOnce(&mut Findings)) -> (String, String) {
    let row = one(check, Status::Red, change);
    (row.detail, row.remedy.unwrap())
}

#[track_caller]
fn says((detail, remedy): (String, String), fault: &str, what_to_do: &str) {
    assert!(detail.contains(fault), "{detail}");
    assert!(remedy.contains(what_to_do), "{remedy}");
}

fn replica_mut(found: &mut Findings) -> &mut Answers {
    found.replicas.as_mut().unwrap().first_mut().unwrap().answers.as_mut().unwrap()
}

fn policy_mut(found: &mut Findings) -> &mut Policy {
    found.policies.as_mut().unwrap().first_mut().unwrap()
}

fn not_ready(reason: &str) -> Option<Ready> {
    Some(Ready { holds: false, reason: reason.into(), message: "says why".into() })
}

#[test]
fn a_sound_installation_has_every_check_and_nothing_but_ok() {
    let rows = judge(&well());
    assert!(rows.iter().all(|row| row.status == Status::Ok), "{rows:#?}");
    let mut checks: Vec<_> = rows.iter().map(|row| row.check).collect();
    checks.dedup();
    let wanted = [
        "crds",
        "permissions",
        "replicas",
        "leader",
        "certificate",
        "webhooks",
        "release",
        "reached",
        "namespaces",
        "policies",
        "refused",
        "baseline",
        "unreadable",
        "configuration",
        "registries",
        "unpinned",
        "undone",
        "pull-secrets",
    ];
    assert_eq!(checks, wanted);
}

#[test]
fn what_was_not_found_out_is_unknown_with_its_cause() {
    let nothing = || "list pods: forbidden".to_owned();
    let found = Findings {
        crds: Err(nothing()),
        mutating: Err(nothing()),
        validating: Err(nothing()),
        certificate: Err(nothing()),
        lease: Err(nothing()),
        denied: Err(nothing()),
        deployment: Err(nothing()),
        replicas: Err(nothing()),
        configuration: Err(nothing()),
        policies: Err(nothing()),
        baseline: Err(nothing()),
        labelled: Err(nothing()),
        behind_secrets: Err(nothing()),
        ..well()
    };
    for row in judge(&found) {
        assert_eq!((row.status, row.detail.as_str()), (Status::Unknown, "list pods: forbidden"), "{row:?}");
    }
}

#[test]
fn a_definition_that_is_missing() {
    let change = |found: &mut Findings| {
        found.crds = Ok(vec![Crd { name: "imagepolicies.tagpin.dev".into(), established: false }]);
    };
    says(red("crds", change), "imagepolicies.tagpin.dev", "tagpin crds | kubectl apply");
}

#[test]
fn a_right_that_was_taken() {
    let change = |found: &mut Findings| found.denied = Ok(vec!["list pods".into()]);
    says(red("permissions", change), "may not list pods", "helm upgrade tagpin");
}

#[test]
fn nothing_is_installed_there() {
    says(red("replicas", |found| found.deployment = Ok(None)), "no Deployment", "--namespace");
}

#[test]
fn scaled_to_nothing() {
    let change = |found: &mut Findings| {
        found.deployment = Ok(Some(Deployment { wanted: 0, pull_secrets_off: false }));
        found.replicas = Ok(vec![]);
    };
    says(red("replicas", change), "scaled to 0", "--replicas=2");
}

#[test]
fn too_few_replicas_run() {
    let change = |found: &mut Findings| found.replicas = Ok(vec![replica("tagpin-a")]);
    says(red("replicas", change), "1 of 2", "describe");
}

fn stored(watch: &str, count: usize, namespace: Option<&str>, name: &str) -> Unreadable {
    let fault = "data.spec: expected a map".to_owned();
    let named = Named { namespace: namespace.map(str::to_owned), name: name.to_owned(), fault };
    Unreadable { watch: watch.to_owned(), count, named: vec![named] }
}

#[test]
fn an_object_of_somebody_that_cannot_be_read_is_named_and_nothing_is_broken() {
    let row = one("unreadable", Status::Note, |found| {
        replica_mut(found).unreadable = vec![stored("controllerrevisions", 3, Some("shop"), "web-1")];
    });
    assert!(row.detail.contains("cannot read 3 of them: shop/web-1 (data.spec: expected a map)"), "{row:?}");
    let look = "kubectl get controllerrevisions -n shop web-1 -o yaml --show-managed-fields";
    assert_eq!(row.remedy.as_deref(), Some(look));
}

#[test]
fn a_policy_that_cannot_be_read() {
    let change = |found: &mut Findings| {
        replica_mut(found).unreadable = vec![stored("clusterimagepolicies", 1, None, "baseline")];
    };
    says(red("unreadable", change), "baseline (", "kubectl get clusterimagepolicies.tagpin.dev baseline");
}

#[test]
fn a_replica_that_waits() {
    let change = |found: &mut Findings| replica_mut(found).waits = Some("waiting for pods".into());
    says(red("replicas", change), "tagpin-a is not ready: waiting for pods", "logs tagpin-a");
}

#[test]
fn a_replica_that_does_not_answer_is_unknown_and_does_not_count_as_behind() {
    let row = one("replicas", Status::Unknown, |found| {
        found.replicas.as_mut().unwrap().first_mut().unwrap().answers = Err("no answer in time".into());
    });
    assert!(row.detail.contains("tagpin-a: no answer in time"), "{row:?}");
}

#[test]
fn what_no_replica_tells_nobody_claims() {
    let row = one("registries", Status::Unknown, |found| {
        for replica in found.replicas.as_mut().unwrap() {
            replica.answers = Err("no answer in time".into());
        }
    });
    assert_eq!(row.detail, "no replica answered");
    one("pull-secrets", Status::Unknown, |found| found.deployment = Ok(None));
}

#[test]
fn nobody_leads() {
    for lease in [None, Some(Holder { identity: String::new(), renewed: None })] {
        says(red("leader", |found| found.lease = Ok(lease)), "nobody holds", "logs");
    }
}

#[test]
fn the_leader_does_not_run() {
    let change = |found: &mut Findings| {
        found.lease = Ok(Some(Holder { identity: "tagpin-gone_01".into(), renewed: None }));
    };
    says(red("leader", change), "tagpin-gone", "logs");
}

#[test]
fn the_leader_is_silent() {
    let change = |found: &mut Findings| {
        let renewed = Some("2026-11-25T11:58:59Z".parse().unwrap());
        found.lease = Ok(Some(Holder { identity: "tagpin-a_01".into(), renewed }));
    };
    says(red("leader", change), "has not renewed", "logs");
}

#[test]
fn a_certificate_that_is_missing_or_unreadable() {
    says(red("certificate", |found| found.certificate = Ok(None)), "does not exist", "logs");
    let unreadable = |found: &mut Findings| {
        found.certificate.as_mut().unwrap().as_mut().unwrap().leaf = None;
    };
    says(red("certificate", unreadable), "cannot be read", "delete secret tagpin-webhook-tls");
}

#[test]
fn a_certificate_out_of_its_dates() {
    let dates =
        [("2026-11-25T12:00:00Z", "has expired"), ("2026-11-25T12:59:59Z", "expires within the hour")];
    for (until, fault) in dates {
        let change = |found: &mut Findings| {
            let certificate = found.certificate.as_mut().unwrap().as_mut().unwrap();
            certificate.leaf.as_mut().unwrap().until = until.parse().unwrap();
        };
        says(red("certificate", change), fault, "delete secret tagpin-webhook-tls");
    }
    let authority = |found: &mut Findings| {
        let certificate = found.certificate.as_mut().unwrap().as_mut().unwrap();
        certificate.authority.as_mut().unwrap().from = "2026-11-26T00:00:00Z".parse().unwrap();
    };
    says(red("certificate", authority), "its authority is not valid before", "delete secret");
}

#[test]
fn a_configuration_that_is_gone() {
    says(red("webhooks", |found| found.mutating = Ok(None)), "zz-tagpin does not exist", "helm upgrade");
}

#[test]
fn a_configuration_without_our_entry() {
    let change = |found: &mut Findings| found.validating = Ok(Some(vec![]));
    says(red("webhooks", change), "tagpin has no entry validate.tagpin.dev", "logs");
}

#[test]
fn a_configuration_that_trusts_another_authority() {
    let change = |found: &mut Findings| {
        let other = Entry { ca: b"another".to_vec(), ..entry("pin.tagpin.dev") };
        found.mutating = Ok(Some(vec![other]));
    };
    says(red("webhooks", change), "another authority", "logs");
}

#[test]
fn the_api_server_does_not_reach_us() {
    let change = |found: &mut Findings| policy_mut(found).ready = not_ready("WebhookUnreachable");
    says(red("reached", change), "does not reach the webhook: says why", "endpointslices");
}

#[test]
fn webhooks_that_are_out_of_the_way() {
    let change = |found: &mut Findings| {
        policy_mut(found).ready = not_ready("WebhookUnreachable");
        found.validating = Ok(Some(vec![entry("canary.tagpin.dev")]));
    };
    says(red("webhooks", change), "once canaries arrive", "endpointslices");
}

#[test]
fn somebody_who_undoes_the_webhooks_is_named() {
    let change = |found: &mut Findings| policy_mut(found).ready = not_ready("Contested");
    says(red("webhooks", change), "says why", "ignoreDifferences");
}

#[test]
fn what_somebody_added_to_the_webhooks_is_worth_knowing() {
    let row = one("webhooks", Status::Note, |found| {
        let added = vec!["control-plane DoesNotExist".into()];
        found.validating = Ok(Some(vec![Entry { added, ..entry("validate.tagpin.dev") }]));
    });
    let words = "somebody added \"control-plane DoesNotExist\" to validate.tagpin.dev";
    assert!(row.detail.contains(words), "{row:?}");
    assert!(row.remedy.unwrap().contains("kubectl get validatingwebhookconfiguration tagpin"));
}

#[test]
fn what_came_back_after_break_glass() {
    let rearm = "kubectl -n tagpin-system annotate lease tagpin --overwrite tagpin.dev/rearm=u";
    let (detail, remedy) = red("webhooks", |found| {
        let message = format!("a configuration came back; to fill it again: {rearm}");
        let reason = "WebhooksNotInstalled".into();
        policy_mut(found).ready = Some(Ready { holds: false, reason, message });
        found.validating = Ok(Some(vec![]));
    });
    assert!(detail.contains("tagpin came back after break glass"), "{detail}");
    assert_eq!(remedy, rearm);
}

#[test]
fn without_a_review_yet_nobody_claims_that_we_are_reached() {
    let row = one("reached", Status::Note, |found| found.replicas = Ok(vec![]));
    assert!(row.detail.contains("no review has come yet"), "{row:?}");
}

#[test]
fn fail_closed_without_an_entry_that_fails() {
    let labelled = || Ok(Labelled { fail_closed: vec!["shop".into()], break_glass: vec![], idle: vec![] });
    says(red("namespaces", |found| found.labelled = labelled()), "in shop, but no entry", "logs");
    let one_replica = |found: &mut Findings| {
        found.labelled = labelled();
        found.deployment = Ok(Some(Deployment { wanted: 1, pull_secrets_off: false }));
    };
    says(red("namespaces", one_replica), "in shop, but no entry", "--set replicas=2");
    let row = one("namespaces", Status::Ok, |found| {
        found.labelled = labelled();
        let strict = Entry { fails: true, ..entry("validate-strict.tagpin.dev") };
        found.validating = Ok(Some(vec![entry("validate.tagpin.dev"), strict]));
    });
    assert_eq!(row.detail, "fail-closed: shop");
}

#[test]
fn broken_glass_is_named_with_what_ends_it() {
    let row = one("namespaces", Status::Note, |found| {
        found.labelled = Ok(Labelled { fail_closed: vec![], break_glass: vec!["shop".into()], idle: vec![] });
    });
    assert_eq!(row.remedy.unwrap(), "kubectl label namespace shop tagpin.dev/break-glass-");
}

#[test]
fn a_policy_that_is_not_ready_says_why_and_what_to_do() {
    let remedies = BTreeMap::from([
        ("Invalid", "kubectl edit clusterimagepolicies.tagpin.dev baseline"),
        ("TooMany", "delete imagepolicies.tagpin.dev"),
        ("Propagating", "rollout status"),
        ("WebhooksNotInstalled", "helm upgrade"),
        ("NamespaceExcluded", "excludedNamespaces"),
        ("WebhookUnreachable", "logs"),
        ("Contested", "logs"),
    ]);
    for (reason, remedy) in remedies {
        let change = |found: &mut Findings| policy_mut(found).ready = not_ready(reason);
        says(red("policies", change), &format!("baseline is not ready: {reason}: says why"), remedy);
    }
}

#[test]
fn a_policy_whose_status_is_old() {
    says(
        red("policies", |found| policy_mut(found).observed = Some(2)),
        "no status for its generation 3",
        "logs",
    );
    says(red("policies", |found| policy_mut(found).ready = None), "no status for its generation 3", "logs");
}

#[test]
fn a_policy_that_one_replica_does_not_have() {
    let change = |found: &mut Findings| replica_mut(found).policies.clear();
    says(red("policies", change), "generation 3 is not in force on tagpin-a", "delete pod tagpin-a");
}

#[test]
fn a_configuration_that_cannot_be_used() {
    let wrong = "/etc/tagpin/configuration/registries.yaml:3:3: registries[0].mirror: unknown key";
    let change = |found: &mut Findings| {
        found.configuration = Ok(Some(Configuration {
            checked: Err(wrong.into()),
            entries: vec![],
            unseen: vec!["/run".into()],
        }));
        replica_mut(found).counters.earlier_configuration = true;
    };
    let (detail, remedy) = red("configuration", change);
    assert!(detail.starts_with(wrong), "{detail}");
    says(
        (detail, remedy),
        "an earlier configuration of registries is in force on tagpin-a",
        "helm upgrade tagpin",
    );
}

#[test]
fn a_configuration_that_a_replica_alone_cannot_use() {
    let change = |found: &mut Findings| replica_mut(found).counters.earlier_configuration = true;
    says(red("configuration", change), "in force on tagpin-a", "logs");
    // An unreadable ConfigMap does not hide what a replica says.
    let unread = |found: &mut Findings| {
        change(found);
        found.configuration = Err("get the ConfigMap tagpin: forbidden".into());
    };
    says(red("configuration", unread), "in force on tagpin-a", "logs");
    one("configuration", Status::Unknown, unread);
}

#[test]
fn a_file_that_is_seen_by_the_pod_alone_is_no_mistake() {
    let row = one("configuration", Status::Unknown, |found| {
        let checked = Err("c.yaml:2:1: registries[0].tls.caFile: read /var/ca/a.pem: not found".into());
        found.configuration =
            Ok(Some(Configuration { checked, entries: vec![], unseen: vec!["/var/ca".into()] }));
    });
    assert!(row.detail.contains("the files in /var/ca cannot be read from outside"), "{row:?}");
}

#[test]
fn what_is_allowed_and_not_expected_is_a_note() {
    let row = one("configuration", Status::Note, |found| {
        let checked = Ok(vec!["registries[0]: the certificate of a.test is not verified".into()]);
        found.configuration = Ok(Some(Configuration { checked, entries: vec![], unseen: vec![] }));
    });
    assert!(row.detail.contains("is not verified"), "{row:?}");
}

#[test]
fn images_without_a_digest_are_counted_with_their_reasons() {
    let row = one("unpinned", Status::Note, |found| {
        policy_mut(found).unpinned = 4;
        let counters = &mut replica_mut(found).counters;
        counters.codes = vec![("RegistryUnavailable".into(), 3)];
        counters.foreign_owner = 5;
    });
    assert!(row.detail.contains("4 of clusterimagepolicy/baseline"), "{row:?}");
    assert!(row.detail.ends_with("ForeignOwner 5, RegistryUnavailable 3"), "{row:?}");
}

#[test]
fn what_pull_secrets_off_leaves_unpinned() {
    let row = one("pull-secrets", Status::Note, |found| {
        found.deployment = Ok(Some(Deployment { wanted: 2, pull_secrets_off: true }));
        found.behind_secrets = Ok(vec![
            BehindSecrets { namespace: "billing".into(), images: 2 },
            BehindSecrets { namespace: "shop".into(), images: 1 },
        ]);
    });
    assert!(row.detail.contains("3 images") && row.detail.contains("billing, shop"), "{row:?}");
    assert!(row.remedy.unwrap().ends_with("--set 'pullSecrets.namespaces={billing,shop}'"));
}
