//! Finds the credentials of an asker in a cluster: the pull secrets of its namespace, then the credential that the
//! operator configures for the registry. Secrets are read by name when they are needed, and never listed or watched.
//!
//! The order is the kubelet's: all pull secrets form one keyring, and the operator's credential comes after them as
//! the node's own would. An asker that has any credential for an image is never asked for anonymously. A secret that
//! cannot be used is skipped and counted; the kubelet skips a missing one too, but fails on a malformed one. A secret
//! that could not be read in time is no proof that the asker has no credential, and becomes a candidate of its own. So do
//! the secrets of a service account that is not known.

mod memory;
mod order;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::credential::{Candidate, Source};
use crate::credentials::cloud::Clouds;
use crate::credentials::docker_config::DockerConfig;
use crate::credentials::keyring::Keyring;
use crate::credentials::operator::{OperatorCredential, OperatorCredentials, SecretRef};
use crate::credentials::provider::{Credentials, Held, Search};
use crate::observe::{Event, Observer, Skipped, Unused};
use crate::profile::endpoint::RegistryProfile;
use crate::sharing::expiring::Expiring;
use crate::sharing::flight::Flights;
use crate::sharing::permits::Permits;
use tagpin_domain::asker::{Asker, Secrets};
use tagpin_domain::image::ImageRef;
use tagpin_domain::object_name::is_object_name;

use memory::{Memory, Reading};
use order::{Named, Own, in_order};

/// Time for which a secret, or the refusal to read it, is valid.
const LIFETIME: Duration = Duration::from_secs(30);
/// Time for which a missing secret counts as missing; it may be created right after the workload that names it.
const MISSING: Duration = Duration::from_secs(10);
/// Time for which a failure to read is valid.
const FAILED: Duration = Duration::from_secs(5);
/// Maximum time to read one secret, however many callers wait for it.
const BUDGET: Duration = Duration::from_secs(5);
/// Maximum number of pull secrets of one pod that are read. Nobody writes a pod with more by hand.
const PER_ASKER: usize = 16;
/// Maximum number of reads in flight, for one namespace and in all.
const READINGS: (usize, usize) = (8, 32);
/// Time between two warnings about the same secret.
const WARNED: Duration = Duration::from_secs(60 * 60);
/// Maximum number of secrets that are remembered as warned about.
const WARNINGS: usize = 256;

/// The namespaces whose pull secrets may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// None.
    Nobodys,
    /// These namespaces.
    Of(BTreeSet<String>),
    /// Every namespace.
    Everybodys,
}

/// Finds credentials in a cluster.
pub struct PullSecrets {
    client: Client,
    registries: Arc<dyn OperatorCredentials>,
    readable: Readable,
    observer: Arc<dyn Observer>,
    memory: Arc<Memory>,
    flights: Flights<SecretRef, Arc<Reading>>,
    clouds: Option<Arc<Clouds>>,
    /// The secrets that were warned about a while ago.
    warned: Expiring<SecretRef, ()>,
}

impl PullSecrets {
    /// Creates a reader on this client, which must not retry by itself, because deadlines are short.
    #[must_use]
    pub fn new(
        client: Client,
        registries: Arc<dyn OperatorCredentials>,
        readable: Readable,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (per_namespace, all) = READINGS;
        let flights = Flights::new(Permits::new([per_namespace], all));
        let warned = Expiring::new(WARNINGS);
        Self { client, registries, readable, observer, memory: Arc::default(), flights, clouds: None, warned }
    }

    /// Adds the clouds that give credentials where an entry says so.
    #[must_use]
    pub fn with_clouds(mut self, clouds: Clouds) -> Self {
        self.clouds = Some(Arc::new(clouds));
        self
    }

