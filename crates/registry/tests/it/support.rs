//! Shared parts of the tests of the client: a CA, a resolver, profiles, a listener.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_registry::{
    CaBundle, Candidate, Client, Credential, Endpoint, Event, ForPlatform, Lookup, Names, Network, NotFound,
    NotInspected, Observer, Profiles, RegistryProfile, Source, Transport,
};
use tokio::time::Instant;
use url::Url;

/// Time limit that is long enough for a busy machine; tests of time limits use their own.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Installs the TLS provider that `main` installs.
pub(super) fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// A CA for tests, with one certificate for every name that they use.
pub(super) struct Authority {
    pub(super) ca: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

pub(super) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names = [
        "registry.test",
        "auth.test",
        "other.test",
        "*.dkr.ecr.eu-central-1.amazonaws.com",
        "localhost",
        "127.0.0.1",
    ]
    .map(str::to_owned);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    Authority { ca: ca.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
});

impl Authority {
    pub(super) fn bundle(&self) -> CaBundle {
        CaBundle::parse(self.ca.as_bytes()).unwrap()
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        provider();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config).into()
    }
}

/// A resolver for tests; names under `.test` that are not listed are this machine.
#[derive(Default)]
pub(super) struct TestNames(pub(super) HashMap<String, Vec<IpAddr>>);

#[async_trait]
impl Names for TestNames {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self.0.get(host) {
            Some(addresses) => Ok(addresses.clone()),
            None if host.starts_with("nowhere.") => Err(io::ErrorKind::NotFound.into()),
            None if host.ends_with(".test") => Ok(vec![[127, 0, 0, 1].into()]),
            None => panic!("a test asked for the addresses of {host}"),
        }
    }
}

/// Profiles by domain, and the network; other domains have their default profile.
#[derive(Default)]
pub(super) struct TestProfiles(pub(super) HashMap<String, Arc<RegistryProfile>>, pub(super) Arc<Network>);

impl TestProfiles {
    pub(super) fn one(profile: RegistryProfile, domain: &str) -> Arc<Self> {
        Arc::new(Self(HashMap::from([(domain.to_owned(), Arc::new(profile))]), Arc::default()))
    }
}

impl Profiles for TestProfiles {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        self.0.get(domain).map_or_else(|| Arc::new(RegistryProfile::of(domain)), Arc::clone)
    }

    fn network(&self) -> Arc<Network> {
        Arc::clone(&self.1)
    }
}

/// Creates an endpoint on this machine, with the CA of the tests.
pub(super) fn endpoint(url: &str) -> Endpoint {
    let mut endpoint = Endpoint::new(Url::parse(url).unwrap()).unwrap();
    endpoint.allow_private = true;
    endpoint.tls.ca = Some(AUTHORITY.bundle());
    endpoint
}

/// Creates the profile of a registry with this endpoint alone, whose manifests are not looked into. Endpoints that are
/// added to it are asked one after the other, however slow this machine is.
pub(super) fn profile(endpoint: Endpoint) -> RegistryProfile {
    RegistryProfile {
        upstream: Some(endpoint),
        offline: false,
        looks_inside: false,
        head_start: PATIENCE,
        ..RegistryProfile::of("registry.test")
    }
}

/// Records steps and unused credentials as text.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<String>>);

