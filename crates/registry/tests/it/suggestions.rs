//! Suggestions, found in the registry of the distribution project.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tagpin_domain::asker::Asker;
use tagpin_domain::image::ImageRef;
use tagpin_registry::{
    Candidate, Client, Credentials, Held, Identity, Lookup, RegistryProfile, ResolveFrom, Source, Suggestions,
};
use tagpin_review::{Effort, Suggest};
use tokio::time::Instant;

use super::distribution::{Access, OCI_MANIFEST, Pusher, Registry, Release, on_each_release};
use super::scripted::{Scripted, Step};
use super::support::{Heard, PATIENCE, TestNames, TestProfiles, client, endpoint, in_words, profile, secret};

/// Credentials by namespace.
#[derive(Default)]
struct Askers(HashMap<String, Candidate>);

#[async_trait]
impl Credentials for Askers {
    async fn candidates(&self, asker: &Asker, _image: &ImageRef, _deadline: Instant) -> Held {
        vec![self.0.get(&asker.namespace).cloned().unwrap_or_else(Candidate::anonymous)].into()
    }

    fn at_hand(&self, _: &Asker, _: &ImageRef, _: &RegistryProfile) -> Option<Held> {
        None
    }
}

struct Bench {
    client: Client,
    suggestions: Suggestions,
    heard: Arc<Heard>,
    domain: String,
}

impl Bench {
    fn at(url: &str, credentials: Askers) -> Self {
        Self::of(profile(endpoint(url)), |client| {
            Suggestions::new(client, Arc::new(credentials), Arc::default(), PATIENCE)
        })
    }

    fn of(profile: RegistryProfile, suggestions: impl FnOnce(Client) -> Suggestions) -> Self {
        let root = profile.upstream.as_ref().unwrap().root();
        let domain = format!("{}:{}", root.host_str().unwrap(), root.port().unwrap());
        let heard = Arc::new(Heard::default());
        let client =
            client(TestProfiles::one(profile, &domain), TestNames::default(), Arc::clone(&heard) as _);
        Self { suggestions: suggestions(client.clone()), client, heard, domain }
    }

    fn image(&self, rest: &str) -> ImageRef {
        ImageRef::parse(&format!("{}/{rest}", self.domain)).unwrap()
    }

    async fn version(&self, rest: &str, asker: &Asker, effort: Effort) -> Option<String> {
        let version = self.suggestions.version_of(&self.image(rest), asker, effort).await.version?;
        Some(format!("{} {}", version.tag, version.digest))
    }

    async fn similar(&self, rest: &str, asker: &Asker, effort: Effort) -> String {
        self.suggestions.similar_tags(&self.image(rest), asker, effort).await.join(" ")
    }

    /// Returns the number of requests of this kind.
    fn asked(&self, what: &str) -> usize {
        let heard = self.heard.0.lock().unwrap();
        heard.iter().filter(|event| event.contains("Asked") && event.contains(what)).count()
    }
}

fn plenty() -> Effort {
    Effort::Until(Instant::now() + PATIENCE)
}

/// Pushes one image under these tags.
async fn push_all(registry: &Registry, name: &str, tags: &[&str], as_whom: &Pusher) -> String {
    let manifest_tag = tags[0];
    let digest = registry.push_image(name, manifest_tag, OCI_MANIFEST, as_whom).await;
    for tag in &tags[1..] {
        registry.copy_tag(name, manifest_tag, tag, OCI_MANIFEST, as_whom).await;
    }
    digest
}

const ANYONE: Pusher = Pusher::Anyone;

on_each_release!(
    the_most_specific_version_with_the_same_digest_is_suggested_and_remembered,
    no_version_is_remembered_too_and_costs_at_most_eight_requests,
    all_who_ask_at_once_share_one_search,
    the_list_that_showed_the_tag_missing_is_not_fetched_again,
    what_one_asker_may_see_is_not_suggested_to_another,
    a_search_tells_if_the_registry_shows_the_repository,
    what_the_operators_credentials_show_is_suggested_to_a_person_and_to_no_tenant,
);

async fn the_most_specific_version_with_the_same_digest_is_suggested_and_remembered(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let digest = push_all(&registry, "web", &["latest", "1.29", "1.29.3", "stable"], &ANYONE).await;
    push_all(&registry, "web", &["1.30.0", "1.28.0", "1.28"], &ANYONE).await;
    let bench = Bench::at(&registry.url(), Askers::default());
    let nobody = Asker::anonymous();
    let found = Some(format!("1.29.3 {digest}"));

    assert_eq!(bench.version("web", &nobody, Effort::Cached).await, None);
    assert_eq!(bench.asked(""), 0, "nothing is asked without effort");
    assert_eq!(bench.version("web", &nobody, plenty()).await, found);
    drop(registry);
    assert_eq!(bench.version("web:latest", &nobody, plenty()).await, found);
    assert_eq!(bench.version("web", &nobody, Effort::Cached).await, found);
}

async fn no_version_is_remembered_too_and_costs_at_most_eight_requests(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    registry.push_image("web", "latest", OCI_MANIFEST, &ANYONE).await;
    let others: Vec<String> = (0..12).map(|patch| format!("1.0.{patch}")).collect();
    push_all(&registry, "web", &others.iter().map(String::as_str).collect::<Vec<_>>(), &ANYONE).await;
    let bench = Bench::at(&registry.url(), Askers::default());
    let nobody = Asker::anonymous();

    assert_eq!(bench.version("web", &nobody, plenty()).await, None);
    assert_eq!(bench.asked("method: Head"), 1 + 8);
    assert_eq!(bench.asked("purpose: Tags"), 1);
    let before = bench.asked("");
    assert_eq!(bench.version("web", &nobody, plenty()).await, None);
    assert_eq!(bench.asked(""), before);
}