    /// Warns once an hour about a credential that is used for more repositories than its author may have meant. Nodes
    /// use it for them as well.
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
                "this pull secret is used for more repositories than its location names, by nodes as well: the location is \
                 only the start of their names; end it with a slash"
            );
        }
    }

    /// Reports pull secrets that name credential helpers, where the asker has no other credential: a person who made one
    /// from their own configuration believes that it holds the credential. The log has it once an hour.
    fn tell_of_helpers(&self, own: &Own, asker: &Asker, image: &ImageRef) {
        for secret in own.helpers(image) {
            let (namespace, host) = (&asker.namespace, image.domain());
            let registry = &self.registries.profile(host).label;
            let (reason, about) = (Unused::Helper, &format!("{namespace}/{secret}"));
            self.observer.observe(&Event::CredentialUnused { registry, host, reason, about });
            let (key, now) =
                (SecretRef { namespace: namespace.clone(), name: secret.to_owned() }, Instant::now());
            if self.warned.get(&key, now).is_none() {
                self.warned.put(key, (), now + WARNED);
                warn!(
                    namespace,
                    secret,
                    "this pull secret names a credential helper, which neither nodes nor tagpin run: write the user and the \
                     password into it"
                );
            }
        }
    }

    fn may_read(&self, namespace: &str) -> bool {
        match &self.readable {
            Readable::Nobodys => false,
            Readable::Of(namespaces) => namespaces.contains(namespace),
            Readable::Everybodys => true,
        }
    }

    /// Returns the secrets of the asker that are worth reading, in their order, each with its index in the list.
    fn named(&self, asker: &Asker) -> Vec<(usize, SecretRef)> {
        let mut secrets = Vec::new();
        for (index, name) in asker.secrets.names().iter().enumerate() {
            if name.is_empty() {
                // The API server allows empty names; the kubelet ignores them too.
            } else if !is_object_name(name) {
                self.observer.observe(&Event::SecretSkipped(Skipped::InvalidName));
            } else if secrets.len() == PER_ASKER {
                self.observer.observe(&Event::SecretSkipped(Skipped::TooMany));
                break;
            } else {
                secrets.push((index, SecretRef { namespace: asker.namespace.clone(), name: name.clone() }));
            }
        }
        secrets
    }

    async fn own(&self, asker: &Asker, deadline: Instant) -> Own {
        if !self.may_read(&asker.namespace) {
            return Own::NotReadable;
        }
        if asker.secrets == Secrets::Unknown {
            return Own::Unknown;
        }
        let read = async |(index, secret): (usize, SecretRef)| {
            let name = secret.name.clone();
            Named { index, name, reading: self.read(secret, deadline).await }
        };
        Own::Read(join_all(self.named(asker).into_iter().map(read)).await)
    }

    /// Returns the operator's credentials for the image's registry.
    async fn operators(&self, image: &ImageRef, deadline: Instant) -> Vec<Candidate> {
        match self.registries.credential(image.domain()) {
            Some(OperatorCredential::Cloud { access, entry }) => {
                let profile = self.registries.profile(image.domain());
                let Some((clouds, registry)) = self.clouds.as_ref().zip(profile.upstream.as_ref()) else {
                    return Vec::new();
                };
                let given = clouds.candidate(&access, registry, &entry, deadline).await;
                vec![given.unwrap_or_else(|_| Candidate::not_given(&entry))]
            }
            Some(OperatorCredential::Secret { secret, entry }) => {
                let reading = self.read(secret, deadline).await;
                let source = Source::Configuration(entry.as_ref().to_owned());
                match reading.as_ref().map_or(Err(Skipped::Unavailable), |reading| reading.keyring()) {
                    Ok(keyring) => {
                        let given = |candidate| Candidate { source: source.clone(), ..candidate };
                        keyring.look_up(image).into_iter().map(given).collect()
                    }
                    Err(Skipped::Unavailable) => vec![Candidate::not_read(source)],
                    Err(_) => Vec::new(),
                }
            }
            given => given_at_once(given).unwrap_or_default(),
        }
    }

    /// Returns the last read of a secret, while it is valid.
    fn known(&self, secret: &SecretRef) -> Option<Arc<Reading>> {
        self.memory.get(secret, Instant::now())
    }

    /// Reads a secret, or returns the read of the last 30 seconds; none if it does not arrive in time.
    async fn read(&self, secret: SecretRef, deadline: Instant) -> Option<Arc<Reading>> {
        let known = || self.known(&secret);
        if let Some(reading) = known() {
            return Some(reading);
        }
        let start = || {
            let (client, memory) = (self.client.clone(), Arc::clone(&self.memory));
            let (secret, observer) = (secret.clone(), Arc::clone(&self.observer));
            async move {
                let reading = Arc::new(fetch(client, &secret).await);
                let skipped = match &reading.content {
                    Err(why) => Some(*why),
                    Ok(keyring) => keyring.holds_tokens().then_some(Skipped::IdentityToken),
                };
                if let Some(why) = skipped {
                    observer.observe(&Event::SecretSkipped(why));
                    let SecretRef { namespace, name } = &secret;
                    debug!(namespace, secret = name, why = why.word(), "pull secret skipped");
                }
                memory.put(secret, Arc::clone(&reading), Instant::now());
                reading
            }
        };
        let reading = self.flights.join([&secret.namespace], secret.clone(), None, known, start);
        let reading = timeout_at(deadline, reading).await.ok().flatten();
        if reading.is_none() {
            self.observer.observe(&Event::SecretSkipped(Skipped::Unavailable));
        }
        reading
    }
}

