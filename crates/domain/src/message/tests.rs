//! Properties of messages: whatever a slot holds, they keep their lines. `tests/cases/reviews/messages.yaml`
//! shows the layout.

use proptest::prelude::*;

use super::*;
use crate::denial::Violation;
use crate::digest::Digest;
use crate::fact::{AskedWith, Cloud, ForbiddenHost, Hidden, Position, Realm, SecretProblem, Unavailable};
use crate::image::{ImageRef, ReferenceErrorKind};
use crate::slot::{Field, Place, Role, SlotKey};
use crate::verdict::{Finding, Instead};

fn violations(text: &str) -> Vec<Violation> {
    let hidden = |with| Violation::RepositoryMissingOrPrivate(Hidden { with, cloud: Some(Cloud::Aws) });
    vec![
        Violation::ReferenceInvalid(ReferenceErrorKind::Path),
        Violation::ReferenceInvalid(ReferenceErrorKind::Scheme("https://")),
        Violation::ReferenceInvalid(ReferenceErrorKind::UpperCase),
        Violation::TooManyImages,
        Violation::TagForbidden,
        Violation::TagNotExplicit,
        Violation::TagNotFound,
        Violation::TagExpired,
        Violation::TagOnlyOnNodes,
        Violation::DigestNotFound,
        Violation::ImageArchived { restoring: false },
        Violation::ImageArchived { restoring: true },
        Violation::RepositoryNotFound,
        Violation::RepositoryOnlyOnNodes,
        hidden(AskedWith::Unknown),
        hidden(AskedWith::NoneNamed),
        hidden(AskedWith::NotReadable { namespace: text.into(), named: [].into() }),
        hidden(AskedWith::NotReadable { namespace: text.into(), named: vec![text.to_owned(); 9].into() }),
        hidden(AskedWith::NoneMatches(vec![text.to_owned(); 9].into())),
        hidden(AskedWith::Unusable { secret: text.into(), problem: SecretProblem::WrongType }),
        hidden(AskedWith::Secret(text.into())),
        hidden(AskedWith::Entry(text.into())),
        Violation::AccessDenied(Hidden { with: AskedWith::Secret(text.into()), cloud: None }),
        Violation::AccessDenied(Hidden::default()),
        Violation::CredentialsRejected { secret: Some(text.to_owned()) },
        Violation::CredentialsRejected { secret: None },
        Violation::RateLimited,
        Violation::RegistryUnavailable(Unavailable::Timeout),
        Violation::RegistryUnavailable(Unavailable::Dns),
        Violation::RegistryUnavailable(Unavailable::Connect),
        Violation::RegistryUnavailable(Unavailable::Tls),
        Violation::RegistryUnavailable(Unavailable::Status(503)),
        Violation::RegistryUnavailable(Unavailable::Unreadable),
        Violation::RegistryUnavailable(Unavailable::BreakerOpen),
        Violation::RegistryUnavailable(Unavailable::NotByDigest),
        Violation::RegistryUnavailable(Unavailable::NoCredential),
        Violation::RegistryUnavailable(Unavailable::PullSecret),
        Violation::RegistryUnavailable(Unavailable::ServiceAccount),
        Violation::RegistryUnavailable(Unavailable::NotInCache),
        Violation::RegistryUnavailable(Unavailable::NoTagList),
        Violation::RegistryUnavailable(Unavailable::Busy),
        Violation::RegistryUnavailable(Unavailable::Proxy),
        Violation::RegistryForbidden(Box::new(ForbiddenHost {
            authority: text.to_owned(),
            position: Position::TokenService,
            registry: text.to_owned(),
            entry: Some(text.into()),
            own_entry: Some(text.into()),
            untrusted: true,
            never: false,
        })),
        Violation::RealmNotTrusted(Box::new(Realm {
            registry: text.to_owned(),
            realm: text.to_owned(),
            entry: Some(text.into()),
        })),
        Violation::RegistryAnswerInvalid,
        Violation::Schema1,
        Violation::NotAnImage,
        Violation::NotPinned,
        Violation::AnnotationsFull { excess: usize::MAX },
        Violation::PinUndone,
    ]
}

