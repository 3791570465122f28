//! The credentials of whoever asks: pull secrets of his own namespace, then what the operator gives for the registry,
//! else none. Secrets are read by name when they are needed, never listed or watched.
//!
//! The order is the kubelet's: all pull secrets are one keyring, the operator's credential comes after them as the
//! node's own would, and who has any credential for an image is never asked for anonymously. A secret that can not be
//! read is skipped and counted; the kubelet skips a missing one too, but fails on a malformed one.

mod memory;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::domain::asker::Asker;
use crate::domain::image::ImageRef;
use crate::registry::cloud::Clouds;
use crate::registry::config::{OperatorCredential, SecretRef};
use crate::registry::credential::{Candidate, Credential, Credentials, Source};
use crate::registry::current::Current;
use crate::registry::docker_config::DockerConfig;
use crate::registry::endpoint::{Profiles, RegistryProfile};
use crate::registry::expiring::Expiring;
use crate::registry::flight::Flights;
use crate::registry::keyring::{self, Keyring};
use crate::registry::slots::Slots;
use crate::registry::tally::{Skipped, Tally};

use memory::Memory;

/// How long a secret counts once it is read, and how long "we may not".
const LIFETIME: Duration = Duration::from_secs(30);
/// How long "there is none" counts: it may be created right after the workload that names it.
const MISSING: Duration = Duration::from_secs(10);
/// How long a failed reading counts.
const FAILED: Duration = Duration::from_secs(5);
/// What one reading may take, whoever waits for it.
const BUDGET: Duration = Duration::from_secs(5);
/// Pull secrets of one pod that are read; a pod with more is not one that somebody wrote.
const PER_ASKER: usize = 16;
/// Readings at once for one namespace, and in all.
const READINGS: (usize, usize) = (8, 32);
/// How often one secret is warned of.
const WARNED: Duration = Duration::from_secs(60 * 60);
/// Secrets that are remembered as warned of.
const WARNINGS: usize = 256;

/// Whose pull secrets are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// Nobody's: none is ever asked for.
    Nobodys,
    /// Those of these namespaces.
    Of(BTreeSet<String>),
    /// Everybody's.
    Everybodys,
}

/// Finds credentials in a cluster.
pub struct PullSecrets {
    client: Client,
    registries: Arc<Current>,
    readable: Readable,
    tally: Arc<dyn Tally>,
    memory: Arc<Memory>,
    flights: Flights<SecretRef, Arc<Reading>>,
    clouds: Option<Arc<Clouds>>,
    /// Secrets that have been warned of.
    warned: Expiring<SecretRef, ()>,
}

/// What a secret held when it was read.
struct Reading {
    content: Result<Keyring, Skipped>,
    until: Instant,
    bytes: usize,
}

impl PullSecrets {
    /// Reads with this client, which must not retry by itself: deadlines are short.
    #[must_use]
    pub fn new(client: Client, registries: Arc<Current>, readable: Readable, tally: Arc<dyn Tally>) -> Self {
        let (per_namespace, all) = READINGS;
        let flights = Flights::new(Slots::new([per_namespace], all));
        let warned = Expiring::new(WARNINGS);
        Self { client, registries, readable, tally, memory: Arc::default(), flights, clouds: None, warned }
    }

    /// With credentials of clouds where an entry says so.
    #[must_use]
    pub fn with_clouds(mut self, clouds: Clouds) -> Self {
        self.clouds = Some(Arc::new(clouds));
        self
    }

    /// Says once an hour that a credential goes further than its author may have meant, as it does on the nodes.
    fn warn_of(&self, namespace: &str, stretched: &Candidate, image: &ImageRef) {
        let Source::PullSecret(secret) = &stretched.source else { return };
        let (key, now) =
            (SecretRef { namespace: namespace.to_owned(), name: secret.clone() }, Instant::now());
        if self.warned.get(&key, now).is_none() {
            self.warned.put(key, (), now + WARNED);
            let repository = image.repository();
            warn!(
                namespace,
                secret,
                repository,
                "the location in this pull secret is only the start of a name, so it is used for repositories of \
                 other names too, by nodes as well: end it with a slash"
            );
        }
    }