impl Observer for Heard {
    fn observe(&self, event: &Event<'_>) {
        let text = match event {
            Event::Step { registry, step } => format!("{registry} {step:?}"),
            Event::CredentialUnused { registry, host, reason, about } => {
                let host = host.split(':').next().unwrap();
                format!("{registry} unused {} {about} of {host}", reason.word())
            }
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }

    fn wants_headers(&self) -> bool {
        false
    }
}

/// Creates a client whose only registry is at this URL, and returns the domain of the registry.
pub(super) fn client_of(url: &str) -> (Client, String) {
    client_of_one(endpoint(url))
}

/// Creates a client like [`client_of`] does, for a registry whose 404 proves that something is missing.
pub(super) fn client_of_telling(url: &str) -> (Client, String) {
    let mut endpoint = endpoint(url);
    endpoint.not_found = NotFound::Proof;
    client_of_one(endpoint)
}

fn client_of_one(endpoint: Endpoint) -> (Client, String) {
    let domain = format!("{}:{}", endpoint.root().host_str().unwrap(), endpoint.root().port().unwrap());
    (client(TestProfiles::one(profile(endpoint), &domain), TestNames::default(), Arc::new(())), domain)
}

pub(super) fn client(
    profiles: Arc<dyn Profiles>,
    names: impl Names + 'static,
    observer: Arc<dyn Observer>,
) -> Client {
    provider();
    Client::new(Transport::new(Arc::new(names)), profiles, observer)
}

pub(super) fn secret(name: &str, user: &str, password: &str) -> Candidate {
    let credential = Credential::Basic { username: user.to_owned(), password: SecretString::from(password) };
    Candidate::new(credential, Source::PullSecret(name.to_owned()))
}

pub(super) async fn ask(client: &Client, image: &str, candidates: &[Candidate]) -> String {
    ask_within(client, image, candidates, PATIENCE).await
}

pub(super) async fn ask_within(
    client: &Client,
    image: &str,
    candidates: &[Candidate],
    budget: Duration,
) -> String {
    let image = ImageRef::parse(image).unwrap();
    let anonymous = [Candidate::anonymous()];
    let candidates = if candidates.is_empty() { &anonymous } else { candidates };
    in_words(&client.look_up(&image, candidates, Instant::now() + budget).await)
}

/// Asks for the digest that the image names.
pub(super) async fn digest_within(
    client: &Client,
    image: &str,
    candidates: &[Candidate],
    budget: Duration,
) -> String {
    let image = ImageRef::parse(image).unwrap();
    let anonymous = [Candidate::anonymous()];
    let candidates = if candidates.is_empty() { &anonymous } else { candidates };
    in_words(&client.look_up_digest(&image, candidates, Instant::now() + budget).await)
}

/// Returns `linux/arm64 gets sha256:…`, or `linux/arm64 gets nothing of linux/amd64, …`, or the fact instead.
pub(super) async fn platform_within(
    client: &Client,
    image: &str,
    platform: &str,
    budget: Duration,
) -> String {
    let (image, wanted) = (ImageRef::parse(image).unwrap(), platform.parse().unwrap());
    let (digest, anonymous) = (image.digest().unwrap(), [Candidate::anonymous()]);
    match client.for_platform(&image, digest, &wanted, &anonymous, Instant::now() + budget).await {
        Ok(ForPlatform { digest: Some(digest), .. }) => format!("{wanted} gets {digest}"),
        Ok(ForPlatform { digest: None, has }) => {
            let has: Vec<String> = has.iter().map(ToString::to_string).collect();
            format!("{wanted} gets nothing of {}", has.join(", "))
        }
        Err(NotInspected::TooDeep) => "TooDeep".to_owned(),
        Err(NotInspected::Instead(fact)) => in_words(&fact),
    }
}

/// Returns `Listed 2.0 1.0`, with `and more` if the list is not complete, or the fact instead.
pub(super) async fn list_within(
    client: &Client,
    image: &str,
    candidates: &[Candidate],
    budget: Duration,
) -> String {
    let image = ImageRef::parse(image).unwrap();
    let anonymous = [Candidate::anonymous()];
    let candidates = if candidates.is_empty() { &anonymous } else { candidates };
    match client.list_tags(&image, candidates, Instant::now() + budget).await {
        Ok(list) => {
            let more = if list.whole { "" } else { " and more" };
            format!(
                "{}{more}",
                ["Listed".to_owned()].into_iter().chain(list.tags).collect::<Vec<_>>().join(" ")
            )
        }
        Err(fact) => in_words(&fact),
    }
}

/// Returns a fact in the words of the cases.
pub(super) fn in_words(fact: &Fact) -> String {
    match fact {
        Fact::Present(digest) => format!("Present {digest}"),
        Fact::CredentialsRejected { secret: Some(name) } => format!("CredentialsRejected {name}"),
        Fact::CredentialsRejected { secret: None } => "CredentialsRejected".to_owned(),
        Fact::RateLimited { retry_after: None, .. } => "RateLimited".to_owned(),
        Fact::RateLimited { retry_after: Some(wait), .. } => format!("RateLimited {}", wait.as_secs()),
        Fact::Unavailable { cause: Unavailable::Status(status), retry_after: Some(wait), .. } => {
            format!("Unavailable {status} {}", wait.as_secs())
        }
        Fact::Unavailable { cause: Unavailable::Status(status), .. } => format!("Unavailable {status}"),
        Fact::Unavailable { cause, .. } => format!("Unavailable {cause:?}"),
        Fact::AddressForbidden(host) => {
            let never = if host.never { " never" } else { "" };
            format!("AddressForbidden {} {:?}{never}", host.authority, host.position)
        }
        Fact::Artifact { digest, wasm: false } => format!("Artifact {digest}"),
        Fact::Artifact { digest, wasm: true } => format!("Artifact {digest} wasm"),
        Fact::Archived { restoring: false } => "Archived".to_owned(),
        Fact::Archived { restoring: true } => "Restoring".to_owned(),
        Fact::RealmNotTrusted(realm) => format!("RealmNotTrusted {} {}", realm.registry, realm.realm),
        Fact::MissingOrPrivate(_) => "MissingOrPrivate".to_owned(),
        Fact::AccessDenied(_) => "AccessDenied".to_owned(),
        Fact::Broken(broken) => format!("Broken {broken:?}"),
        other => format!("{other:?}"),
    }
}
