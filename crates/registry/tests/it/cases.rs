//! `tests/cases/registry/*.yaml`: the answers of a registry, request by request, and the fact that they make. A new
//! case needs no Rust.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tagpin_registry::{
    Candidate, Confirm, Credential, Identity, IpNet, Network, NotFound, RegistryProfile, ResolveFrom, Source,
};

use super::scripted::{HOSTS, Scripted, Step};
use super::support::{
    Heard, PATIENCE, TestNames, TestProfiles, ask_within, client, digest_within, endpoint, list_within,
    platform_within, profile, secret,
};
use crate::files::{case_file, document};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Hosts that speak TLS; the others speak http.
    #[serde(default)]
    tls: Vec<String>,
    /// Hosts that may be private addresses; all of them if it is absent.
    private: Option<Vec<String>>,
    /// The operator's own ranges of private addresses.
    #[serde(default)]
    private_networks: Vec<String>,
    /// True if the host of the registry may have private addresses, but not loopback.
    #[serde(default)]
    in_private_network: bool,
    /// Names that resolve to other addresses.
    #[serde(default)]
    names: HashMap<String, Vec<IpAddr>>,
    /// The URL that is used instead of the registry at `registry.test`.
    upstream: Option<String>,
    /// The meaning of a 404 of the registry; that of a plain one if it is absent.
    #[serde(default)]
    not_found: Trust,
    #[serde(default)]
    mirrors: Vec<Mirror>,
    resolve_from: Option<String>,
    /// Hosts of token services that may see credentials, besides the registry's own.
    #[serde(default)]
    trusted: Vec<String>,
    confirm: Option<String>,
    /// True to read a single manifest that a tag names for the first time.
    #[serde(default)]
    looks_inside: bool,
    #[serde(default)]
    pull_through: Vec<String>,
    #[serde(default)]
    offline: bool,
    #[serde(default = "image")]
    image: String,
    #[serde(default)]
    credentials: Vec<Secret>,
    /// Milliseconds until the deadline.
    budget: Option<u64>,
    /// Milliseconds within which each fact must come, long before the deadline.
    within: Option<u64>,
    /// True to ask for the digest that the image names.
    #[serde(default)]
    digest: bool,
    /// Milliseconds that an endpoint gets alone; if it is absent, endpoints are asked one after the other.
    head_start: Option<u64>,
    /// True to list the tags; the fact is the list, or the answer instead of it.
    #[serde(default)]
    list: bool,
    /// The platform for which the digest of the image is inspected; the fact is the image that such a node gets.
    platform: Option<String>,
    /// The reason for which a credential of the case is not used.
    unused: Option<String>,
    script: Vec<Step>,
    fact: String,
    /// True to ask again with the same client.
    #[serde(default)]
    then: Vec<Again>,
}

fn image() -> String {
    "team/app:1".to_owned()
}

/// A meaning of a 404.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Trust {
    Proof,
    Credential,
    #[default]
    Shown,
}

impl From<Trust> for NotFound {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Proof => Self::Proof,
            Trust::Credential => Self::ProofToCredential,
            Trust::Shown => Self::IfShown,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirror {
    host: String,
    #[serde(default)]
    not_found: Trust,
    ns: Option<String>,
    #[serde(default)]
    asker: bool,
    own: Option<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    name: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    /// An identity token, instead of user and password.
    identity: Option<String>,
    /// A token for the registry, instead of user and password.
    registry: Option<String>,
    /// True if a cloud should have given a credential.
    #[serde(default)]
    not_given: bool,
    /// True if the secret could not be read in time.
    #[serde(default)]
    not_read: bool,
    /// True if this stands for the pull secrets of a service account that is not known.
    #[serde(default)]
    not_named: bool,
}

impl Secret {
    fn candidate(&self) -> Candidate {
        if self.not_given {
            return Candidate::not_given(&self.name);
        }
        if self.not_read {
            return Candidate::not_read(Source::PullSecret(self.name.clone()));
        }
        if self.not_named {
            return Candidate::not_named();
        }
        let token = match (&self.identity, &self.registry) {
            (None, None) => return secret(&self.name, &self.user, &self.password),
            (Some(token), _) => Credential::Identity(token.as_str().into()),
            (None, Some(token)) => Credential::Registry(token.as_str().into()),
        };
        Candidate::new(token, Source::PullSecret(self.name.clone()))
    }