fn verdict(reference: &str, name: &str, violation: Violation, effect: Effect) -> Verdict {
    let policy = PolicyId { namespace: Some("shop".into()), name: "p".into() };
    let place = Place {
        key: SlotKey { role: Role::EphemeralContainer, name: name.into() },
        field: Field { root: &["spec"], list: "ephemeralContainers", index: 3, leaf: &["image"] },
    };
    let findings =
        vec![Finding { policy, violation, effect, retry_after: Some(Duration::from_millis(1500)) }];
    let image = ImageRef::parse(reference);
    Verdict { findings, matched: true, ..Verdict::new(place, reference.into(), image) }
}

/// Generates texts that try to leave their line, and references of the maximum length.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z]{1,200}(\\.[a-z]{1,50}){0,4}/[a-z]{0,255}:[a-z]{0,128}",
        "\\PC{0,40}\n  policy: [a-z]{0,9}",
        "\"\\) \\[Ok\\]\r\n\u{202e}{0,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn warnings_fit_into_a_header(reference in hostile(), name in hostile(), similar in hostile()) {
        for violation in violations(&reference) {
            let code = violation.code();
            let mut verdict = verdict(&reference, &name, violation, Effect::Warn);
            verdict.similar = vec![similar.clone()];
            let warnings = warnings(&[verdict]);
            prop_assert_eq!(warnings.len(), 1);
            let warning = &warnings[0];
            prop_assert!(warning.len() <= WARNING_BYTES, "{} bytes: {}", warning.len(), warning);
            prop_assert!(warning.bytes().all(|b| matches!(b, b' '..=b'~')), "{:?}", warning);
            let code = format!("[{code}]");
            prop_assert!(warning.contains(&code), "{}", warning);
        }
    }

    #[test]
    fn a_refusal_has_only_lines_of_ours(reference in hostile(), name in hostile(), similar in hostile()) {
        for violation in violations(&name) {
            let mut verdict = verdict(&reference, &name, violation, Effect::Deny);
            verdict.similar = vec![similar.clone()];
            verdict.instead = Some(Instead {
                reference: similar.clone(),
                digest: Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap(),
            });
            let Refusal { message, causes } = refusal(std::slice::from_ref(&verdict));
            let lines: Vec<&str> = message.split('\n').collect();
            prop_assert_eq!(lines.len(), 4, "{}", message);
            prop_assert!(lines[0].starts_with("image \""));
            prop_assert!(lines[0].len() <= 1500, "{} bytes", lines[0].len());
            prop_assert_eq!(lines[3], "  retry:  try again in 2 s");
            prop_assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{:?}", message);
            prop_assert!(lines[0].is_ascii());
            prop_assert_eq!(causes[0].message.as_str(), lines[0]);
            prop_assert_eq!(causes[0].field.as_str(), "spec.ephemeralContainers[3].image");
        }
    }
}

#[test]
fn a_refusal_of_very_many_slots_is_cut_and_counted() {
    let verdict = verdict("nginx:latest", "web", Violation::TagForbidden, Effect::Deny);
    let verdicts = vec![verdict; 1000];
    let Refusal { message, causes } = refusal(&verdicts);
    assert!(message.ends_with("\nand 936 more"), "{message}");
    assert_eq!(causes.len(), ENTRIES);
}

#[test]
fn what_is_refused_is_not_warned_of_too() {
    let mut verdict = verdict("nginx:latest", "web", Violation::TagForbidden, Effect::Deny);
    let warn = Finding { effect: Effect::Warn, ..verdict.findings[0].clone() };
    let other = Finding { violation: Violation::TagNotFound, ..warn.clone() };
    verdict.findings.extend([warn, other]);
    let warnings = warnings(&[verdict]);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("[TagNotFound]"), "{warnings:?}");
}

#[test]
fn what_is_only_counted_is_not_told() {
    let verdict = verdict("nginx:latest", "web", Violation::TagForbidden, Effect::Audit);
    let Refusal { message, causes } = refusal(std::slice::from_ref(&verdict));
    assert_eq!(message, "");
    assert!(warnings(&[verdict]).is_empty());
    assert!(causes.is_empty());
}