    fn may_read(&self, namespace: &str) -> bool {
        match &self.readable {
            Readable::Nobodys => false,
            Readable::Of(namespaces) => namespaces.contains(namespace),
            Readable::Everybodys => true,
        }
    }

    /// The asker's secrets that are worth reading, in his order.
    fn named(&self, asker: &Asker) -> Vec<SecretRef> {
        let mut secrets = Vec::new();
        if !self.may_read(&asker.namespace) {
            return secrets;
        }
        for name in &asker.pull_secrets {
            if name.is_empty() {
                // The API server lets pods name secrets by nothing; the kubelet passes over them too.
            } else if !is_name(name) {
                self.tally.secret_skipped(Skipped::InvalidName);
            } else if secrets.len() == PER_ASKER {
                self.tally.secret_skipped(Skipped::TooMany);
                break;
            } else {
                secrets.push(SecretRef { namespace: asker.namespace.clone(), name: name.clone() });
            }
        }
        secrets
    }

    async fn own(&self, asker: &Asker, deadline: Instant) -> Vec<Arc<Reading>> {
        let readings = self.named(asker).into_iter().map(|secret| self.read(secret, deadline));
        join_all(readings).await.into_iter().flatten().collect()
    }

    /// What the operator gives for the image's registry.
    async fn operators(&self, image: &ImageRef, deadline: Instant) -> Vec<Candidate> {
        let registries = self.registries.get();
        match registries.credential(image.domain()) {
            Some(OperatorCredential::Cloud { access, entry }) => {
                let profile = registries.profile(image.domain());
                let Some((clouds, registry)) = self.clouds.as_ref().zip(profile.upstream.as_ref()) else {
                    return Vec::new();
                };
                let given = clouds.candidate(access, registry, entry, deadline).await;
                vec![given.unwrap_or_else(|_| Candidate::not_given(entry))]
            }
            Some(OperatorCredential::Secret { secret, entry }) => {
                let Some(reading) = self.read(secret.clone(), deadline).await else { return Vec::new() };
                let Ok(keyring) = &reading.content else { return Vec::new() };
                let source = Source::Configuration(entry.to_owned());
                let given = |candidate| Candidate { source: source.clone(), ..candidate };
                keyring.look_up(image).into_iter().map(given).collect()
            }
            given => given_at_once(given).unwrap_or_default(),
        }
    }

    /// What was read of a secret, while it counts.
    fn known(&self, secret: &SecretRef) -> Option<Arc<Reading>> {
        self.memory.get(secret, Instant::now())
    }

    /// A secret as it was at most 30 seconds ago; none when it does not come in time.
    async fn read(&self, secret: SecretRef, deadline: Instant) -> Option<Arc<Reading>> {
        let known = || self.known(&secret);
        if let Some(reading) = known() {
            return Some(reading);
        }
        let start = || {
            let (client, memory) = (self.client.clone(), Arc::clone(&self.memory));
            let (secret, tally) = (secret.clone(), Arc::clone(&self.tally));
            async move {
                let reading = Arc::new(fetch(client, &secret).await);
                let skipped = match &reading.content {
                    Err(why) => Some(*why),
                    Ok(keyring) => keyring.holds_tokens().then_some(Skipped::IdentityToken),
                };
                if let Some(why) = skipped {
                    tally.secret_skipped(why);
                    let SecretRef { namespace, name } = &secret;
                    debug!(namespace, secret = name, why = why.word(), "pull secret skipped");
                }
                memory.put(secret, Arc::clone(&reading), Instant::now());
                reading
            }
        };
        let reading = self.flights.join([&secret.namespace], secret.clone(), known, start);
        let reading = timeout_at(deadline, reading).await.ok().flatten();
        if reading.is_none() {
            self.tally.secret_skipped(Skipped::Unavailable);
        }
        reading
    }
}

#[async_trait]
impl Credentials for PullSecrets {
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Vec<Candidate> {
        if !self.registries.profile(image.domain()).shows_credentials() {
            return vec![Candidate::anonymous()];
        }
        let (own, operators) = tokio::join!(self.own(asker, deadline), self.operators(image, deadline));
        let candidates = in_order(&own, operators, image);
        candidates
            .iter()
            .filter(|own| own.stretched)
            .for_each(|own| self.warn_of(&asker.namespace, own, image));
        candidates
    }

