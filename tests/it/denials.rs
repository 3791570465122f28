//! The messages in `docs/denials.md` are the messages that tagpin gives.

use std::fs;
use std::time::Duration;

use tagpin_domain::denial::{Code, Violation};
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{AskedWith, ForbiddenHost, Hidden, Position, Unavailable};
use tagpin_domain::image::{ImageRef, ReferenceErrorKind};
use tagpin_domain::message;
use tagpin_domain::policy::PolicyId;
use tagpin_domain::slot::Role;
use tagpin_domain::unreadable::Unreadable;
use tagpin_domain::verdict::{Effect, Finding, Instead, Verdict};
use tagpin_objects::kinds::{POD, PODS};

/// An image in Amazon ECR.
const ECR_IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/acme/api:1.4.7";

/// Returns the refusals that the document shows: one for each code about a slot.
fn examples() -> Vec<Verdict> {
    let digest = || format!("sha256:{:0<64}", "3f5c0a1b2c3d").parse::<Digest>().unwrap();
    let similar = ["1.4.6", "1.4.8", "v1.4.7"].map(String::from).into();
    let secret = Some("regcred".to_owned());
    let later = |after| Some(Duration::from_secs(after));
    vec![
        refused("nginx:1.29:3", Violation::ReferenceInvalid(ReferenceErrorKind::TwoColons)),
        refused("nginx:1.29.3", Violation::TooManyImages),
        Verdict {
            instead: Some(Instead { reference: "nginx:1.29.3".into(), digest: digest() }),
            ..refused("nginx:latest", Violation::TagForbidden)
        },
        refused("nginx", Violation::TagNotExplicit),
        Verdict { similar, ..refused("acme/api:1.4.7", Violation::TagNotFound) },
        refused(&format!("acme/api@{}", digest()), Violation::DigestNotFound),
        refused(ECR_IMAGE, Violation::ImageArchived { restoring: false }),
        refused("quay.io/acme/apii:1.4.7", Violation::RepositoryNotFound),
        refused("acme/billing:2.0", Violation::RepositoryMissingOrPrivate(asked(AskedWith::NoneNamed))),
        refused(
            "registry.example.com/acme/billing:2.0",
            Violation::AccessDenied(asked(AskedWith::Secret("regcred".into()))),
        ),
        refused("registry.example.com/acme/billing:2.0", Violation::CredentialsRejected { secret }),
        retry(later(42), refused("acme/api:1.4.8", Violation::RateLimited)),
        retry(
            later(30),
            refused(
                "registry.example.com/acme/api:1.4.8",
                Violation::RegistryUnavailable(Unavailable::Timeout),
            ),
        ),
        refused(
            "10.0.0.7:5000/acme/api:1.4.8",
            Violation::RegistryForbidden(Box::new(ForbiddenHost {
                authority: "10.0.0.7:5000".into(),
                position: Position::Registry,
                registry: "10.0.0.7:5000".into(),
                entry: None,
                own_entry: None,
                untrusted: false,
                never: false,
            })),
        ),
        refused("registry.example.com/acme/api:1.4.8", Violation::RegistryAnswerInvalid),
        refused("registry.example.com/charts/web:1.0.0", Violation::NotAnImage),
        retry(later(1), refused("nginx:1.29.3", Violation::NotPinned)),
        refused("nginx:1.29.3", Violation::AnnotationsFull { excess: 1300 }),
        with(Effect::Warn, refused("nginx:1.29.3", Violation::PinUndone)),
    ]
}

fn refused(reference: &str, violation: Violation) -> Verdict {
    let policy = PolicyId { namespace: None, name: "baseline".into() };
    let (place, image) = (PODS.place(Role::Container, "web", 0), ImageRef::parse(reference));
    let findings = vec![Finding { policy, violation, effect: Effect::Deny, retry_after: None }];
    Verdict { findings, matched: true, ..Verdict::new(place, reference.into(), image) }
}

fn asked(with: AskedWith) -> Hidden {
    Hidden { with, cloud: None }
}

fn retry(retry_after: Option<Duration>, mut verdict: Verdict) -> Verdict {
    verdict.findings[0].retry_after = retry_after;
    verdict
}

fn with(effect: Effect, mut verdict: Verdict) -> Verdict {
    verdict.findings[0].effect = effect;
    verdict
}

#[test]
fn every_code_has_an_example() {
    let mut codes: Vec<_> = examples().iter().map(|example| example.findings[0].code()).collect();
    // This code is about an object, not about a slot.
    codes.insert(2, Code::ReviewUnreadable);
    assert_eq!(codes, Code::ALL);
}

#[test]
fn every_message_in_the_document_is_what_tagpin_says() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/denials.md")).unwrap();
    let policy = PolicyId { namespace: None, name: "baseline".into() };
    let too_large = Unreadable::TooLarge { limit: tagpin_webhook::BODY_LIMIT };
    let said = message::unreadable(POD, PODS.pod_spec, "web", too_large, &[&policy]).message;
    assert_eq!(shown(&text, Code::ReviewUnreadable), said);
    for example in examples() {
        let code = example.findings[0].code();
        let said = match example.findings[0].effect {
            Effect::Deny => message::refusal(&[example]).message,
            _ => message::warnings(&[example]).join("\n"),
        };
        assert_eq!(shown(&text, code), said, "docs/denials.md, {code}");
    }
}

/// Returns the example of a code in the document.
fn shown(text: &str, code: Code) -> &str {
    let (_, section) =
        text.split_once(&format!("\n## {code}\n")).unwrap_or_else(|| panic!("no section {code}"));
    let section = section.split("\n## ").next().unwrap();
    let shown = section.split("```").nth(1).unwrap_or_else(|| panic!("no example of {code}"));
    shown.trim_start_matches("text").trim()
}