#[async_trait]
impl Credentials for PullSecrets {
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Held {
        if !self.registries.profile(image.domain()).shows_credentials() {
            return Candidate::only_anonymous().into();
        }
        if asker.secrets == Secrets::Withheld {
            return withheld();
        }
        let (own, operators) = tokio::join!(self.own(asker, deadline), self.operators(image, deadline));
        let held = in_order(&own, operators, asker, image);
        if held.search != Search::Found {
            self.tell_of_helpers(&own, asker, image);
        }
        held.candidates
            .iter()
            .filter(|own| own.stretched)
            .for_each(|own| self.warn_of(&asker.namespace, own, image));
        held
    }

    fn at_hand(&self, asker: &Asker, image: &ImageRef, profile: &RegistryProfile) -> Option<Held> {
        if !profile.shows_credentials() {
            return Some(Candidate::only_anonymous().into());
        }
        if asker.secrets == Secrets::Withheld {
            return Some(withheld());
        }
        let operators = if profile.operators_credential {
            given_at_once(self.registries.credential(image.domain()))?
        } else {
            Vec::new()
        };
        let may_read = self.may_read(&asker.namespace);
        let secrets = asker.secrets.names();
        let own_unknown = may_read && asker.secrets == Secrets::Unknown;
        if operators.is_empty() && !own_unknown && (!may_read || secrets.is_empty()) {
            let search = if may_read { Search::NoneNamed } else { Search::NotReadable };
            return Some(Held { candidates: Candidate::only_anonymous().into(), search });
        }
        if !may_read {
            return Some(in_order(&Own::NotReadable, operators, asker, image));
        }
        if own_unknown {
            return Some(in_order(&Own::Unknown, operators, asker, image));
        }
        // The slow path counts the secrets that are skipped.
        if secrets.len() > PER_ASKER || !secrets.iter().all(|name| is_object_name(name)) {
            return None;
        }
        let named = |(index, name): (usize, &String)| {
            let secret = SecretRef { namespace: asker.namespace.clone(), name: name.clone() };
            let reading = Some(self.known(&secret)?);
            Some(Named { index, name: secret.name, reading })
        };
        let own = secrets.iter().enumerate().map(named).collect::<Option<Vec<_>>>()?;
        Some(in_order(&Own::Read(own), operators, asker, image))
    }
}

/// Returns the candidates of an asker whose credentials are withheld, the operator's included.
fn withheld() -> Held {
    Held { candidates: Candidate::only_anonymous().into(), search: Search::NotReadable }
}

/// Returns the operator's credential if it needs no request; none if it does.
fn given_at_once(credential: Option<OperatorCredential>) -> Option<Vec<Candidate>> {
    match credential {
        None => Some(Vec::new()),
        Some(OperatorCredential::Given(candidate)) => Some(vec![Arc::unwrap_or_clone(candidate)]),
        Some(OperatorCredential::Secret { .. } | OperatorCredential::Cloud { .. }) => None,
    }
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

/// Reads the key that the type of the secret determines, as the kubelet does (`secrets.MakeDockerKeyring`).
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
