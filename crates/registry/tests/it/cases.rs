//! `tests/cases/registry/*.yaml`: the answers of a registry, request by request, and the fact that they make. A new
//! case needs no Rust.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tagpin_registry::{
    Candidate, Confirm, Credential, Identity, IpNet, Network, RegistryProfile, ResolveFrom, Source,
};

use super::scripted::{HOSTS, Scripted, Step};
use super::support::{
    Heard, PATIENCE, TestNames, TestProfiles, ask_within, client, endpoint, list_within, platform_within,
    profile, secret,
};
use crate::files::case_file;

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
    #[serde(default)]
    mirrors: Vec<Mirror>,
    resolve_from: Option<String>,
    /// Hosts of token services that may see credentials, besides the registry's own.
    #[serde(default)]
    trusted: Vec<String>,
    confirm: Option<String>,
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
    /// Milliseconds that an endpoint gets alone; if it is absent, endpoints are asked one after the other.
    head_start: Option<u64>,
    /// True to list the tags; the fact is the list, or the answer instead of it.
    #[serde(default)]
    list: bool,
    /// The platform for which the digest of the image is inspected; the fact is the image that such a node gets.
    platform: Option<String>,
    script: Vec<Step>,
    fact: String,
    /// True to ask again with the same client.
    #[serde(default)]
    then: Vec<Again>,
}

fn image() -> String {
    "team/app:1".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirror {
    host: String,
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
}

impl Secret {
    fn candidate(&self) -> Candidate {
        if self.not_given {
            return Candidate::not_given(&self.name);
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
        }
        registry.mirrors = self
            .mirrors
            .iter()
            .map(|mirror| {
                let mut endpoint = endpoint(&self.url(scripted, &mirror.host));
                endpoint.is_mirror = true;
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

/// Replaces `Present body` by the hash of the last body of the script.
fn expected(fact: &str, script: &[Step], scripted: &Scripted) -> String {
    match fact {
        "Present body" => {
            let body = scripted.fill(&script.last().unwrap().body);
            let hex: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("Present sha256:{hex}")
        }
        fact => scripted.fill(fact),
    }
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
        let fact = match &case.platform {
            Some(platform) => platform_within(&client, &image, platform, budget).await,
            None if case.list => list_within(&client, &image, &candidates, budget).await,
            None => ask_within(&client, &image, &candidates, budget).await,
        };
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
    Ok(())
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

/// The rows of the table, and their empty cells.
const PRODUCTS: [(&str, &[&str]); 15] = [
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
];
const CELLS: [&str; 5] = ["missing_tag", "missing_repository", "private", "bad_credential", "limit"];

#[tokio::test]
async fn what_each_product_answers_becomes_the_same_facts() {
    let cases: Vec<Case> = serde_saphyr::from_str(&case_file("registry/products.yaml")).unwrap();
    let written: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let of = |(product, empty): (&str, &[&str])| -> Vec<String> {
        let cells = CELLS.iter().filter(|cell| !empty.contains(cell));
        cells.map(|cell| format!("{product}_{cell}")).collect()
    };
    assert_eq!(written, PRODUCTS.into_iter().flat_map(of).collect::<Vec<_>>());
    play_all("registry/products.yaml", written.len()).await;
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
