//! Joins the parts that answer reviews. `tagpin serve`, the benchmarks and the tests all call it, so that they measure
//! and test the code that ships.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use jiff::Timestamp;

use crate::settings;
use crate::surroundings::Process;
use crate::telemetry::Metrics;
use tagpin_kube::Cluster;
use tagpin_kube::node_images::ListedNodes;
use tagpin_registry::{
    Around, BUDGET, Cache, Client, Clouds, Credentials, Current, Gate, Limit, Lookup, PullSecrets, Readable,
    RegistryMetrics, Suggestions, SystemNames, Transport,
};
use tagpin_review::Suggest;
use tagpin_webhook::door::Door;
use tagpin_webhook::metrics::Metrics as AdmissionMetrics;
use tagpin_webhook::remembered::Remembered;
use tagpin_webhook::{Admission, Registries};

/// Maximum number of reviews in flight. Further reviews are refused with status 503.
pub const IN_FLIGHT: usize = 256;

/// The parts that answering reviews is built from.
pub struct Parts<'a> {
    /// The stores that the watches fill.
    pub cluster: Arc<Cluster>,
    /// The client of the API server, for pull secrets and the images of nodes.
    pub api: kube::Client,
    /// The configuration of registries in force.
    pub registries: Arc<Current>,
    /// The namespaces whose pull secrets may be read.
    pub pull_secrets: settings::PullSecrets,
    /// User names of the built-in controllers.
    pub controller_identities: BTreeSet<String>,
    /// Namespaces whose objects are not judged.
    pub excluded_namespaces: BTreeSet<String>,
    /// Maximum number of reviews in flight ([`IN_FLIGHT`] in what ships).
    pub in_flight: usize,
    /// The tokens by which the API server is told from other callers.
    pub door: Arc<Door>,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// The registry of metrics that the counters are registered with.
    pub metrics: &'a mut Metrics,
}

/// The joined parts.
pub struct Composed<L> {
    /// `/mutate` and `/validate`.
    pub router: Router,
    /// The look-ups and suggestions that the router uses.
    pub registries: Registries,
    /// The cache behind these look-ups.
    pub cache: Arc<Cache<Limit<L>>>,
    /// The client of registries, which knows which hosts are not asked for a moment.
    pub client: Client,
    /// The counters of requests to registries.
    pub asked: RegistryMetrics,
    /// The most frequent findings of the router.
    pub remembered: Arc<Remembered>,
}

/// Joins the parts around the client of registries.
#[must_use]
pub fn compose(parts: Parts<'_>) -> Composed<Client> {
    compose_around(parts, |Inside { client, credentials, gate }| {
        let suggest = Suggestions::new(client.clone(), credentials, gate, BUDGET);
        (client, Arc::new(suggest))
    })
}

/// The parts inside the limits and the cache.
pub struct Inside {
    /// The client of registries.
    pub client: Client,
    /// The credentials that an asker holds.
    pub credentials: Arc<dyn Credentials>,
    /// The gate that look-ups and suggestions share.
    pub gate: Arc<Gate>,
}

/// Joins the parts as [`compose`] does, but around the look-up and the suggestions that `innermost` returns.
pub fn compose_around<L: Lookup + 'static>(
    parts: Parts<'_>,
    innermost: impl FnOnce(Inside) -> (L, Arc<dyn Suggest>),
) -> Composed<L> {
    let Parts {
        cluster,
        api,
        registries,
        pull_secrets,
        controller_identities,
        excluded_namespaces,
        in_flight,
        door,
        now,
        metrics,
    } = parts;
    let nodes = Arc::new(ListedNodes::new(api.clone()));
    let asked = RegistryMetrics::register(metrics);
    let observer = Arc::new(asked.clone());
    let readable = match pull_secrets {
        settings::PullSecrets::Off => Readable::Nobodys,
        settings::PullSecrets::Namespaces(namespaces) => Readable::Of(namespaces),
        settings::PullSecrets::Cluster => Readable::Everybodys,
    };
    let transport = Arc::new(Transport::new(Arc::new(SystemNames)));
    let clouds = Clouds::new(Arc::clone(&transport), Arc::new(Process), registries.clone(), observer.clone());
    let credentials: Arc<dyn Credentials> =
        Arc::new(PullSecrets::new(api, registries.clone(), readable, observer.clone()).with_clouds(clouds));
    let client = Client::new(transport, registries.clone(), observer.clone());
    let gate = Arc::new(Gate::default());
    let inside =
        Inside { client: client.clone(), credentials: Arc::clone(&credentials), gate: Arc::clone(&gate) };
    let (lookup, suggest) = innermost(inside);
    let around = Around { credentials, profiles: registries, seeds: cluster.pods.clone(), now, observer };
    let cache = Arc::new(tagpin_registry::assemble(lookup, gate, around));
    let registries = Registries { resolve: cache.clone(), suggest };
    let kinds = cluster.kinds().clone();
    let settings =
        tagpin_webhook::Settings { controller_identities, excluded_namespaces, in_flight, kinds, now };
    let counters = AdmissionMetrics::register(metrics);
    let remembered = Arc::new(Remembered::default());
    let admission = Admission::new(
        cluster.clone(),
        cluster.pods.clone(),
        nodes,
        registries.clone(),
        settings,
        counters,
        Arc::clone(&remembered),
    );
    let router = tagpin_webhook::router(admission, door);
    Composed { router, registries, cache, client, asked, remembered }
}
