//! The configuration of registries: its meaning, its errors and its warnings.

use std::fs;
use std::path::Path;

use tagpin_registry::{
    Confirm, Credential, Current, Endpoint, Identity, NotFound, OperatorCredential, OperatorCredentials as _,
    Profiles, ProxyWay, Registries, Reloaded, ResolveFrom, Source,
};
use tempfile::TempDir;

mod certs_d;

/// A folder with a configuration and the files that it names.
struct Files(TempDir);

impl Files {
    fn new(config: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.add("config.yaml", config)
    }

    fn add(self, name: &str, text: &str) -> Self {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn load(&self) -> Registries {
        Registries::load(&self.path().join("config.yaml")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the error, without the folder.
    fn refusal(&self) -> String {
        let error = Registries::load(&self.path().join("config.yaml")).map(drop).unwrap_err();
        error.to_string().replace(&format!("{}/", self.path().display()), "")
    }
}

fn refusal(config: &str) -> String {
    Files::new(config).refusal()
}

fn load(config: &str) -> Registries {
    Files::new(config).load()
}

/// Describes the endpoints that are asked for a tag, with their credentials and settings.
fn authorities(registries: &Registries, domain: &str) -> Vec<String> {
    let describe = |endpoint: &Endpoint| {
        let identity = match &endpoint.identity {
            Identity::Asker => "asker".to_owned(),
            Identity::Anonymous => "anonymous".to_owned(),
            Identity::Own(candidate) => candidate.source.to_string(),
        };
        let private = if endpoint.allow_private { " private" } else { "" };
        let namespace = endpoint.namespace.as_ref().map(|name| format!(" ns={name}")).unwrap_or_default();
        format!("{} {identity}{private}{namespace}", endpoint.root())
    };
    registries.profile(domain).authorities().map(describe).collect()
}

fn warnings(registries: &Registries) -> String {
    registries.warnings().join("\n")
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn nothing_configured_asks_each_registry_itself() {
    let registries = load("");
    assert_eq!(authorities(&registries, "docker.io"), ["https://registry-1.docker.io/v2 asker"]);
    assert_eq!(authorities(&registries, "ghcr.io"), ["https://ghcr.io/v2 asker"]);
    assert_eq!(&*registries.profile("docker.io").label, "docker.io");
    assert_eq!(&*registries.profile("ghcr.io").label, "other");
    assert!(registries.profile("localhost:5000").offline);
    assert!(registries.warnings().is_empty());
}

#[test]
fn the_first_match_wins_and_a_star_crosses_no_dot() {
    let registries = load(
        "registries:
        - { match: special.example.com, allowPrivate: true }
        - { match: '*.example.com' }
        - { match: '*.example.com:5000', allowPrivate: true }
        - { match: 'registry*', allowPrivate: true }
        - { match: '[fd00::7]:5000', allowPrivate: true }",
    );
    for (domain, label, private) in [
        ("[fd00::7]:5000", "[fd00::7]:5000", true),
        ("[fd00::7]", "other", false),
        ("special.example.com", "special.example.com", true),
        ("Special.Example.com:443", "special.example.com", true),
        ("any.example.com", "*.example.com", false),
        ("any.example.com:5000", "*.example.com:5000", true),
        ("any.example.com:5001", "other", false),
        ("a.b.example.com", "other", false),
        ("example.com", "other", false),
        ("registry", "registry*", true),
        ("registry:5000", "other", false),
    ] {
        let profile = registries.profile(domain);
        assert_eq!(&*profile.label, label, "{domain}");
        assert_eq!(profile.upstream.as_ref().unwrap().allow_private, private, "{domain}");
    }
}

#[test]
fn one_word_hosts_are_offline_until_an_entry_names_them() {
    let registries = load("registries: [{ match: 'registry:5000' }, { match: airgap.local, offline: true }]");
    for (domain, offline) in [
        ("registry:5000", false),
        ("registry", true),
        ("localhost", true),
        ("airgap.local", true),
        ("ghcr.io", false),
    ] {
        assert_eq!(registries.profile(domain).offline, offline, "{domain}");
    }
}

#[test]
fn mirrors_are_asked_as_resolve_from_says_and_without_credentials() {
    let config = |resolve_from: &str| {
        load(&format!(
            "registries:
            - match: docker.io
              resolveFrom: {resolve_from}
              allowPrivate: true
              mirrors: [{{ url: 'http://10.0.0.1:5000' }}, {{ url: https://m.example/v2/hub }}]"
        ))
    };
    let upstream = "https://registry-1.docker.io/v2 asker private";
    let mirrors = [
        "http://10.0.0.1:5000/v2 anonymous private ns=docker.io",
        "https://m.example/v2/hub anonymous private ns=docker.io",
    ];
    assert_eq!(authorities(&config("upstream"), "docker.io"), [upstream]);
    assert_eq!(authorities(&config("mirrors-only"), "docker.io"), mirrors);
    let both = config("mirrors-then-upstream");
    assert_eq!(authorities(&both, "docker.io"), [mirrors[0], mirrors[1], upstream]);
    assert_eq!(warnings(&both), "");
    assert!(warnings(&config("upstream")).contains("registries[0]: the mirrors of docker.io are not asked"));
}

#[test]
fn a_registry_over_plain_http_is_a_mirror_of_itself_and_sees_its_credentials() {
    let registries = load(
        "registries:
        - match: reg.example:5000
          resolveFrom: mirrors-only
          credentials: { secretRef: { namespace: ops, name: pull } }
          mirrors: [{ url: 'http://reg.example:5000' }]",
    );
    assert_eq!(authorities(&registries, "reg.example:5000"), ["http://reg.example:5000/v2 asker"]);
    assert!(registries.profile("reg.example:5000").shows_credentials());
    assert_eq!(warnings(&registries), "");
}

#[test]
fn credentials_that_nobody_would_see_are_warned_of() {
    let registries = load(
        "registries:
        - match: docker.io
          resolveFrom: mirrors-only
          credentials: { secretRef: { namespace: ops, name: pull } }
          mirrors: [{ url: https://m.example }]",
    );
    assert!(warnings(&registries).contains("credentials of docker.io are never used"));
}

#[test]
fn certificates_are_read_beside_the_configuration() {
    let config = "registries: [{ match: reg.example, tls: { caFile: ca.pem } }]";
    let files = Files::new(config).add("ca.pem", CERTIFICATE);
    let profile = files.load().profile("reg.example");
    assert_eq!(profile.upstream.as_ref().unwrap().tls.ca.as_ref().unwrap().certificates().len(), 1);
    assert_eq!(
        Files::new(config).refusal(),
        "config.yaml:1:51: registries[0].tls.caFile: read ca.pem: No such file or directory (os error 2)"
    );
    assert_eq!(
        Files::new(config).add("ca.pem", "no").refusal(),
        "config.yaml:1:51: registries[0].tls.caFile: ca.pem: the CA file holds no PEM certificate"
    );
}

#[test]
fn what_secures_a_connection_is_for_the_one_host() {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let files = |tls: &str| {
        Files::new(&format!(
            "registries:
            - match: reg.example
              resolveFrom: mirrors-then-upstream
              mirrors: [{{ url: 'https://m.example' }}, {{ url: 'https://own.example' }}]
              tls: {tls}
            - {{ match: own.example, tls: {{ insecureSkipVerify: true }} }}"
        ))
        .add("ca.pem", CERTIFICATE)
        .add("own.pem", &own.pem())
        .add("key.pem", &key.serialize_pem())
        .add("other.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem())
    };
    let all = "{ caFile: ca.pem, caOnly: true, clientCert: { certFile: own.pem, keyFile: key.pem } }";
    let registries = files(all).load();
    let profile = registries.profile("reg.example");
    let secured: Vec<_> = profile
        .authorities()
        .map(|at| (at.tls.ca.is_some(), at.tls.ca_only, at.tls.client.is_some(), at.tls.unverified))
        .collect();
    let (mirror, own_entry) = ((true, false, false, false), (false, false, false, true));
    assert_eq!(secured, [mirror, own_entry, (true, true, true, false)]);
    assert_eq!(registries.unverified(), 1);
    assert!(warnings(&registries).contains("registries[1]: the certificate of own.example is not verified"));
    assert!(!format!("{registries:?}").contains("PRIVATE KEY"));
    let refused = files("{ clientCert: { certFile: own.pem, keyFile: other.pem } }").refusal();
    assert!(
        refused.contains("tls.clientCert.certFile: own.pem: the certificate and the key do not match"),
        "{refused}"
    );
    let refused = files("{ caFile: ca.pem, insecureSkipVerify: true }").refusal();
    assert!(refused.contains("tls.caFile: has no effect"), "{refused}");
    // `insecureSkipVerify` for the registry does not count for its mirror.
    let registries = files("{ insecureSkipVerify: true }").load();
    let profile = registries.profile("reg.example");
    let unverified: Vec<_> = profile.authorities().map(|at| at.tls.unverified).collect();
    assert_eq!(unverified, [false, true, true]);
}

#[test]
fn a_mirror_is_asked_as_it_is_able_and_shown_what_it_may_see() {
    let registries = load(
        "registries:
        - match: docker.io
          resolveFrom: mirrors-then-upstream
          trustedRealms: [Token.example]
          mirrors:
          - { url: https://a.example, capabilities: [pull] }
          - { url: https://b.example, capabilities: [pull, resolve], sendPullSecrets: true }
          - url: https://c.example/v2/proxy
            rewrite: { '^library/(.*)': 'hub/${1}' }",
    );
    assert_eq!(
        authorities(&registries, "docker.io"),
        [
            "https://b.example/v2 asker ns=docker.io",
            "https://c.example/v2/proxy anonymous ns=docker.io",
            "https://registry-1.docker.io/v2 asker",
        ]
    );
    let profile = registries.profile("docker.io");
    let paths: Vec<_> = profile.authorities().map(|at| at.repository("library/nginx")).collect();
    assert_eq!(paths, ["library/nginx", "hub/nginx", "library/nginx"]);
    assert!(profile.authorities().all(|at| *at.trusted_realms == ["token.example".to_owned()]));
    assert!(registries.profile("ghcr.io").authorities().all(|at| at.trusted_realms.is_empty()));
}

#[test]
fn a_digest_is_confirmed_where_an_entry_says_so() {
    let registries = load(
        "registries:
        - { match: a.example, confirmDigest: auto }
        - { match: b.example, confirmDigest: always }
        - { match: c.example, confirmDigest: never }
        - { match: docker.io }
        - { match: '*.dkr.ecr.*.amazonaws.com', pullThrough: [docker-hub/, quay/] }",
    );
    assert_eq!(registries.profile("a.example").confirm, Confirm::Auto);
    assert_eq!(registries.profile("b.example").confirm, Confirm::Always);
    for never in ["docker.io", "ghcr.io", "c.example"] {
        assert_eq!(registries.profile(never).confirm, Confirm::Never, "{never}");
    }
    let cache = registries.profile("123456789012.dkr.ecr.eu-west-1.amazonaws.com");
    assert!(cache.pulls_through("docker-hub/library/nginx") && cache.pulls_through("quay/x"));
    assert!(!cache.pulls_through("team/app"));
}

#[cfg(not(feature = "aws"))]
#[test]
fn a_cloud_that_is_not_built_in_is_refused_by_name() {
    let refused = refusal("registries: [{ match: public.ecr.aws, credentials: { aws: {} } }]");
    assert!(refused.contains("credentials.aws: this tagpin is built without the feature `aws`"), "{refused}");
}

#[cfg(all(feature = "aws", feature = "gcp", feature = "azure"))]
#[test]
fn a_cloud_gives_credentials_for_its_own_registries() {
    let registries = load(
        "registries:
        - match: '*.dkr.ecr.*.amazonaws.com'
          credentials: { aws: { roleArn: 'arn:aws:iam::123456789012:role/pull', regions: [eu-west-1] } }
        - { match: public.ecr.aws, credentials: { aws: {} } }
        - { match: '*.azurecr.io', credentials: { azure: {} } }
        - { match: gcr.io, credentials: { gcp: {} } }",
    );
    for (domain, cloud) in [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "aws"),
        ("public.ecr.aws", "aws"),
        ("acme.azurecr.io", "azure"),
        ("gcr.io", "gcp"),
    ] {
        let Some(OperatorCredential::Cloud { access, .. }) = registries.credential(domain) else { panic!() };
        assert_eq!(access.word(), cloud, "{domain}");
    }
    assert!(registries.credential("ghcr.io").is_none());
    let refused = |entry: &str| refusal(&format!("registries: [{{ {entry} }}]"));
    for (entry, expected) in [
        (
            "match: a.example, credentials: { aws: {} }",
            "credentials.aws: the match names no region: write the regions",
        ),
        (
            "match: a.example, credentials: { aws: { regions: [eu-west-1] } }",
            "credentials.aws: a.example is not a registry",
        ),
        (
            "match: 123456789012.dkr.ecr.us-east-1.amazonaws.com, credentials: { aws: { regions: [eu-west-1] } }",
            "or not in a listed region",
        ),
        (
            "match: '*.dkr.ecr.*.amazonaws.com', credentials: { aws: {} }",
            "credentials.aws: the match names no region: write the regions",
        ),
        (
            "match: public.ecr.aws, credentials: { aws: { roleArn: pull } }",
            "credentials.aws.roleArn: write the ARN",
        ),
        ("match: a.example, credentials: { gcp: {} }", "credentials.gcp: a.example is not a registry"),
        (
            "match: 'acme.azurecr.io:8443', credentials: { azure: {} }",
            "credentials.azure: acme.azurecr.io:8443 is no",
        ),
        (
            "match: a.example, credentials: { azure: {}, gcp: {} }",
            "credentials: write one of: secretRef, aws, gcp, azure",
        ),
        ("match: a.example, credentials: {}", "credentials: write one of"),
        (
            "match: gcr.io, credentials: { gcp: { keyFile: config.yaml } }",
            "credentials.gcp.keyFile: is not a key file",
        ),
    ] {
        let said = refused(entry);
        assert!(said.contains(&format!("registries[0].{expected}")) || said.contains(expected), "{said}");
    }
    load("registries: [{ match: '*.dkr.ecr.eu-west-1.amazonaws.com', credentials: { aws: {} } }]");
}

#[test]
fn how_long_a_digest_counts_is_for_every_registry() {
    let ttl = |config: &str| load(config).profile("ghcr.io").tag_ttl.as_secs();
    assert_eq!(ttl(""), 60);
    assert_eq!(ttl("defaults: { tagTTL: 2m 30s }"), 150);
    assert_eq!(ttl("{ defaults: { tagTTL: 0s }, registries: [{ match: ghcr.io }] }"), 0);
}

#[test]
fn a_changed_configuration_counts_and_a_mistake_in_it_does_not() {
    let files =
        Files::new("registries: [{ match: a.example, tls: { caFile: ca.pem } }]").add("ca.pem", CERTIFICATE);
    let config = files.path().join("config.yaml");
    let current = Current::load(Some(&config)).unwrap();
    assert!(matches!(current.reload(), Reloaded::Same));
    let authorities = |current: &Current| {
        let profile = current.profile("a.example");
        profile.upstream.as_ref().unwrap().tls.ca.as_ref().map(|ca| ca.certificates().len())
    };
    // A change of a file that the configuration names is noticed too.
    fs::write(files.path().join("ca.pem"), format!("{CERTIFICATE}{CERTIFICATE}")).unwrap();
    assert!(matches!(current.reload(), Reloaded::Changed(_)));
    assert_eq!(authorities(&current), Some(2));
    fs::write(files.path().join("ca.pem"), "no").unwrap();
    for _ in 0..2 {
        let Reloaded::Refused(error) = current.reload() else { panic!() };
        assert!(error.to_string().contains("the CA file holds no PEM certificate"), "{error}");
        assert_eq!(authorities(&current), Some(2));
    }
    fs::write(&config, "registries: [{ match: a.example, offline: true }]").unwrap();
    assert!(matches!(current.reload(), Reloaded::Changed(_)));
    assert!(current.profile("a.example").offline);
    assert!(matches!(current.reload(), Reloaded::Same));
}

#[test]
fn a_mistake_is_named_with_file_line_and_key() {
    for (config, expected) in [
        (
            "registries:\n- match: docker.io\n  allowPrvate: true\n",
            "config.yaml:3:3: registries[0].allowPrvate: unknown key; allowed here: match, allowPrivate, tls, \
             trustedRealms, confirmDigest, pullThrough, notFoundIsProof, offline, credentials, resolveFrom, mirrors",
        ),
        (
            "registries:\n- match: a.io\n- match: b.io\n  tls: { caPath: x }\n",
            "config.yaml:4:10: registries[1].tls.caPath: unknown key; allowed here: caFile, caOnly, \
             clientCert, insecureSkipVerify",
        ),
        (
            "registries:\n- match: a.io\n  mirrors:\n  - url: https://m\n    ns: x\n",
            "config.yaml:5:5: registries[0].mirrors[0].ns: unknown key; allowed here: url, capabilities, \
             sendPullSecrets, rewrite, notFoundIsProof",
        ),
        (
            "registries:\n- match: a.io\n  credentials: { vault: {} }\n",
            "config.yaml:3:18: registries[0].credentials.vault: unknown key; allowed here: secretRef, aws, gcp, azure",
        ),
        (
            "registries:\n- match: a.io\n  credentials: { secretRef: { name: x } }\n",
            "config.yaml:3:31: registries[0].credentials.secretRef: the key namespace is missing",
        ),
        (
            "registries:\n- match: a.io\n  resolveFrom: mirror\n",
            "config.yaml:3:16: registries[0].resolveFrom: \"mirror\" is not one of: upstream, \
             mirrors-then-upstream, mirrors-only",
        ),
        ("registries:\n- allowPrivate: true\n", "config.yaml:2:3: registries[0]: the key match is missing"),
        (
            "registry: []\n",
            "config.yaml:1:1: registry: unknown key; allowed here: registries, defaults, registriesFile",
        ),
        (
            "registriesFile: { format: docker, path: x }\n",
            "config.yaml:1:27: registriesFile.format: \"docker\" is not one of: k3s, certs.d",
        ),
        (
            "registries:\n- match: a.io\n  match: b.io\n",
            "config.yaml:3:3: registries[0]: this key is given twice",
        ),
        ("registries:\n- match: [a.io]\n", "config.yaml:2:10: registries[0].match: expected string scalar"),
        ("registries: [\n", "config.yaml:1:13: registries: unclosed bracket '['"),
        (
            "a: 1\n---\nb: 2\n",
            "config.yaml:1:1: a: unknown key; allowed here: registries, defaults, registriesFile",
        ),
        (
            "registries: []\n---\nregistries: []\n",
            "config.yaml:3:1: the file has several YAML documents; write one",
        ),
    ] {
        assert_eq!(refusal(config), expected);
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_at_its_line() {
    let entry = |rest: &str| refusal(&format!("registries:\n- match: a.io\n  {rest}\n"));
    for (rest, expected) in [
        ("mirrors: [{ url: m.example }]", "mirrors[0].url: the endpoint is not a URL"),
        ("mirrors: [{ url: 'ftp://m' }]", "mirrors[0].url: the endpoint's scheme must be https or http"),
        ("mirrors: [{ url: 'https://u:p@m' }]", "mirrors[0].url: the endpoint's URL must not hold a user"),
        ("resolveFrom: mirrors-only", "resolveFrom: asks mirrors, but neither this entry nor registriesFile"),
        ("offline: true\n  allowPrivate: false", "allowPrivate: has no effect: an offline registry"),
        ("offline: true\n  resolveFrom: upstream", "resolveFrom: has no effect: an offline registry"),
        (
            "credentials: { secretRef: { namespace: a/b, name: x } }",
            "credentials.secretRef.namespace: is not a valid Kubernetes name",
        ),
    ] {
        let refused = entry(rest);
        assert!(refused.contains(&format!("registries[0].{expected}")), "{refused}");
        assert!(refused.starts_with("config.yaml:2:") || refused.starts_with("config.yaml:3:"), "{refused}");
    }
    for (rest, expected) in [
        ("tls: { caOnly: true }", "tls.caOnly: has no effect without caFile"),
        ("tls: { clientCert: { certFile: a, keyFile: b } }", "tls.clientCert.keyFile: read b: No such file"),
        ("pullThrough: [a/, 'https://b']", "pullThrough[1]: write the prefix of repository paths"),
        ("offline: true\n  confirmDigest: auto", "confirmDigest: has no effect: an offline registry"),
        ("offline: true\n  notFoundIsProof: false", "notFoundIsProof: has no effect: an offline registry"),
        ("trustedRealms: ['https://a.io']", "trustedRealms[0]: write the host of the token service"),
        ("trustedRealms: [a.io, 'b.io:8443']", "trustedRealms[1]: write the host of the token service"),
        (
            "mirrors: [{ url: 'https://m', capabilities: [resolve] }]",
            "mirrors[0].capabilities: must include pull",
        ),
        (
            "mirrors: [{ url: 'https://m', rewrite: { '(': x } }]",
            "mirrors[0].rewrite: \"(\" is not a regular",
        ),
        (
            "resolveFrom: mirrors-only\n  notFoundIsProof: true\n  mirrors: [{ url: 'https://m' }]",
            "notFoundIsProof: has no effect: only the mirrors of this entry are asked; write it to a mirror",
        ),
        (
            "mirrors: [{ url: 'https://m', capabilities: [pull], notFoundIsProof: true }]",
            "mirrors[0].notFoundIsProof: has no effect: this mirror resolves no tags",
        ),
        (
            "resolveFrom: mirrors-only\n  mirrors: [{ url: 'https://m', capabilities: [pull] }]",
            "resolveFrom: asks mirrors, but none of them has the capability resolve: add it to one, or write resolveFrom: upstream",
        ),
    ] {
        let refused = entry(rest);
        assert!(refused.contains(&format!("registries[0].{expected}")), "{refused}");
    }
    for ttl in ["2h", "-1s", "60", "soon"] {
        let refused = refusal(&format!("registries: []\ndefaults: {{ tagTTL: '{ttl}' }}\n"));
        assert!(
            refused.starts_with("config.yaml:2:21: defaults.tagTTL: write a time of at most"),
            "{refused}"
        );
    }
    for pattern in ["https://a.io", "a.io/team", "a.io:*", "a..io", "", "a?.io", "[a-z].io", "a io"] {
        let refused = refusal(&format!("registries: [{{ match: '{pattern}' }}]"));
        assert!(refused.contains("registries[0].match: write a host"), "{pattern}: {refused}");
    }
    assert!(refusal("registries: [{ match: index.docker.io }]").contains("write docker.io"));
}

#[test]
fn an_entry_that_would_never_count_is_refused() {
    for second in ["A.example.com", "'*.example.com'"] {
        let refused =
            refusal(&format!("registries:\n- match: '*.example.com'\n- match: b.io\n- match: {second}\n"));
        assert!(
            refused.starts_with(
                "config.yaml:4:10: registries[2].match: registries[0] already matches these hosts"
            ),
            "{refused}"
        );
        assert!(refused.contains("and the first match wins"), "{refused}");
    }
    load(
        "registries: [{ match: a.example.com }, { match: '*.example.com' }, { match: 'a.example.com:5000' }]",
    );
}

#[test]
fn the_operators_credential_belongs_to_its_registries_alone() {
    let registries = load(
        "registries:
        - { match: open.example.com }
        - { match: '*.example.com', credentials: { secretRef: { namespace: ops, name: pull } } }",
    );
    match registries.credential("x.example.com") {
        Some(OperatorCredential::Secret { secret, entry }) => {
            assert_eq!((&*secret.namespace, &*secret.name, &*entry), ("ops", "pull", "*.example.com"));
        }
        other => panic!("{other:?}"),
    }
    for domain in ["open.example.com", "example.com", "x.example.com:5000", "ghcr.io"] {
        assert!(registries.credential(domain).is_none(), "{domain}");
    }
}

const K3S: &str = r#"
mirrors:
  docker.io:
    endpoint: ["http://10.41.0.1:5000"]
  ghcr.io:
    endpoint:
    - mirror.example
    - https://other.example:8443/v2/proxy
    - localhost:5000
    rewrite:
      "^acme/(.*)": "mirrored/${1}"
  reg.example:5000:
    endpoint: ["http://reg.example:5000"]
  quay.io:
  "*":
    endpoint: [https://every.example]
configs:
  mirror.example:
    auth: { username: robot, password: 12345 }
  own.example:
    auth: { auth: "YTpi" }
  token.example:
    auth: { auth: "YTpi", identity_token: hunter2 }
"#;

fn with_k3s(registries: &str, file: &str) -> Files {
    let config =
        format!("registries: {registries}\nregistriesFile: {{ format: k3s, path: registries.yaml }}\n");
    Files::new(&config).add("registries.yaml", file)
}

#[test]
fn registries_of_clouds_over_verified_tls_and_mirrors_of_the_nodes_may_be_in_a_private_network() {
    let registries = with_k3s(
        "[{ match: docker.io, resolveFrom: mirrors-only }, { match: gcr.io, tls: { insecureSkipVerify: true } }, \
          { match: ghcr.io, resolveFrom: mirrors-only, mirrors: [{ url: https://mine.example }] }]",
        K3S,
    )
    .load();
    let upstream = |domain: &str| registries.profile(domain).upstream.as_ref().unwrap().in_private_network;
    for (domain, private) in [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", true),
        ("europe-docker.pkg.dev", true),
        ("acme.azurecr.io", true),
        ("acme.azurecr.io:8443", false),
        ("acme.azurecr.io.evil.example", false),
        ("gcr.io", false),
        ("ghcr.io", false),
        ("registry.corp", false),
    ] {
        assert_eq!(upstream(domain), private, "{domain}");
    }
    let mirrors = |domain: &str| -> Vec<bool> {
        registries.profile(domain).mirrors.iter().map(|mirror| mirror.in_private_network).collect()
    };
    assert!(!mirrors("docker.io").is_empty() && mirrors("docker.io").iter().all(|private| *private));
    assert_eq!(mirrors("ghcr.io"), [false]);
}

#[test]
fn a_proxy_is_read_with_its_credential_and_its_mistakes_have_a_place() {
    let of = |rest: &str| format!("defaults:\n  {rest}\n");
    let files = Files::new(&of(
        "{ proxy: 'http://proxy.example:3128', noProxy: [.corp, 10.0.0.0/8], proxyCredentialsFile: proxy }",
    ));
    let network = files.add("proxy", "u:p:x\n").load().network();
    let url = |text: &str| url::Url::parse(text).unwrap();
    let way = network.proxy_for(&url("https://ghcr.io")).unwrap();
    let same = ProxyWay::new("http://proxy.example:3128", Some(Credential::basic("u".into(), "p:x".into())));
    assert_eq!(**way, same.unwrap());
    assert!(network.proxy_for(&url("https://a.corp")).is_none());
    assert!(network.proxy_for(&url("https://10.1.1.1")).is_none());
    for (rest, problem) in [
        ("proxy: 'http://u:p@proxy'", "proxy: write the URL of the proxy"),
        ("{ proxy: 'http://proxy', noProxy: ['a b'] }", "noProxy[0]: write a host"),
        ("noProxy: [a.example]", "noProxy: has no effect without proxy"),
        ("proxyCredentialsFile: proxy", "proxyCredentialsFile: has no effect without proxy"),
        ("{ proxy: 'http://proxy', proxyCredentialsFile: nowhere }", "proxyCredentialsFile: read "),
        (
            "{ proxy: 'http://proxy', proxyCredentialsFile: config.yaml }",
            "proxyCredentialsFile: the file must hold",
        ),
        ("tls: { caFile: config.yaml }", "tls.caFile: the CA file holds no PEM certificate"),
    ] {
        let said = refusal(&of(rest));
        assert!(
            said.starts_with("config.yaml:2:") && said.contains(&format!("defaults.{problem}")),
            "{said}"
        );
    }
}

#[test]
fn own_ranges_are_read_and_their_mistakes_have_a_place() {
    let of = |ranges: &str| format!("defaults:\n  privateNetworks: {ranges}\n");
    let network = load(&of("[10.20.0.0/16, 'fd12:3456::/32']")).network();
    assert_eq!(network.own.as_ref().map(|own| own.len()), Some(2));
    assert!(load(&of("[]")).network().own.is_none());
    let many = vec!["10.0.0.0/8"; 65].join(", ");
    for (ranges, problem) in [
        ("[10.20.0.0]", "privateNetworks[0]: write a range of addresses, such as 10.20.0.0/16"),
        (
            "[10.0.0.0/8, 10.20.3.4/16]",
            "privateNetworks[1]: is not the first address of the range: write 10.20.0.0/16",
        ),
        ("[127.0.0.0/8]", "privateNetworks[0]: is not a range of private addresses"),
        ("[169.254.0.0/16]", "privateNetworks[0]: is not a range of private addresses"),
        ("[0.0.0.0/0]", "privateNetworks[0]: is too large"),
        (&format!("[{many}]"), "privateNetworks: write at most 64 ranges"),
    ] {
        let said = refusal(&of(ranges));
        assert!(
            said.starts_with("config.yaml:2:") && said.contains(&format!("defaults.{problem}")),
            "{said}"
        );
    }
}

#[test]
fn in_a_cluster_no_own_range_holds_its_pods_or_services() {
    let files = Files::new("defaults:\n  privateNetworks: [10.20.0.0/16, 10.40.0.0/14, fd00::/32]\n");
    let config = files.path().join("config.yaml");
    let inside = |cluster: &[&str]| {
        let cluster = cluster.iter().map(|address| address.parse().unwrap()).collect();
        Current::load_inside(Some(&config), cluster).map_err(|error| error.to_string())
    };
    for (cluster, range, address) in [
        (&["10.42.0.7", "10.96.0.1"][..], 1, "10.42.0.7"),
        (&["10.244.0.7", "10.43.0.1"], 1, "10.43.0.1"),
        (&["10.244.0.7", "fd00::a:7"], 2, "fd00::a:7"),
        (&["::ffff:10.20.0.7"], 0, "::ffff:10.20.0.7"),
    ] {
        let said = inside(cluster).unwrap_err();
        let problem = format!("config.yaml: defaults.privateNetworks[{range}]: holds {address}, an address");
        assert!(said.contains(&problem), "{said}");
    }
    let current = inside(&["10.244.0.7", "10.96.0.1"]).unwrap();
    // A range that is added later is judged as well.
    fs::write(&config, "defaults:\n  privateNetworks: [10.96.0.0/12]\n").unwrap();
    let Reloaded::Refused(error) = current.reload() else { panic!() };
    assert!(error.to_string().contains("holds 10.96.0.1"), "{error}");
    assert_eq!(current.network().own.as_ref().map(|own| own.len()), Some(3));
}

#[test]
fn an_entry_takes_its_mirrors_from_the_nodes_file() {
    let registries =
        with_k3s("[{ match: docker.io, resolveFrom: mirrors-only, allowPrivate: true }]", K3S).load();
    let mirror = "http://10.41.0.1:5000/v2 anonymous private ns=docker.io";
    assert_eq!(authorities(&registries, "docker.io"), [mirror]);
    assert!(!registries.profile("docker.io").shows_credentials());
    assert_eq!(warnings(&registries), "");
}

#[test]
fn a_404_is_a_proof_where_the_operator_says_so() {
    let meanings = |registries: &Registries, domain: &str| {
        let profile = registries.profile(domain);
        let meaning = |at: &Endpoint| (at.not_found == NotFound::Proof, at.is_mirror);
        profile.mirrors.iter().chain(&profile.upstream).map(meaning).collect::<Vec<_>>()
    };
    let registries = with_k3s(
        "[{ match: docker.io, resolveFrom: mirrors-only, notFoundIsProof: true },
          { match: 'reg.example:5000', resolveFrom: mirrors-only, notFoundIsProof: true },
          { match: own.example, resolveFrom: mirrors-only, notFoundIsProof: true,
            mirrors: [{ url: https://a.example }, { url: https://own.example }] },
          { match: one.example, resolveFrom: mirrors-only,
            mirrors: [{ url: https://a.example }, { url: https://b.example, notFoundIsProof: true }] },
          { match: gcr.io, resolveFrom: mirrors-only }]",
        K3S,
    )
    .load();
    // The mirrors of the nodes' file are covered, and a registry that is written as a mirror of itself is none.
    assert_eq!(meanings(&registries, "docker.io"), [(true, true), (true, false)]);
    assert_eq!(meanings(&registries, "reg.example:5000"), [(true, false), (true, false)]);
    assert_eq!(meanings(&registries, "own.example"), [(false, true), (true, false), (true, false)]);
    assert_eq!(meanings(&registries, "one.example"), [(false, true), (true, true), (false, false)]);
    assert_eq!(meanings(&registries, "gcr.io"), [(false, true), (false, false)]);
    let entry = |domain| registries.profile(domain).entry.as_deref().map(str::to_owned);
    assert_eq!(entry("gcr.io").as_deref(), Some("gcr.io"));
    assert_eq!(entry("ghcr.io"), None);
}

#[test]
fn a_404_of_a_well_known_registry_counts_as_its_own_and_not_as_that_of_its_mirrors() {
    let entries = "[{ match: ghcr.io, resolveFrom: mirrors-then-upstream, \
                      mirrors: [{ url: https://ghcr.io }, { url: https://mirror.gcr.io }] },
                    { match: '*.azurecr.io', offline: true }]";
    let registries = Files::new(&format!("registries: {entries}\n")).load();
    let profile = registries.profile("ghcr.io");
    let meanings: Vec<NotFound> = profile.authorities().map(|endpoint| endpoint.not_found).collect();
    assert_eq!(meanings, [NotFound::Proof, NotFound::IfShown, NotFound::Proof]);
    for (domain, meaning) in [
        ("QUAY.io:443", NotFound::Proof),
        ("europe-docker.pkg.dev", NotFound::ProofToCredential),
        ("registry.example", NotFound::IfShown),
    ] {
        let profile = registries.profile(domain);
        assert_eq!(profile.upstream.as_ref().unwrap().not_found, meaning, "{domain}");
    }
}

#[test]
fn the_nodes_file_alone_changes_nobody_who_is_asked() {
    let registries = with_k3s("[]", K3S).load();
    assert_eq!(authorities(&registries, "docker.io"), ["https://registry-1.docker.io/v2 asker"]);
    assert_eq!(authorities(&registries, "ghcr.io"), ["https://ghcr.io/v2 asker"]);
}

#[test]
fn mirrors_of_an_entry_win_over_those_of_the_nodes_file() {
    let registries = with_k3s(
        "[{ match: docker.io, resolveFrom: mirrors-only, mirrors: [{ url: https://mine.example }] }]",
        K3S,
    )
    .load();
    assert_eq!(authorities(&registries, "docker.io"), ["https://mine.example/v2 anonymous ns=docker.io"]);
}

#[test]
fn endpoints_of_the_nodes_file_mean_what_they_mean_to_k3s() {
    let registries = with_k3s(
        "[{ match: ghcr.io, resolveFrom: mirrors-then-upstream }, { match: 'reg.example:5000', resolveFrom: \
         mirrors-only }, { match: gcr.io, resolveFrom: mirrors-only }]",
        K3S,
    )
    .load();
    assert_eq!(
        authorities(&registries, "ghcr.io"),
        [
            "https://mirror.example/v2 configuration of mirror.example ns=ghcr.io",
            "https://other.example:8443/v2/proxy anonymous ns=ghcr.io",
            "http://localhost:5000/v2 anonymous ns=ghcr.io",
            "https://ghcr.io/v2 asker",
        ]
    );
    let profile = registries.profile("ghcr.io");
    let paths: Vec<_> = profile.authorities().map(|endpoint| endpoint.repository("acme/api")).collect();
    assert_eq!(paths, ["mirrored/api", "mirrored/api", "mirrored/api", "acme/api"]);
    assert_eq!(authorities(&registries, "reg.example:5000"), ["http://reg.example:5000/v2 asker"]);
    assert_eq!(authorities(&registries, "gcr.io"), ["https://every.example/v2 anonymous ns=gcr.io"]);
    assert_eq!(profile.resolve_from, ResolveFrom::MirrorsThenUpstream);
}

#[test]
fn a_registry_that_the_nodes_file_gives_no_mirror_cannot_be_asked_at_mirrors_only() {
    let refused = with_k3s("[{ match: quay.io, resolveFrom: mirrors-only }]", K3S).refusal();
    assert!(refused.contains("registries[0].resolveFrom: asks mirrors"), "{refused}");
}

#[test]
fn a_credential_of_the_nodes_file_belongs_to_its_host_alone() {
    let registries = with_k3s("[]", K3S).load();
    let Some(OperatorCredential::Given(candidate)) = registries.credential("own.example") else { panic!() };
    assert_eq!(candidate.source, Source::Configuration("own.example".to_owned()));
    assert!(matches!(&candidate.credential, Credential::Basic { username, .. } if username == "a"));
    assert!(registries.credential("docker.io").is_none());
    let Some(OperatorCredential::Given(token)) = registries.credential("token.example") else { panic!() };
    assert!(matches!(token.credential, Credential::Identity(_)));
    let file = "configs: { '*': { auth: { username: u, password: hunter2 } } }";
    let registries = with_k3s("[]", file).load();
    assert!(registries.credential("evil.example").is_none());
    assert!(warnings(&registries).contains("configs.*.auth: has no effect"));
    assert!(!format!("{registries:?}").contains("hunter2"));
}

#[test]
fn an_entrys_secret_wins_over_a_credential_of_the_nodes_file() {
    let registries =
        with_k3s("[{ match: own.example, credentials: { secretRef: { namespace: ops, name: pull } } }]", K3S)
            .load();
    assert!(matches!(registries.credential("own.example"), Some(OperatorCredential::Secret { .. })));
}

#[test]
fn what_only_nodes_can_use_is_warned_of_and_not_refused() {
    let registries = with_k3s(
        "[{ match: docker.io, resolveFrom: mirrors-only }]",
        "
mirrors:
  docker.io:
    endpoint: ['https://m.example', 'ftp://x', 'https://m.example/v2']
    endpoints: [typo]
    rewrite: { a: b, c: d }
  registry-1.docker.io:
configs:
  m.example:
    tls: { ca_file: /node/only.pem, cert_file: a, key_file: b, insecure_skip_verify: true }
    auth: { identity_token: t }
",
    )
    .load();
    assert_eq!(
        authorities(&registries, "docker.io"),
        ["https://m.example/v2 configuration of m.example ns=docker.io"]
    );
    let said = warnings(&registries);
    for part in [
        "configs.m.example.tls.insecure_skip_verify: the certificate is not verified",
        "configs.m.example.tls.cert_file: a is not used: No such file",
        "configs.m.example.tls.ca_file: /node/only.pem is not used: No such file",
        "mirrors.docker.io: the endpoint \"ftp://x\" is ignored",
        "mirrors.docker.io.endpoints: has no effect: k3s has no such key",
        "mirrors.docker.io: has several rewrites",
        "mirrors.registry-1.docker.io: nodes do not use this",
    ] {
        assert!(said.contains(&format!("registries.yaml: {part}")), "{part} is not in\n{said}");
    }
    assert_eq!(registries.warnings().len(), 7, "{said}");
}

#[test]
fn a_rewrite_that_cannot_be_read_is_refused() {
    let file = "mirrors: { docker.io: { endpoint: [https://m], rewrite: { '(': x } } }";
    let refused = with_k3s("[]", file).refusal();
    assert!(refused.starts_with("registries.yaml: mirrors.docker.io: the rewrite \"(\""), "{refused}");
}

#[test]
fn a_nodes_file_that_is_not_there_or_not_yaml_is_refused() {
    let config = "registriesFile: { format: k3s, path: /does/not/exist }";
    assert_eq!(refusal(config), "read /does/not/exist: No such file or directory (os error 2)");
    let refused = with_k3s("[]", "mirrors: [").refusal();
    assert!(refused.starts_with("registries.yaml:1:10: mirrors: "), "{refused}");
}

#[test]
fn certificates_of_the_nodes_file_count_for_their_host() {
    let files = with_k3s("[{ match: docker.io, resolveFrom: mirrors-only }]", "");
    let ca = files.path().join("ca.pem");
    let text = format!(
        "mirrors: {{ docker.io: {{ endpoint: [https://m.example, https://n.example] }} }}
configs: {{ m.example: {{ tls: {{ ca_file: {} }} }} }}",
        ca.display()
    );
    let registries = files.add("ca.pem", CERTIFICATE).add("registries.yaml", &text).load();
    let profile = registries.profile("docker.io");
    let has_ca: Vec<bool> = profile.authorities().map(|endpoint| endpoint.tls.ca.is_some()).collect();
    assert_eq!(has_ca, [true, false]);
    assert!(registries.profile("m.example").upstream.as_ref().unwrap().tls.ca.is_some());
}

#[test]
fn every_example_of_the_document_can_be_used() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/registries.md")).unwrap();
    let examples: Vec<_> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        load(example);
    }
}

#[test]
fn a_file_that_is_large_or_none_is_refused_before_it_is_read() {
    let refused = |path: &str| Registries::load(Path::new(path)).map(drop).unwrap_err().to_string();
    assert_eq!(refused("/dev/zero"), "read /dev/zero: this is not a regular file");
    let files = Files::new(&format!("registries: []\n#{}", "x".repeat(4 * 1024 * 1024)));
    assert_eq!(files.refusal(), "read config.yaml: the file is larger than 4 MiB");
    let exact = "registries: []\n#";
    let fits = Files::new(&format!("{exact}{}", "x".repeat(4 * 1024 * 1024 - exact.len())));
    assert!(fits.load().warnings().is_empty());
}

#[test]
fn a_boolean_is_true_or_false_but_the_nodes_take_other_words() {
    for word in ["yes", "on", "\"yes\"", "Y"] {
        let said = refusal(&format!("registries: [{{ match: a.example, allowPrivate: {word} }}]"));
        assert!(said.contains("registries[0].allowPrivate: "), "{word}: {said}");
    }
    load("registries: [{ match: a.example, allowPrivate: true }]");
    let nodes = "configs: { m.example: { tls: { insecure_skip_verify: yes } } }";
    Files::new("registriesFile: { format: k3s, path: nodes.yaml }").add("nodes.yaml", nodes).load();
}

#[test]
fn a_private_address_that_nobody_allows_is_a_warning() {
    let mirrored = |more: &str| {
        load(&format!(
            "registries: [{{ match: docker.io, resolveFrom: mirrors-only, mirrors: [{{ url: 'https://10.0.0.5' }}]{more} }}]"
        ))
    };
    assert_eq!(
        mirrored("").warnings(),
        [
            "registries[0]: the mirror https://10.0.0.5/v2 has a private address: add allowPrivate: true to the entry match: \"docker.io\""
        ]
    );
    assert!(mirrored(", allowPrivate: true").warnings().is_empty());
    let registry = load("registries: [{ match: '10.0.0.5:5000', notFoundIsProof: true }]");
    assert!(registry.warnings()[0].contains("the registry https://10.0.0.5:5000/v2 has a private address"));
    let own = load(
        "registries: [{ match: '10.0.0.5:5000', notFoundIsProof: true }]\ndefaults: { privateNetworks: [10.0.0.0/24] }",
    );
    assert!(own.warnings().is_empty());
}
