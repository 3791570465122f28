use super::*;
use crate::profile::tls::{CaBundle, PemError};

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(Url::parse(url).unwrap()).unwrap()
}

#[test]
fn an_unknown_registry_is_asked_at_its_own_name_over_https() {
    for (domain, root, label) in [
        ("docker.io", "https://registry-1.docker.io/v2", "docker.io"),
        ("ghcr.io", "https://ghcr.io/v2", "other"),
        ("reg.example.com:5000", "https://reg.example.com:5000/v2", "other"),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/v2", "other"),
    ] {
        let profile = RegistryProfile::of(domain);
        let roots: Vec<_> = profile.authorities().map(|e| e.root().to_string()).collect();
        assert_eq!(roots, [root], "{domain}");
        assert_eq!(&*profile.label, label, "{domain}");
        assert!(!profile.offline, "{domain}");
        // Docker Hub would count it as a pull.
        assert_eq!(profile.looks_inside, domain != "docker.io", "{domain}");
    }
}

#[test]
fn single_label_hosts_and_localhost_are_offline() {
    for domain in ["localhost", "localhost:5000", "registry", "registry:5000", "REGISTRY:80"] {
        assert!(RegistryProfile::of(domain).offline, "{domain}");
    }
    for domain in ["127.0.0.1:5000", "[::1]:5000", "docker.io", "a.b"] {
        assert!(!RegistryProfile::of(domain).offline, "{domain}");
    }
}

#[test]
fn a_name_that_no_url_can_hold_has_no_endpoint() {
    assert_eq!(RegistryProfile::of("reg.example.com:99999").authorities().count(), 0);
}

#[test]
fn the_api_root_is_v2_unless_a_path_is_written() {
    for (written, root) in [
        ("https://m.example", "https://m.example/v2"),
        ("https://m.example/", "https://m.example/v2"),
        ("https://m.example/v2/", "https://m.example/v2"),
        ("https://m.example/v2/proxy", "https://m.example/v2/proxy"),
        ("http://10.0.0.1:5000", "http://10.0.0.1:5000/v2"),
    ] {
        assert_eq!(endpoint(written).root().as_str(), root);
    }
}

#[test]
fn urls_that_carry_more_than_a_place_are_refused() {
    for (url, error) in [
        ("ftp://m.example", EndpointError::Scheme),
        ("https://u:p@m.example", EndpointError::Extra),
        ("https://m.example/?a=b", EndpointError::Extra),
        ("https://m.example/#x", EndpointError::Extra),
    ] {
        assert_eq!(Endpoint::new(Url::parse(url).unwrap()).unwrap_err(), error, "{url}");
    }
}

#[test]
fn the_first_matching_rewrite_changes_the_path_and_only_into_a_path() {
    let mut mirror = endpoint("https://m.example");
    let rewrite = |pattern: &str, replacement: &str| Rewrite {
        pattern: Regex::new(pattern).unwrap(),
        replacement: replacement.to_owned(),
    };
    mirror.rewrites = vec![
        rewrite("^library/(.*)$", "hub/$1"),
        rewrite("^library/", "never/"),
        rewrite("^up/(.*)", "../${1}?x"),
        rewrite("^tag/(.*)", "${1}:latest"),
    ];
    assert_eq!(mirror.repository("library/nginx"), "hub/nginx");
    assert_eq!(mirror.repository("acme/api"), "acme/api");
    assert_eq!(mirror.repository("up/x"), "up/x");
    assert_eq!(mirror.repository("tag/x"), "tag/x");
}

#[test]
fn the_order_of_authorities_follows_resolve_from() {
    let mut profile = RegistryProfile::of("ghcr.io");
    profile.mirrors = vec![endpoint("https://a.example"), endpoint("https://b.example")];
    let hosts = |profile: &RegistryProfile| -> Vec<String> {
        profile.authorities().map(|e| e.host().unwrap().to_string()).collect()
    };
    assert_eq!(hosts(&profile), ["ghcr.io"]);
    profile.resolve_from = ResolveFrom::MirrorsThenUpstream;
    assert_eq!(hosts(&profile), ["a.example", "b.example", "ghcr.io"]);
    profile.resolve_from = ResolveFrom::MirrorsOnly;
    assert_eq!(hosts(&profile), ["a.example", "b.example"]);
}

#[test]
fn a_bundle_needs_a_certificate() {
    assert_eq!(CaBundle::parse(b""), Err(PemError::Authorities));
    assert_eq!(CaBundle::parse(b"not pem"), Err(PemError::Authorities));
}
