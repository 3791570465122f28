//! Properties of the parser. `tests/cases/references.yaml` shows the meaning of each spelling.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use super::*;

/// The grammar of distribution/reference as one regular expression: a second opinion on the hand-written parser.
static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let host = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])");
    let component = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*";
    let digest = "sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}";
    let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    Regex::new(&format!("^({host}(?::[0-9]+)?)/({component}(?:/{component})*)(?::({tag}))?(?:@({digest}))?$"))
        .unwrap()
});

type Parts = (String, String, Option<String>, Option<String>);

/// Returns the parts that distribution/reference finds in a text (`ParseNormalizedNamed`).
fn second_opinion(text: &str) -> Option<Parts> {
    if is_image_id(text) {
        return None;
    }
    let (domain, remote) = match text.split_once('/') {
        None => ("docker.io", text),
        Some(("index.docker.io", rest)) => ("docker.io", rest),
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        Some(_) => ("docker.io", text),
    };
    let library = if domain == "docker.io" && !remote.contains('/') { "library/" } else { "" };
    let whole = format!("{domain}/{library}{remote}");
    let parts = GRAMMAR.captures(&whole)?;
    let part = |index| parts.get(index).map(|part| part.as_str().to_owned());
    (part(2)?.len() <= 255).then_some((part(1)?, part(2)?, part(3), part(4)))
}

fn parts(image: &ImageRef) -> Parts {
    (
        image.domain().to_owned(),
        image.path().to_owned(),
        image.tag().map(str::to_owned),
        image.digest().map(ToString::to_string),
    )
}

/// Generates texts of which most are references.
fn reference() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        Just(String::new()),
        "(docker\\.io|index\\.docker\\.io|DOCKER\\.IO|localhost|Foo|ghcr\\.io)/",
        "[a-zA-Z0-9.-]{1,12}(:[0-9]{1,6})?/",
        "\\[[0-9a-f:]{2,12}\\](:[0-9]{1,5})?/",
        "[0-9x]{1,4}(\\.[0-9]{1,3}){0,4}(:80)?/",
    ];
    let path = prop_oneof![
        "[a-z0-9]{1,6}",
        "(library/)?[a-z0-9]{64}",
        "(library/)?sha(256|384|512)",
        "[a-z0-9]{1,3}([._/-]{1,2}[a-z0-9]{1,3}){0,4}",
        "[a-zA-Z0-9._/-]{0,8}",
    ];
    let tag = prop_oneof![Just(String::new()), ":[a-f0-9]{1,8}", ":[A-Za-z0-9_.-]{0,10}", ":.{0,3}"];
    let digest = prop_oneof![
        4 => Just(String::new()),
        2 => "@sha256:[0-9a-f]{64}",
        1 => "@sha512:[0-9a-f]{128}",
        1 => "@(sha256|sha384|SHA256|md5):[0-9a-fA-F]{62,66}",
    ];
    (host, path, tag, digest).prop_map(|(host, path, tag, digest)| format!("{host}{path}{tag}{digest}"))
}

fn digest() -> impl Strategy<Value = Digest> {
    "sha256:[0-9a-f]{64}".prop_map(|text| Digest::parse(&text).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_parser_agrees_with_the_grammar(text in prop_oneof![reference(), "[a-zA-Z0-9./:@_\\[\\] -]{0,24}"]) {
        let other = second_opinion(&text);
        match ImageRef::parse(&text) {
            Ok(image) => prop_assert_eq!(Some(parts(&image)), other),
            // The parser refuses more than the grammar does: hosts that programs read differently or cannot
            // connect to, and node-local IDs.
            Err(error) => prop_assert!(
                other.is_none()
                    || matches!(
                        error.kind,
                        ReferenceErrorKind::AmbiguousAddress | ReferenceErrorKind::NodeLocalId
                    )
                    || (error.kind == ReferenceErrorKind::Domain
                        && other.is_some_and(|(domain, ..)| domain
                            .rsplit_once(':')
                            .is_some_and(|(_, port)| port.parse::<u16>().is_err()))),
                "{} refused: {}", text, error
            ),
        }
    }

    #[test]
    fn every_spelling_means_the_same(text in reference()) {
        if let Ok(image) = ImageRef::parse(&text) {
            prop_assert_eq!(image.to_string(), text);
            prop_assert_eq!(ImageRef::parse(&image.to_string()), Ok(image.clone()));
            let again = ImageRef::parse(&image.canonical()).unwrap();
            prop_assert_eq!(parts(&again), parts(&image));
            prop_assert_eq!(again.canonical(), image.canonical());
            prop_assert_eq!(again.policy_name(), image.policy_name());
        }
    }

    #[test]
    fn a_pin_is_the_written_text_and_the_digest(text in reference(), digest in digest()) {
        if let Ok(image) = ImageRef::parse(&text) {
            let pinned = ImageRef::parse(&image.pinned(&digest)).unwrap();
            prop_assert_eq!(pinned.tag(), image.tag());
            prop_assert_eq!(pinned.repository(), image.repository());
            prop_assert_eq!(pinned.written_name(), image.written_name());
            if image.digest().is_none() {
                prop_assert_eq!(pinned.original(), format!("{text}@{digest}"));
                prop_assert_eq!(pinned.digest(), Some(&digest));
            } else {
                prop_assert_eq!(&pinned, &image);
            }
        }
    }

    #[test]
    fn policies_see_one_name_however_often_it_is_read(text in reference()) {
        // A name without a dot or port is a host by its upper case only, and policies see lower case.
        if let Ok(image) = ImageRef::parse(&text) && image.domain().contains('.') {
            let name = image.policy_name();
            let again = ImageRef::parse(&name);
            prop_assert_eq!(again.map(|again| again.policy_name()), Ok(name));
        }
    }

    #[test]
    fn any_text_gives_an_answer(text in any::<String>()) {
        if let Err(error) = ImageRef::parse(&text) {
            prop_assert!(error.offset <= text.len());
        }
    }
}
