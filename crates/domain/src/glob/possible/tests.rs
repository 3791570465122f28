use proptest::prelude::*;

use super::*;
use crate::image::ImageRef;
use crate::work::Work;

fn found(search: &mut Search, glob: &str) -> Option<Reason> {
    let written = [glob.to_owned()];
    search.impossible(&Globs::new(&written).unwrap(), &written).map(|(_, reason)| reason)
}

fn is_possible(texts: Texts, glob: &str) -> bool {
    found(&mut Search::new(texts), glob).is_none()
}

#[test]
fn the_first_glob_that_matches_nothing_is_named_with_its_reason() {
    let written = ["ghcr.io/**", "docker.io/Library/web", "x"].map(str::to_owned);
    let found = Search::new(Texts::Names).impossible(&Globs::new(&written).unwrap(), &written);
    assert_eq!(found, Some((1, Reason::UpperCase)));
}

#[test]
fn the_reason_says_what_to_write() {
    for (glob, reason) in [
        ("https://ghcr.io/**", Reason::Scheme),
        ("{a,B}.example.com/-", Reason::Name),
        ("docker.io:443/library/*", Reason::DefaultPort),
        ("ghcr.io/acme/", Reason::EmptyPart),
        ("registry-1.docker.io/**", Reason::HubAlias),
        ("docker.io/nginx", Reason::HubLibrary),
        ("ecr-public.aws.com/nginx", Reason::PublicEcrAlias),
        ("nginx", Reason::NoHost),
        ("ghcr.io/acme/api:1", Reason::Name),
    ] {
        assert_eq!(found(&mut Search::new(Texts::Names), glob), Some(reason), "{glob}");
    }
    assert_eq!(found(&mut Search::new(Texts::Tags), "-x"), Some(Reason::Tag));
}

#[test]
fn every_other_spelling_compiles_without_a_prefix_and_fits() {
    assert_eq!(COMPILED.len(), OTHER_SPELLINGS.len());
    assert!(COMPILED.iter().all(|glob| glob.prefix.is_empty() && glob.steps.len() < 128));
}

#[test]
fn globs_that_match_no_name_are_found() {
    for glob in [
        "docker.io/Library/web",
        "GHCR.io/acme/**",
        "https://docker.io/*",
        "docker.io//web",
        "docker.io/library/",
        "/library/web",
        "docker.io:443/library/*",
        "ghcr.io:0443/acme/*",
        "ghcr.io:123456/acme/*",
        "docker.io/nginx",
        "docker.io/ngin?",
        "registry-1.docker.io/**",
        "index.docker.io/library/*",
        "registry.hub.docker.com/library/nginx",
        "ecr-public.aws.com/nginx/*",
        "123456789012.dkr-ecr.eu-west-1.on.aws/web",
        "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/web",
        "ghcr.io/acme/api:1.*",
        "ghcr.io/acme/api@sha256:*",
        "ghcr.io/a...b/*",
        "ghcr.io/-web",
        "ghcr.io/[A-Z]*",
        "{docker.io/Web,GHCR.io/**}",
        "nginx",
        "",
        "ghcr.io",
        "-a.example.com/*",
    ] {
        assert!(!is_possible(Texts::Names, glob), "{glob}");
    }
}

#[test]
fn globs_that_match_some_name_are_not() {
    for glob in [
        "**",
        "*/*",
        "docker.io/**",
        "docker.io/library/*",
        "docker.io/{library,acme}/*",
        "*.docker.io/**",
        "{registry-1.docker.io,ghcr.io}/**",
        "ghcr.io/acme**",
        "**/nginx",
        "localhost/**",
        "localhost:5000/**",
        "index.docker.io:5000/a",
        "[[]2001:db8::1]:5000/web",
        "*:5000/team/api",
        "[a-zA-Z].example.com/x",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web",
        "ghcr.io/a__b/c--d/e.f",
        "**:5000/**",
        "?????????/??????/?",
    ] {
        assert!(is_possible(Texts::Names, glob), "{glob}");
    }
}

#[test]
fn globs_on_tags_are_measured_by_the_grammar_of_tags() {
    for (glob, possible) in [
        ("latest", true),
        ("*", true),
        ("[!v]*", true),
        ("V1.*-RC?", true),
        ("-dev", false),
        (".*", false),
        ("a/b", false),
        (":latest", false),
        ("", false),
        ("{,-x}", false),
        ("[,]", false),
    ] {
        assert_eq!(is_possible(Texts::Tags, glob), possible, "{glob}");
    }
}

#[test]
fn a_search_ends_and_what_it_did_not_finish_counts_as_possible() {
    for (texts, idle) in [(Texts::Names, "GHCR.io/**"), (Texts::Tags, "a/b")] {
        let mut search = Search::new(texts);
        assert!(found(&mut search, idle).is_some());
        for _ in 0..20 {
            found(&mut search, &format!("{}/!", "{*a,a*}".repeat(70)));
        }
        assert_eq!((search.left, found(&mut search, idle)), (0, None));
        // Each step adds few places at most: neither time nor memory goes beyond the limit.
        let steps = usize::try_from(LIMIT).unwrap();
        assert!(search.next.len() <= steps && search.states.len() <= steps);
    }
}

#[test]
fn an_ordinary_policy_is_searched_to_its_end() {
    let mut search = Search::new(Texts::Names);
    for n in 0..64 {
        for glob in [
            format!("ghcr.io/team-{n}/**"),
            format!("docker.io/library/app-{n}"),
            format!("*.example.com/{n}/*"),
        ] {
            assert_eq!(found(&mut search, &glob), None, "{glob}");
        }
    }
    assert!(search.left > LIMIT / 4, "{}", search.left);
    assert_eq!(found(&mut search, "GHCR.io/**"), Some(Reason::UpperCase));
}

/// Texts near names: their parts occur in names or nearly do.
fn names() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "Ghcr.io",
        "localhost",
        "localhost:5000",
        "a.example.com:443",
        "10.0.0.1",
        "[::1]:80",
        "REG",
        "1.dkr-ecr.eu.on.aws",
        "ecr-public.aws.com",
    ]);
    (host, "[a-z0-9]{1,3}([._-]|__)?[a-z0-9]{1,3}(/[a-z]{1,2}(-{1,3}[a-z])?){0,2}")
        .prop_map(|(host, path)| format!("{host}/{path}"))
}

proptest! {
    /// Each glob is a name in which some characters became wildcards, so some of the globs match the name.
    #[test]
    fn a_glob_that_matches_a_name_is_possible(
        name in names(),
        wild in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec!["*", "**", "?", "[!a]", "{x,}"])), 0..4),
    ) {
        let name = ImageRef::parse(&name).unwrap().policy_name();
        prop_assert!(is_possible(Texts::Names, &name.replace('[', "[[]")), "{}", name);
        let mut glob: Vec<String> = name.replace('[', "?").chars().map(String::from).collect();
        for (at, with) in wild {
            let at = at.index(glob.len());
            glob[at] = with.to_owned();
        }
        let glob = glob.concat();
        let globs = Globs::new(std::slice::from_ref(&glob)).unwrap();
        if globs.is_match(&name, &Work::default()).unwrap() {
            prop_assert!(is_possible(Texts::Names, &glob), "{} matches {}", glob, name);
        }
    }
}
