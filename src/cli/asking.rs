//! The options, the credentials and the messages of the commands that ask a registry.

use std::collections::BTreeSet;
use std::env;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use clap::ValueEnum;
use parking_lot::Mutex;
use tokio::runtime;
use tokio::time::Instant;

use crate::cli::exit::{Exit, Failure};
use crate::cli::laptop::Laptop;
use crate::cli::output;
use crate::surroundings::Process;
use crate::surroundings::helper::Programs;
use tagpin_domain::asker::Asker;
use tagpin_domain::denial::Violation;
use tagpin_domain::fact::{Class, Fact};
use tagpin_domain::image::ImageRef;
use tagpin_domain::remedy::{Entry, Holder, Setting, change};
use tagpin_domain::wording::{About, Wording};
use tagpin_registry::{
    Candidate, Clouds, Credentials, Current, Event, Held, NoProxy, Observer, OperatorCredential,
    OperatorCredentials as _, OwnCredentials, Profiles, ProxyWay, RegistryProfile, Search, SystemNames,
    Transport, Unused, UserConfig,
};

/// Variable that the kubelet sets in every container.
const POD: &str = "KUBERNETES_SERVICE_HOST";

/// The options.
#[derive(Debug, clap::Args)]
pub(crate) struct Asking {
    /// File with the `registries:` configuration, as in the chart's values; in a pod of the chart it is the operator's
    #[arg(long, env = "TAGPIN_REGISTRIES", value_name = "FILE")]
    registries: Option<PathBuf>,

    /// Time limit for the whole command, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,

    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Lines to read
    Text,
    /// One JSON object, whose fields stay
    Json,
}

impl Asking {
    /// Returns the person at the command line who asks about this image, with the registries file and the user's own
    /// credentials. With `as_cluster`, or inside a pod, a registry is asked as the cluster asks it.
    pub(crate) fn person(&self, image: &ImageRef, as_cluster: bool) -> Result<Person, Failure> {
        let registries = Current::load(self.registries.as_deref()).map_err(Failure::wrong_use)?;
        let registries = Arc::new(match proxy_of_environment().map_err(Failure::wrong_use)? {
            Some((proxy, no_proxy)) => registries.through(proxy, no_proxy),
            None => registries,
        });
        let files = UserConfig::paths(|name| env::var_os(name).map(PathBuf::from));
        let user = UserConfig::load(&files, Arc::new(Programs)).map_err(Failure::wrong_use)?;
        let own_machine = !as_cluster && env::var_os(POD).is_none();
        let laptop = own_machine.then(|| Arc::new(Laptop::new(Arc::clone(&registries), image.domain())));
        let transport = Arc::new(Transport::new(Arc::new(SystemNames)));
        let notes = Arc::new(Notes::default());
        let clouds = Arc::new(Clouds::new(
            Arc::clone(&transport),
            Arc::new(Process),
            Arc::clone(&registries) as _,
            Arc::clone(&notes) as _,
        ));
        Ok(Person { user, registries, laptop, transport, clouds, notes })
    }

    /// Returns the time limit for the whole command.
    pub(crate) fn budget(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    /// Runs `answer` on a new runtime, and returns its result.
    pub(crate) fn wait_for<T>(&self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("start").map_err(Failure::could_not_find_out)?;
        Ok(runtime.block_on(answer))
    }
}

/// The person at the command line. Their own credentials come before those that the registries file gives.
pub(crate) struct Person {
    user: UserConfig,
    pub(crate) registries: Arc<Current>,
    /// The rules for the registry that the person types; none if the cluster's rules apply.
    laptop: Option<Arc<Laptop>>,
    pub(crate) transport: Arc<Transport>,
    clouds: Arc<Clouds>,
    notes: Arc<Notes>,
}

/// The notes about credentials that have been printed, each once.
#[derive(Default)]
struct Notes(Mutex<BTreeSet<String>>);

impl Notes {
    fn print(&self, text: &str) {
        if self.0.lock().insert(text.to_owned()) {
            output::note(text);
        }
    }
}

impl Observer for Notes {
    fn observe(&self, event: &Event<'_>) {
        match event {
            // The error of the cloud names the region.
            Event::CredentialUnused { reason: Unused::Region, .. } => {}
            Event::CredentialUnused { host, reason, about, .. } => self.print(&unused(host, *reason, about)),
            _ => {}
        }
    }

    fn wants_headers(&self) -> bool {
        false
    }
}

/// Returns the sentence for a credential that is configured for the registry at this host, and was not used.
pub(crate) fn unused(host: &str, reason: Unused, about: &str) -> String {
    match reason {
        Unused::Region => {
            format!(
                "no credential for {host}: add {about} to aws.regions of the entry that names its credentials"
            )
        }
        Unused::Realm => format!("the credential for {host} is not sent to {about}, which no entry trusts"),
        Unused::Helper => format!(
            "the pull secret {about} names a credential helper for {host}, which neither nodes nor tagpin run: write the \
             user and the password into the secret"
        ),
        Unused::Right => format!(
            "the identity in the cloud has no right {about} for {host}: an image in the archive counts as missing"
        ),
    }
}

impl Person {
    /// Returns the rules by which registries are asked.
    pub(crate) fn profiles(&self) -> Arc<dyn Profiles> {
        match &self.laptop {
            Some(laptop) => Arc::clone(laptop) as _,
            None => Arc::clone(&self.registries) as _,
        }
    }