async fn a_search_tells_if_the_registry_shows_the_repository(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    registry.push_image("web", "latest", OCI_MANIFEST, &ANYONE).await;
    let bench = Bench::at(&registry.url(), Askers::default());
    let nobody = Asker::anonymous();
    let shown = async |rest| bench.suggestions.version_of(&bench.image(rest), &nobody, plenty()).await.shown;
    assert_eq!(shown("web").await, Some(true));
    assert_eq!(shown("web:missing").await, Some(true));
    assert_eq!(shown("webapi").await, Some(false));
    drop(registry);
    assert_eq!(shown("other").await, None);
}

async fn all_who_ask_at_once_share_one_search(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let digest = push_all(&registry, "web", &["latest", "1.0.0"], &ANYONE).await;
    let bench = Bench::at(&registry.url(), Askers::default());
    let nobody = Asker::anonymous();
    let all = (0..50).map(|_| bench.version("web", &nobody, plenty()));
    for found in futures::future::join_all(all).await {
        assert_eq!(found, Some(format!("1.0.0 {digest}")));
    }
    assert_eq!((bench.asked("method: Head"), bench.asked("purpose: Tags")), (2, 1));
}

async fn the_list_that_showed_the_tag_missing_is_not_fetched_again(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    push_all(&registry, "web", &["1.4.6", "1.4.8", "v1.4.7", "2.0.0"], &ANYONE).await;
    let bench = Bench::at(&registry.url(), Askers::default());
    let nobody = Asker::anonymous();

    assert_eq!(bench.similar("web:1.4.7", &nobody, Effort::Cached).await, "");
    let image = bench.image("web:1.4.7");
    let fact = bench.client.look_up(&image, &[Candidate::anonymous()], Instant::now() + PATIENCE).await;
    assert_eq!(in_words(&fact), "TagMissing");
    assert_eq!(bench.similar("web:1.4.7", &nobody, Effort::Cached).await, "v1.4.7 1.4.8 1.4.6");
    assert_eq!(bench.similar("web:1.4.7", &nobody, plenty()).await, "v1.4.7 1.4.8 1.4.6");
    assert_eq!(bench.asked("purpose: Tags"), 1);
    assert_eq!(bench.similar("none:1", &nobody, plenty()).await, "");
}

async fn what_one_asker_may_see_is_not_suggested_to_another(release: Release) {
    let registry = Registry::start(release, &Access::Password("right"));
    let robot = Pusher::Robot("right".to_owned());
    let digest = push_all(&registry, "web", &["latest", "1.0.0"], &robot).await;
    let held = Askers(HashMap::from([("shop".to_owned(), secret("regcred", "robot", "right"))]));
    let bench = Bench::at(&registry.url(), held);
    let asker = |namespace: &str| Asker { namespace: namespace.to_owned(), ..Asker::anonymous() };

    assert_eq!(bench.version("web", &asker("shop"), plenty()).await, Some(format!("1.0.0 {digest}")));
    assert_eq!(bench.similar("web:1.0.1", &asker("shop"), plenty()).await, "1.0.0");
    for effort in [Effort::Cached, plenty()] {
        assert_eq!(bench.version("web", &asker("other"), effort).await, None);
        assert_eq!(bench.similar("web:1.0.1", &asker("other"), effort).await, "");
    }
}

async fn what_the_operators_credentials_show_is_suggested_to_a_person_and_to_no_tenant(release: Release) {
    let registry = Registry::start(release, &Access::Password("right"));
    let robot = Pusher::Robot("right".to_owned());
    let digest = push_all(&registry, "web", &["latest", "1.0.0"], &robot).await;
    let operators =
        Candidate { source: Source::Configuration("the entry".to_owned()), ..secret("x", "robot", "right") };
    let held = || Askers(HashMap::from([(String::new(), operators.clone())]));
    let by_entry = || profile(endpoint(&registry.url()));
    // A mirror with a password of the operator.
    let by_mirror = || {
        let mut mirror = endpoint(&registry.url());
        mirror.identity = Identity::Own(Arc::new(operators.clone()));
        RegistryProfile { mirrors: vec![mirror], resolve_from: ResolveFrom::MirrorsOnly, ..by_entry() }
    };
    let nobody = Asker::anonymous();
    for (profile, held) in [(by_entry(), held()), (by_mirror(), Askers::default())] {
        let tenants = Bench::of(profile.clone(), |client| {
            Suggestions::new(client, Arc::new(Askers(held.0.clone())), Arc::default(), PATIENCE)
        });
        assert_eq!(tenants.version("web", &nobody, plenty()).await, None);
        assert_eq!(tenants.similar("web:1.0.1", &nobody, plenty()).await, "");
        let persons = Bench::of(profile, |client| Suggestions::for_person(client, Arc::new(held), PATIENCE));
        assert_eq!(persons.version("web", &nobody, plenty()).await, Some(format!("1.0.0 {digest}")));
        assert_eq!(persons.similar("web:1.0.1", &nobody, plenty()).await, "1.0.0");
    }
}

#[tokio::test]
async fn a_silent_registry_costs_no_more_than_was_given() {
    let scripted = Scripted::start(&[]).await;
    let silent: Step =
        serde_saphyr::from_str("{ ask: GET /v2/web/tags/list?n=1000, fault: silent }").unwrap();
    scripted.expect(&[silent]);
    let bench = Bench::at(&format!("http://{}", scripted.authority("registry")), Askers::default());
    let start = Instant::now();
    let effort = Effort::Until(start + Duration::from_millis(100));
    assert_eq!(bench.similar("web:1", &Asker::anonymous(), effort).await, "");
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}
