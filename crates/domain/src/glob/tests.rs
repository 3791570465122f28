use globset::GlobBuilder;
use proptest::prelude::*;

use super::*;

fn globs(written: &[&str]) -> Result<Globs, GlobError> {
    Globs::new(&written.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>())
}

fn matches(glob: &str, text: &str) -> bool {
    globs(&[glob]).unwrap().is_match(text, &Work::default()).unwrap()
}

#[test]
fn one_star_stays_in_a_segment_and_two_cross() {
    assert!(matches("docker.io/library/*", "docker.io/library/nginx"));
    assert!(!matches("docker.io/library/*", "docker.io/library/nginx/extra"));
    assert!(matches("ghcr.io/**", "ghcr.io/acme/api/worker"));
    assert!(!matches("ghcr.io/**", "ghcr.io.evil.example/acme"));
    assert!(matches("**", "docker.io/library/nginx"));
    assert!(matches("*.example.com/**", "eu.example.com/a/b"));
    assert!(!matches("*.example.com/**", "evil.org/x.example.com/b"));
    assert!(matches("ghcr.io/**/api", "ghcr.io/api") && matches("ghcr.io/**/api", "ghcr.io/a/b/api"));
    assert!(!matches("ghcr.io/**/api", "ghcr.io/xapi"));
    assert!(matches("**/nginx", "docker.io/library/nginx") && !matches("**/nginx", "docker.io/mynginx"));
    assert!(matches("ghcr.io/acme**", "ghcr.io/acme-labs/api"));
}

#[test]
fn tags_are_matched_whole() {
    let tags = globs(&["latest", "dev-*", "*-rc?", "nightly[0-9]", "*.0", "{main,master}", "[!v]x"]).unwrap();
    for forbidden in ["latest", "dev-", "dev-1.2", "1.0-rc1", "nightly7", "1.2.0", "main", "master", "ax"] {
        assert!(tags.is_match(forbidden, &Work::default()).unwrap(), "{forbidden}");
    }
    for allowed in
        ["latest-1", "xlatest", "mydev-1", "1.0-rc", "nightly", "1.2.00", "LATEST", "mainmaster", "vx", ""]
    {
        assert!(!tags.is_match(allowed, &Work::default()).unwrap(), "{allowed}");
    }
}

#[test]
fn alternatives_may_be_empty_and_hold_globs() {
    for (glob, yes, no) in [
        ("{a,b}", vec!["a", "b"], vec!["", "ab", "c", "a,b"]),
        ("x{,-*}y", vec!["xy", "x-y", "x-ay"], vec!["xay"]),
        ("{a}{b,c}", vec!["ab", "ac"], vec!["a", "bc"]),
        ("{ghcr.io,quay.io}/**", vec!["ghcr.io/a", "quay.io/a/b"], vec!["docker.io/a"]),
        ("{}", vec![""], vec!["a"]),
        ("a,b", vec!["a,b"], vec!["a", "b"]),
    ] {
        assert!(yes.iter().all(|text| matches(glob, text)), "{glob}");
        assert!(!no.iter().any(|text| matches(glob, text)), "{glob}");
    }
}

#[test]
fn classes_take_what_they_name_and_never_a_slash() {
    assert!(matches("[]a]", "]") && matches("[a-]", "-") && matches("[*]", "*") && !matches("[*]", "a"));
    assert!(matches("[^a-c]", "d") && !matches("[^a-c]", "b") && matches("[!]]", "a"));
    assert!(!matches("a[!b]c", "a/c") && !matches("a[.-0]c", "a/c") && matches("a[.-0]c", "a.c"));
    assert!(!matches("[!a]", "ä"));
}

#[test]
fn an_empty_list_matches_nothing() {
    assert!(!Globs::default().is_match("latest", &Work::default()).unwrap());
    assert!(!globs(&[]).unwrap().is_match("", &Work::default()).unwrap());
    assert!(matches("", ""));
}

