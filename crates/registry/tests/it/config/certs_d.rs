//! `certs.d`, read as containerd reads it: its endpoints, their settings, and its errors.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tagpin_registry::{NotFound, Profiles, Registries};

use super::{CERTIFICATE, Files, authorities, warnings};

/// Creates a configuration with these entries, beside a folder with these files.
fn with(registries: &str, files: &[(&str, &str)]) -> Files {
    let config = format!("registries: {registries}\nregistriesFile: {{ format: certs.d, path: certs.d }}\n");
    // This file makes sure that the folder exists.
    let start = Files::new(&config).add("certs.d/empty.example/none", "");
    files.iter().fold(start, |all, (name, text)| all.add(&format!("certs.d/{name}"), text))
}

fn load(registries: &str, files: &[(&str, &str)]) -> Registries {
    with(registries, files).load()
}

#[test]
fn hosts_are_asked_in_the_order_of_the_file_and_then_the_registry() {
    let registries = load(
        "[{ match: docker.io, resolveFrom: mirrors-then-upstream, allowPrivate: true }]",
        &[(
            "docker.io/hosts.toml",
            r#"
server = "https://docker.io"
[host."http://10.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
[host."https://cache.example/v2/hub"]
[host."https://cache.example/v2/hub".header]
  x-tenant = "shop-secret"
[host."https://only-content.example"]
  capabilities = ["pull"]
[host."a.example/proxy"]
  capabilities = ["PULL", "Resolve", "push"]
  override_path = true
"#,
        )],
    );
    assert_eq!(
        authorities(&registries, "docker.io"),
        [
            "http://10.0.0.1:5000/v2 anonymous private ns=docker.io",
            "https://cache.example/v2/hub/v2 anonymous private ns=docker.io",
            "https://a.example/proxy anonymous private ns=docker.io",
            "https://registry-1.docker.io/v2 asker private",
        ]
    );
    let profile = registries.profile("docker.io");
    let headers: Vec<_> = profile.authorities().map(|endpoint| endpoint.headers.len()).collect();
    assert_eq!(headers, [0, 1, 0, 0]);
    assert!(!format!("{registries:?}").contains("shop-secret"));
    assert_eq!(warnings(&registries), "");
}

#[test]
fn a_server_that_is_the_registry_keeps_the_meaning_of_its_404() {
    let server = |host: &str| format!("server = \"https://{host}\"\n");
    let registries = load(
        "[]",
        &[
            ("docker.io/hosts.toml", &server("registry-1.docker.io")),
            ("quay.io/hosts.toml", &server("quay.io")),
            ("ghcr.io/hosts.toml", &server("cache.example")),
        ],
    );
    for domain in ["docker.io", "quay.io", "ghcr.io"] {
        let profile = registries.profile(domain);
        assert_eq!(profile.upstream.as_ref().unwrap().not_found, NotFound::Proof, "{domain}");
    }
}

#[test]
fn the_folder_is_found_by_the_port_and_else_it_is_the_default() {
    let hosts = |name: &str| format!("[host.\"https://{name}\"]\n");
    let registries = load(
        "[{ match: '*.example', resolveFrom: mirrors-then-upstream }, { match: '*.example:5000', resolveFrom: \
         mirrors-only }]",
        &[
            ("reg.example_5000_/hosts.toml", &hosts("port")),
            ("reg.example:5000/hosts.toml", &hosts("colon")),
            ("own.example:5000/hosts.toml", &hosts("colon")),
            ("reg.example/hosts.toml", &hosts("bare")),
            ("_default/hosts.toml", &hosts("default")),
            ("..data/hosts.toml", &hosts("data")),
        ],
    );
    for (domain, first) in [
        ("reg.example:5000", "https://port/v2"),
        ("own.example:5000", "https://colon/v2"),
        ("Reg.example", "https://bare/v2"),
        ("other.example", "https://default/v2"),
        ("empty.example", "https://empty.example/v2"),
    ] {
        let asked = authorities(&registries, domain);
        assert!(asked[0].starts_with(&format!("{first} ")), "{domain}: {asked:?}");
    }
}

#[test]
fn the_folder_alone_changes_nobody_who_is_asked() {
    let registries =
        load("[]", &[("ghcr.io/hosts.toml", "server = \"https://s.example\"\n[host.\"https://m.example\"]")]);
    assert_eq!(authorities(&registries, "ghcr.io"), ["https://ghcr.io/v2 asker"]);
}

#[test]
fn another_server_takes_the_place_of_the_registry() {
    let hosts = "server = \"https://s.example/proxy\"\n[host.\"https://m.example\"]\n";
    let asked = |resolve_from: &str| {
        let entry = format!("[{{ match: ghcr.io, resolveFrom: {resolve_from} }}]");
        authorities(&load(&entry, &[("ghcr.io/hosts.toml", hosts)]), "ghcr.io")
    };
    let nodes =
        ["https://m.example/v2 anonymous ns=ghcr.io", "https://s.example/proxy/v2 anonymous ns=ghcr.io"];
    assert_eq!(asked("mirrors-then-upstream"), nodes);
    assert_eq!(asked("mirrors-only"), nodes);
    assert_eq!(asked("upstream"), ["https://ghcr.io/v2 asker"]);
}

#[test]
fn the_registry_itself_is_reached_as_the_file_says() {
    let registries = load(
        "[{ match: 'reg.lan:5000', allowPrivate: true }]",
        &[("reg.lan_5000_/hosts.toml", "server = \"http://reg.lan:5000\"")],
    );
    assert_eq!(authorities(&registries, "reg.lan:5000"), ["http://reg.lan:5000/v2 asker private"]);
}

#[test]
fn certificates_are_found_beside_the_file() {
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let both = format!("{own}{key}");
    let files = [
        ("root.example/hosts.toml", "ca = \"ca.pem\"\nskip_verify = false\n"),
        ("root.example/ca.pem", CERTIFICATE),
        ("server.example/hosts.toml", "server = \"https://server.example\"\nca = [\"ca.pem\", \"ca.pem\"]\n"),
        ("server.example/ca.pem", CERTIFICATE),
        ("docker.example/a.crt", CERTIFICATE),
        ("docker.example/b.crt", CERTIFICATE),
        ("docker.example/own.cert", own.as_str()),
        ("docker.example/own.key", key.as_str()),
        ("joined.example/own.cert", both.as_str()),
        ("pairs.example/hosts.toml", "client = [[\"own.pem\", \"key.pem\"], [\"x\", \"y\"]]"),
        ("pairs.example/own.pem", own.as_str()),
        ("pairs.example/key.pem", key.as_str()),
        ("open.example/hosts.toml", "skip_verify = true"),
    ];
    let registries = load("[]", &files);
    for (domain, expected) in [
        ("root.example", (1, false, false)),
        ("server.example", (2, false, false)),
        ("docker.example", (2, true, false)),
        ("joined.example", (0, true, false)),
        ("pairs.example", (0, true, false)),
        ("open.example", (0, false, true)),
        ("empty.example", (0, false, false)),
    ] {
        let profile = registries.profile(domain);
        let tls = &profile.upstream.as_ref().unwrap().tls;
        let authorities = tls.ca.as_ref().map_or(0, |ca| ca.certificates().len());
        assert_eq!((authorities, tls.client.is_some(), tls.unverified), expected, "{domain}");
    }
    assert_eq!(registries.unverified(), 1);
    let said = warnings(&registries);
    assert!(said.contains("open.example/hosts.toml: skip_verify: the certificate is not verified"), "{said}");
    assert!(said.contains("pairs.example/hosts.toml: client: names several certificates"), "{said}");
}

#[test]
fn what_only_nodes_can_use_is_warned_of_and_not_refused() {
    let hosts =
        "[host.\"http://m.example:5000\"]\nca = \"/node/ca.pem\"\ndial_timeout = \"1s\"\nrewrite = 1\n";
    let registries = load("[]", &[("ghcr.io/hosts.toml", hosts)]);
    let said = warnings(&registries);
    for part in [
        "host.\"http://m.example:5000\".ca: /node/ca.pem is not used: No such file",
        "host.\"http://m.example:5000\".dial_timeout: has no effect",
        "host.\"http://m.example:5000\".rewrite: has no effect: containerd has no such key",
        "host.\"http://m.example:5000\": tagpin uses http, but nodes try https first",
    ] {
        assert!(said.contains(&format!("ghcr.io/hosts.toml: {part}")), "{part} is not in\n{said}");
    }
}

#[test]
fn a_mistake_is_named_with_file_line_and_key() {
    for (hosts, expected) in [
        ("server = https://x", "1:10: "),
        ("server = 1", "1:10: server: must be a text"),
        ("host = 1", "1:8: host: must be tables"),
        ("[host]\n\"https://x\" = 1", "2:15: host.\"https://x\": must be a table"),
        ("[host.\"ftp://x\"]", "1:7: host.\"ftp://x\": the endpoint's scheme must be"),
        ("[host.\"http://u:p@x\"]", "1:7: host.\"http://u:p@x\": the endpoint's URL must not hold a user"),
        (
            "[host.\"https://x\"]\ncapabilities = [\"read\"]",
            "2:16: host.\"https://x\".capabilities: \"read\" is not one",
        ),
        (
            "[host.\"https://x\"]\nskip_verify = \"yes\"",
            "2:15: host.\"https://x\".skip_verify: must be true or false",
        ),
        ("header = 1", "1:10: header: must be a table"),
        ("[header]\n\"a b\" = \"c\"", "2:1: header.a b: is not a valid HTTP header"),
        ("client = [[\"a\", \"b\", \"c\"]]", "1:11: client: write a pair"),
        ("ca = \"hosts.toml\"", "1:6: ca: the CA file holds no PEM certificate"),
    ] {
        let refused = with("[]", &[("ghcr.io/hosts.toml", hosts)]).refusal();
        assert!(refused.starts_with(&format!("certs.d/ghcr.io/hosts.toml:{expected}")), "{refused}");
    }
    let refused = with("[{ match: ghcr.io, resolveFrom: mirrors-only }]", &[]).refusal();
    assert!(refused.contains("registries[0].resolveFrom: asks mirrors"), "{refused}");
}

#[test]
fn a_changed_folder_is_a_changed_configuration() {
    let files = with(
        "[{ match: ghcr.io, resolveFrom: mirrors-then-upstream }]",
        &[("ghcr.io/hosts.toml", "[host.\"https://m.example\"]")],
    );
    let current = tagpin_registry::Current::load(Some(&files.path().join("config.yaml"))).unwrap();
    let hosts = files.path().join("certs.d/ghcr.io/hosts.toml");
    fs::write(hosts, "[host.\"https://n.example\"]").unwrap();
    current.reload();
    let profile = current.profile("ghcr.io");
    assert_eq!(profile.authorities().next().unwrap().root().as_str(), "https://n.example/v2");
}