    /// Returns the rules for the registry that the person types; none if the cluster's rules apply.
    pub(crate) const fn laptop(&self) -> Option<&Arc<Laptop>> {
        self.laptop.as_ref()
    }

    /// Returns the person's own credentials, and prints which helpers failed.
    async fn own(&self, image: &ImageRef, deadline: Instant) -> Vec<Candidate> {
        let OwnCredentials { candidates, failed } = self.user.of(image, deadline).await;
        failed.iter().for_each(|failure| self.notes.print(&failure.to_string()));
        candidates
    }
}

#[async_trait]
impl Credentials for Person {
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Held {
        let profile = self.profiles().profile(image.domain());
        if let Some(held) = self.at_hand(asker, image, &profile) {
            return held;
        }
        let own = match profile.shows_credentials() {
            true => self.own(image, deadline).await,
            false => vec![Candidate::anonymous()],
        };
        if own.iter().any(|own| own.credential.is_secret()) {
            return own.into();
        }
        match self.registries.credential(image.domain()) {
            Some(OperatorCredential::Cloud { access, entry }) => {
                let Some(registry) = profile.upstream.as_ref() else { return own.into() };
                match self.clouds.candidate(&access, registry, &entry, deadline).await {
                    Ok(given) => found(given),
                    Err(error) => {
                        let (cloud, registry) = (access.word(), image.domain());
                        self.notes.print(&format!("no credential of {cloud} for {registry}: {error}"));
                        vec![Candidate::not_given(&entry)].into()
                    }
                }
            }
            Some(OperatorCredential::Given(given)) => found(Arc::unwrap_or_clone(given)),
            // A Secret of the cluster cannot be read here.
            Some(OperatorCredential::Secret { .. }) | None => own.into(),
        }
    }

    fn at_hand(&self, _asker: &Asker, image: &ImageRef, _profile: &RegistryProfile) -> Option<Held> {
        let own = self.user.at_hand(image)?;
        if own.iter().any(|own| own.credential.is_secret()) {
            return Some(own.into());
        }
        match self.registries.credential(image.domain()) {
            Some(OperatorCredential::Given(given)) => Some(found(Arc::unwrap_or_clone(given))),
            Some(OperatorCredential::Cloud { .. }) => None,
            Some(OperatorCredential::Secret { .. }) | None => Some(own.into()),
        }
    }
}

/// Returns the credential of an entry as the only one.
fn found(given: Candidate) -> Held {
    Held { candidates: vec![given].into(), search: Search::Found }
}

/// Returns the proxy of `HTTPS_PROXY` and the hosts of `NO_PROXY`, in capitals or small letters, as other programs of
/// the person use them. A user and a password in the URL are its credential.
fn proxy_of_environment() -> anyhow::Result<Option<(ProxyWay, NoProxy)>> {
    let variable = |name: &str| {
        [name.to_owned(), name.to_ascii_lowercase()]
            .iter()
            .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    };
    let Some(proxy) = variable("HTTPS_PROXY") else { return Ok(None) };
    let proxy = ProxyWay::with_user(&proxy).context("HTTPS_PROXY")?;
    let mut no_proxy = NoProxy::default();
    for rule in
        variable("NO_PROXY").iter().flat_map(|rules| rules.split(',')).filter(|rule| !rule.trim().is_empty())
    {
        no_proxy.add(rule).with_context(|| format!("NO_PROXY: {rule}"))?;
    }
    Ok(Some((proxy, no_proxy)))
}

/// Returns `Present`, `Offline`, or the code that a refusal would have.
pub(crate) fn outcome(fact: &Fact) -> &'static str {
    match Violation::of(fact) {
        Some(violation) => violation.code().as_str(),
        None if fact.class() == Class::Offline => "Offline",
        None => "Present",
    }
}

/// Returns the problem and the remedy, or none if the image exists.
pub(crate) fn problem(image: &ImageRef, fact: &Fact, registries: &dyn Profiles) -> Option<(String, String)> {
    let profile = registries.profile(image.domain());
    let entry = profile.entry.as_deref();
    if fact.class() == Class::Offline {
        let problem = format!("{} is offline: it is never asked", image.domain());
        let asked = Entry::new(image.domain(), entry, Setting::Asked);
        return Some((problem, format!("to ask it all the same, {}", change(&[asked], Holder::File))));
    }
    let violation = Violation::of(fact)?;
    let (reference, shown) = (image.original(), fact.shows_repository());
    let wording =
        Wording::new(&violation, &About { reference, image: Some(image), entry, shown, container: None });
    Some((wording.problem(), wording.remedy()))
}

/// Returns the exit code of a command whose answer is this fact.
pub(crate) const fn exit(fact: &Fact) -> Exit {
    match fact.class() {
        Class::Present => Exit::Fine,
        Class::Definite => Exit::Violations,
        Class::Unauthorized | Class::Unavailable | Class::Forbidden | Class::Offline => Exit::CouldNotFindOut,
    }
}