#[test]
fn a_broken_glob_is_named_with_its_position() {
    use GlobProblem as Problem;
    for (glob, problem) in [
        ("[a", Problem::UnclosedClass),
        ("[]", Problem::UnclosedClass),
        ("[a-", Problem::UnclosedClass),
        ("[z-a]", Problem::BackwardRange),
        ("{a,b", Problem::UnclosedAlternatives),
        ("a}", Problem::UnopenedAlternatives),
        ("{a,{b,c}}", Problem::NestedAlternatives),
        ("mäin", Problem::NotAscii),
        (&"a".repeat(513), Problem::TooLong),
    ] {
        let error = globs(&["fine", glob]).unwrap_err();
        assert_eq!((error.index, error.glob.as_str(), error.problem), (1, glob, problem));
    }
}

#[test]
fn no_glob_is_slow() {
    let text = "a".repeat(510);
    for glob in
        ["*a".repeat(256), "**/".repeat(170), "{*,*a}".repeat(85), "?".repeat(511), "[!b]*".repeat(102)]
    {
        let glob = Glob::new(&glob).unwrap();
        let (_, taken) = glob.is_match(&text, u32::MAX);
        let at_once = (glob.steps.len() + 1 + WORDS) * text.len() + 1;
        let (_, cut) = glob.is_match(&text, 100);
        assert!(cut as usize <= 100 + glob.steps.len() + 1 + WORDS, "{cut}");
        assert!(glob.steps.len() <= STEP_LIMIT && taken as usize <= at_once, "{taken} of {at_once}");
    }
}

#[test]
fn a_long_program_matches_like_a_short_one() {
    // A word holds 64 places; the second glob has more steps than characters.
    for length in [1, 62, 63, 64, 65, 127, 128, 510, 511, 512] {
        let (glob, text) = ("?".repeat(length), "a".repeat(length));
        assert!(matches(&glob, &text) && !matches(&glob, &format!("{text}a")), "{length}");
        assert!(!matches(&glob, text.get(1..).unwrap()), "{length}");
    }
    for commas in [1, 30, 31, 32, 508] {
        let glob = format!("{{{}ab}}", ",".repeat(commas));
        assert!(matches(&glob, "") && matches(&glob, "ab") && !matches(&glob, "a"), "{commas}");
    }
}

#[test]
fn what_a_glob_begins_with_may_be_followed_by_anything() {
    for (glob, yes, no) in [
        ("ab/**/c", "ab/c", "ab/xc"),
        ("ab**/c", "abx/y/c", "ab"),
        ("ab{c,d*}e", "abdxe", "abe"),
        ("ab[cd]", "abd", "ab"),
        ("ab*", "ab", "ab/c"),
        ("ab**", "ab/c", "a"),
        ("a,b{c,d}", "a,bd", "a"),
    ] {
        assert!(matches(glob, yes) && !matches(glob, no), "{glob}");
    }
}

fn a_glob() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab.]",
        2 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => Just("[ab]".to_owned()),
        // The negated classes of `globset` match a slash; ours never do.
        1 => Just("[!a/]".to_owned()),
        1 => Just("{a,b*}".to_owned()),
        1 => Just("{,ab,?}".to_owned()),
    ];
    let segment = prop_oneof![
        4 => prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat().replace("**", "*")),
        1 => Just("**".to_owned()),
    ];
    prop::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_segments_mean_what_they_mean_elsewhere(
        glob in a_glob(),
        text in prop::collection::vec("[ab.]{1,4}", 1..5).prop_map(|segments| segments.join("/")),
    ) {
        let other = GlobBuilder::new(&glob).literal_separator(true).empty_alternates(true).build().unwrap().compile_matcher();
        prop_assert_eq!(matches(&glob, &text), other.is_match(&text), "{} on {}", glob, text);
    }

    #[test]
    fn nothing_makes_it_panic(glob in "[a-b/*?\\[\\]{},!^-]{0,40}", text in "[ab/]{0,20}") {
        let matched = globs(&[&glob]).map(|globs| globs.is_match(&text, &Work::default()));
        prop_assert!(matched.is_ok() || !glob.is_empty());
    }
}