    fn at_hand(
        &self,
        asker: &Asker,
        image: &ImageRef,
        profile: &RegistryProfile,
    ) -> Option<Cow<'static, [Candidate]>> {
        if !profile.shows_credentials() {
            return Some(Candidate::only_anonymous().into());
        }
        let operators = if profile.operators_credential {
            given_at_once(self.registries.get().credential(image.domain()))?
        } else {
            Vec::new()
        };
        let secrets = if self.may_read(&asker.namespace) { asker.pull_secrets.as_slice() } else { &[] };
        // What is passed over is counted by who reads them.
        if secrets.len() > PER_ASKER || !secrets.iter().all(|name| is_name(name)) {
            return None;
        }
        if secrets.is_empty() && operators.is_empty() {
            return Some(Candidate::only_anonymous().into());
        }
        let named = |name: &String| SecretRef { namespace: asker.namespace.clone(), name: name.clone() };
        let own = secrets.iter().map(|name| self.known(&named(name))).collect::<Option<Vec<_>>>()?;
        Some(in_order(&own, operators, image).into())
    }
}

/// What the operator gives for a registry; nothing when somebody has to be asked for it.
fn given_at_once(credential: Option<OperatorCredential<'_>>) -> Option<Vec<Candidate>> {
    match credential {
        None => Some(Vec::new()),
        Some(OperatorCredential::Given(candidate)) => Some(vec![candidate.clone()]),
        Some(OperatorCredential::Secret { .. } | OperatorCredential::Cloud { .. }) => None,
    }
}

/// The asker's own credentials before the operator's, each once; never empty.
fn in_order(own: &[Arc<Reading>], operators: Vec<Candidate>, image: &ImageRef) -> Vec<Candidate> {
    let keyrings: Vec<&Keyring> = own.iter().filter_map(|reading| reading.content.as_ref().ok()).collect();
    let mut candidates = keyring::look_up(&keyrings, image);
    for candidate in operators {
        // Who has a credential is never asked for without one.
        let in_vain = matches!(candidate.credential, Credential::NotGiven) && !candidates.is_empty();
        if !in_vain && !candidates.iter().any(|earlier| earlier.id == candidate.id) {
            candidates.push(candidate);
        }
    }
    if candidates.is_empty() {
        candidates.push(Candidate::anonymous());
    }
    candidates
}

async fn fetch(client: Client, secret: &SecretRef) -> Reading {
    let api: Api<Secret> = Api::namespaced(client, &secret.namespace);
    let answer = timeout(BUDGET, api.get(&secret.name)).await;
    let (content, lifetime, bytes) = match answer {
        Ok(Ok(object)) => {
            let bytes = object.data.iter().flatten().map(|(_, value)| value.0.len()).sum();
            (content(&object, &secret.name), LIFETIME, bytes)
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => (Err(Skipped::NotFound), MISSING, 0),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            (Err(Skipped::Forbidden), LIFETIME, 0)
        }
        Ok(Err(_)) | Err(_) => (Err(Skipped::Unavailable), FAILED, 0),
    };
    Reading { content, until: Instant::now() + lifetime, bytes }
}

/// The type decides which key counts, as for the kubelet (`secrets.MakeDockerKeyring`).
fn content(secret: &Secret, name: &str) -> Result<Keyring, Skipped> {
    let data = |key| {
        let value = secret.data.as_ref()?.get(key)?;
        (!value.0.is_empty()).then_some(value.0.as_slice())
    };
    let config = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").map(DockerConfig::from_config_json)
        }
        Some("kubernetes.io/dockercfg") => data(".dockercfg").map(DockerConfig::from_dockercfg),
        _ => None,
    };
    let config = config.ok_or(Skipped::WrongType)?.map_err(|_| Skipped::Malformed)?;
    let mut keyring = Keyring::default();
    keyring.add(&config, &Source::PullSecret(name.to_owned()));
    Ok(keyring)
}

/// Whether a secret can have this name. It becomes part of a path, and pods may name their secrets by any text.
fn is_name(name: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    name.len() <= 253 && name.bytes().all(byte) && !name.starts_with('.') && !name.ends_with('.')
}