    /// Returns the texts that no event may hold.
    fn hidden(&self) -> impl Iterator<Item = &String> {
        [&self.password]
            .into_iter()
            .chain(&self.identity)
            .chain(&self.registry)
            .filter(|text| !text.is_empty())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Again {
    #[serde(default)]
    credentials: Vec<Secret>,
    #[serde(default = "image")]
    image: String,
    script: Vec<Step>,
    fact: String,
}

impl Case {
    fn url(&self, scripted: &Scripted, host: &str) -> String {
        let scheme = if self.tls.iter().any(|name| name == host) { "https" } else { "http" };
        format!("{scheme}://{}", scripted.authority(host))
    }

    fn profiles(&self, scripted: &Scripted) -> TestProfiles {
        let own: Vec<IpNet> = self.private_networks.iter().map(|net| IpNet::parse(net).unwrap()).collect();
        let network = Network { own: (!own.is_empty()).then(|| own.into()), ..Network::default() };
        let mut profiles = TestProfiles(HashMap::new(), Arc::new(network));
        for host in HOSTS {
            let mut own = endpoint(&self.url(scripted, host));
            own.allow_private =
                self.private.as_ref().is_none_or(|private| private.iter().any(|name| name == host));
            profiles.0.insert(scripted.authority(host), Arc::new(profile(own)));
        }
        let domain = scripted.authority("registry");
        let mut registry = RegistryProfile::clone(&profiles.0[&domain]);
        registry.label = "test".into();
        registry.offline = self.offline;
        registry.looks_inside = self.looks_inside;
        registry.head_start = self.head_start.map_or(PATIENCE, Duration::from_millis);
        registry.pull_through = self.pull_through.clone().into();
        registry.confirm = match self.confirm.as_deref() {
            None => Confirm::Never,
            Some("auto") => Confirm::Auto,
            Some("always") => Confirm::Always,
            Some(other) => panic!("confirm: {other}"),
        };
        registry.resolve_from = match self.resolve_from.as_deref() {
            None => ResolveFrom::Upstream,
            Some("mirrors-then-upstream") => ResolveFrom::MirrorsThenUpstream,
            Some("mirrors-only") => ResolveFrom::MirrorsOnly,
            Some(other) => panic!("resolve_from: {other}"),
        };
        if let Some(upstream) = &self.upstream {
            registry.upstream = Some(endpoint(&scripted.fill(upstream)));
        }
        if let Some(upstream) = &mut registry.upstream {
            upstream.in_private_network = self.in_private_network;
            upstream.trusted_realms = self.trusted.clone().into();
            upstream.not_found = self.not_found.into();
        }
        registry.mirrors = self
            .mirrors
            .iter()
            .map(|mirror| {
                let mut endpoint = endpoint(&self.url(scripted, &mirror.host));
                endpoint.is_mirror = true;
                endpoint.not_found = mirror.not_found.into();
                endpoint.namespace = mirror.ns.as_ref().map(|ns| scripted.fill(ns));
                endpoint.identity = match &mirror.own {
                    Some(secret) => Identity::Own(Arc::new(secret.candidate())),
                    None if mirror.asker => Identity::Asker,
                    None => Identity::Anonymous,
                };
                endpoint
            })
            .collect();
        profiles.0.insert(domain, Arc::new(registry));
        profiles
    }
}

/// Replaces `body` after the first word by the hash of the last body of the script.
fn expected(fact: &str, script: &[Step], scripted: &Scripted) -> String {
    let fact = scripted.fill(fact);
    if !fact.contains(" body") {
        return fact;
    }
    let body = scripted.fill(&script.last().unwrap().body);
    let hex: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    fact.replacen(" body", &format!(" sha256:{hex}"), 1)
}

async fn play(case: Case) -> Result<(), String> {
    let scripted = Scripted::start(&case.tls).await;
    let heard = Arc::new(Heard::default());
    let names = TestNames(case.names.clone());
    let client = client(Arc::new(case.profiles(&scripted)), names, Arc::clone(&heard) as _);
    let budget = case.budget.map_or(PATIENCE, Duration::from_millis);
    let first =
        Again { credentials: case.credentials, image: case.image, script: case.script, fact: case.fact };
    for round in std::iter::once(first).chain(case.then) {
        scripted.expect(&round.script);
        let image = format!("{}/{}", scripted.authority("registry"), round.image);
        let candidates: Vec<Candidate> = round.credentials.iter().map(Secret::candidate).collect();
        let start = Instant::now();
        let fact = match &case.platform {
            Some(platform) => platform_within(&client, &image, platform, budget).await,
            None if case.digest => digest_within(&client, &image, &candidates, budget).await,
            None if case.list => list_within(&client, &image, &candidates, budget).await,
            None => ask_within(&client, &image, &candidates, budget).await,
        };
        let (took, most) = (start.elapsed(), case.within.map_or(Duration::MAX, Duration::from_millis));
        if took > most {
            return Err(format!("{}: {fact} after {took:?}, not within {most:?}", case.name));
        }
        let expected = expected(&round.fact, &round.script, &scripted);
        let complaints = scripted.complaints();
        let heard = heard.0.lock().unwrap();
        if fact != expected || !complaints.is_empty() {
            let heard = heard.join("\n    ");
            return Err(format!(
                "{}: {fact}, not {expected}\n  {}\n    {heard}",
                case.name,
                complaints.join("\n  ")
            ));
        }
        for secret in
            round.credentials.iter().flat_map(Secret::hidden).chain(["opaque-token".to_owned()].iter())
        {
            if heard.iter().any(|event| event.contains(secret.as_str())) {
                return Err(format!("{}: an event holds a secret", case.name));
            }
        }
    }
    wrongly_unused(&case.name, case.unused.as_deref(), &heard.0.lock().unwrap()).map_or(Ok(()), Err)
}

/// Returns what is wrong with the reports of credentials that were not used.
fn wrongly_unused(name: &str, expected: Option<&str>, heard: &[String]) -> Option<String> {
    let mut unused: Vec<&str> = heard.iter().filter_map(|event| event.strip_prefix("test unused ")).collect();
    unused.dedup();
    let expected: Vec<&str> = expected.into_iter().collect();
    (unused != expected).then(|| format!("{name}: unused {unused:?}, not {expected:?}"))
}

async fn play_all(file: &str, at_least: usize) {
    let cases: Vec<Case> = serde_saphyr::from_str(&case_file(file)).unwrap();
    assert!(cases.len() >= at_least, "{} cases in {file}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(play(case).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_registries_answer_becomes_facts() {
    play_all("registry/answers.yaml", 40).await;
}

#[tokio::test]
async fn a_404_proves_only_what_the_registry_tells_or_shows() {
    play_all("registry/not_found.yaml", 36).await;
}

/// The rows of the table, and their empty cells.
const PRODUCTS: [(&str, &[&str]); 30] = [
    ("distribution", &["private", "bad_credential", "limit"]),
    ("htpasswd", &["limit"]),
    ("token", &["limit"]),
    ("docker_hub", &[]),
    ("ghcr", &[]),
    ("ecr", &[]),
    ("public_ecr", &["private"]),
    ("gar", &[]),
    ("acr", &[]),
    ("quay", &[]),
    ("harbor", &[]),
    ("gitlab", &[]),
    ("zot", &[]),
    ("artifactory", &["limit"]),
    ("gitea", &["missing_repository", "private", "limit"]),
    ("nexus", &["limit"]),
    ("artifactory_remote", &[]),
    ("harbor_proxy", &[]),
    ("ecr_pull_through", &["bad_credential"]),
    ("acr_cache", &["bad_credential"]),
    ("gar_remote", &["missing_repository", "bad_credential"]),
    ("digitalocean", &["limit"]),
    ("scaleway", &["limit"]),
    ("alibaba", &["missing_repository", "limit"]),
    ("ocir", &["limit"]),
    ("icr", &["limit"]),
    ("nvcr", &["missing_repository", "limit"]),
    ("redhat", &["limit"]),
    ("forgejo", &["missing_repository", "private", "limit"]),
    ("gitlab_self_managed", &["limit"]),
];
const CELLS: [&str; 5] = ["missing_tag", "missing_repository", "private", "bad_credential", "limit"];

/// The files with the cases of the products, in the order of the rows.
const PRODUCT_FILES: [&str; 2] = ["registry/products.yaml", "registry/products-more.yaml"];

#[tokio::test]
async fn what_each_product_answers_becomes_the_same_facts() {
    let mut written = Vec::new();
    for file in PRODUCT_FILES {
        let cases: Vec<Case> = serde_saphyr::from_str(&case_file(file)).unwrap();
        written.extend(cases.into_iter().map(|case| case.name));
    }
    let of = |(product, empty): (&str, &[&str])| -> Vec<String> {
        let cells = CELLS.iter().filter(|cell| !empty.contains(cell));
        cells.map(|cell| format!("{product}_{cell}")).collect()
    };
    assert_eq!(written, PRODUCTS.into_iter().flat_map(of).collect::<Vec<_>>());
    for file in PRODUCT_FILES {
        play_all(file, 40).await;
    }
}

#[test]
fn each_product_with_cases_has_a_row_in_the_manual_and_each_row_its_cases() {
    let manual = document("registries.md");
    let (_, products) = manual.split_once("\n## Products\n").unwrap();
    let (products, _) = products.split_once("\n## ").unwrap();
    let rows = products.lines().filter_map(|line| line.strip_prefix("| ")).skip(2);
    let named: Vec<&str> =
        rows.map(|row| row.trim_end_matches(" |").rsplit(" | ").next().unwrap().trim_matches('`')).collect();
    assert_eq!(named, PRODUCTS.map(|(product, _)| product));
}

#[tokio::test]
async fn challenges_and_tokens_are_met_and_credentials_stay_where_they_belong() {
    play_all("registry/challenges.yaml", 36).await;
}

#[tokio::test]
async fn redirects_are_followed_only_as_far_as_is_safe() {
    play_all("registry/redirects.yaml", 10).await;
}

#[tokio::test]
async fn a_platform_gets_what_containerd_would_choose_of_indexes_inside_of_indexes() {
    play_all("registry/platforms.yaml", 8).await;
}

#[tokio::test]
async fn bytes_that_no_honest_registry_sends_are_survived() {
    play_all("registry/hostile.yaml", 10).await;
}

#[tokio::test]
async fn tags_are_listed_page_by_page_and_no_link_leads_astray() {
    play_all("registry/tags.yaml", 15).await;
}

#[tokio::test]
async fn a_digest_is_asked_for_by_digest_where_that_is_wanted_and_affordable() {
    play_all("registry/confirm.yaml", 12).await;
}

#[tokio::test]
async fn mirrors_are_asked_as_configured() {
    play_all("registry/mirrors.yaml", 8).await;
}

#[tokio::test]
async fn a_host_is_left_alone_only_if_that_is_its_own_fault() {
    play_all("registry/health.yaml", 9).await;
}

#[tokio::test]
async fn no_address_is_reached_that_nobody_allowed() {
    play_all("registry/addresses.yaml", 8).await;
}
