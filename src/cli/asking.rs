//! The options, the credentials and the messages of the commands that ask a registry.

use std::env;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use clap::ValueEnum;
use tokio::runtime;
use tokio::time::Instant;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::surroundings::Process;
use tagpin_domain::asker::Asker;
use tagpin_domain::denial::Violation;
use tagpin_domain::fact::{Class, Fact};
use tagpin_domain::image::ImageRef;
use tagpin_domain::remedy::{Entry, Holder, Setting, change};
use tagpin_domain::wording::{About, Wording};
use tagpin_registry::{
    Candidate, Clouds, Credential, Credentials, Current, Held, NoProxy, OperatorCredential,
    OperatorCredentials as _, Profiles, ProxyWay, RegistryProfile, SystemNames, Transport, UserConfig,
};

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
    /// Returns the person at the command line, with the registries file and the user's own credentials.
    pub(crate) fn person(&self) -> Result<Person, Failure> {
        let registries = Current::load(self.registries.as_deref()).map_err(Failure::wrong_use)?;
        let registries = Arc::new(match proxy_of_environment().map_err(Failure::wrong_use)? {
            Some((proxy, no_proxy)) => registries.through(proxy, no_proxy),
            None => registries,
        });
        let user = user_config().map_err(Failure::wrong_use)?;
        let transport = Arc::new(Transport::new(Arc::new(SystemNames)));
        let clouds = Arc::new(Clouds::new(
            Arc::clone(&transport),
            Arc::new(Process),
            Arc::clone(&registries) as _,
            Arc::new(()),
        ));
        Ok(Person { user, registries, transport, clouds, noted: Once::new() })
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
    pub(crate) transport: Arc<Transport>,
    clouds: Arc<Clouds>,
    /// Done once the note about a credential that a cloud did not give has been printed.
    noted: Once,
}

#[async_trait]
impl Credentials for Person {
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Held {
        let registries = self.registries.get();
        let profile = registries.profile(image.domain());
        if let Some(found) = self.at_hand(asker, image, &profile) {
            return found;
        }
        let own = self.user.of(image);
        match registries.credential(image.domain()) {
            Some(OperatorCredential::Cloud { access, entry }) => {
                let Some(registry) = profile.upstream.as_ref() else { return own.into() };
                let given = self.clouds.candidate(&access, registry, &entry, deadline).await;
                match given {
                    Ok(given) => vec![given].into(),
                    Err(error) => {
                        let (cloud, registry) = (access.word(), image.domain());
                        let text = format!("no credential of {cloud} for {registry}: {error}");
                        self.noted.call_once(|| output::note(&text));
                        vec![Candidate::not_given(&entry)].into()
                    }
                }
            }
            _ => own.into(),
        }
    }

    fn at_hand(&self, _asker: &Asker, image: &ImageRef, _profile: &RegistryProfile) -> Option<Held> {
        let own = self.user.of(image);
        if own.iter().any(|own| !matches!(own.credential, Credential::Anonymous)) {
            return Some(own.into());
        }
        match self.registries.get().credential(image.domain()) {
            Some(OperatorCredential::Given(given)) => Some(vec![Arc::unwrap_or_clone(given)].into()),
            Some(OperatorCredential::Cloud { .. }) => None,
            // A Secret of the cluster cannot be read here.
            _ => Some(own.into()),
        }
    }
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

fn user_config() -> anyhow::Result<UserConfig> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    match UserConfig::path(variable("DOCKER_CONFIG"), variable("HOME")) {
        None => Ok(UserConfig::default()),
        Some(file) => Ok(UserConfig::load(&file)?),
    }
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
    let wording = Wording::new(&violation, &About { reference, image: Some(image), entry, shown });
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
