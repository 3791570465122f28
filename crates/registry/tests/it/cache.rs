//! The cache and the limits between the webhooks and the registries: the sharing of answers, their lifetimes, and the
//! cost of an outage, a slow registry or a flood of names. The registry is scripted, and the clock is paused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{AskedWith, Broken, Fact, ForbiddenHost, Hidden, LastKnown, Position, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_registry::{
    Around, Cache, Candidate, Credential, Credentials, Current, Held, Limit, Lookup, Network, Profiles,
    Registries, RegistryProfile, Search, Source,
};
use tagpin_review::Resolve;
use tagpin_review::Seeds;
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep, timeout};

/// Maximum age of a digest that is reported as last known.
const LAST_KNOWN: Duration = Duration::from_secs(168 * 60 * 60);

/// The answer of the registry to the nth request, and its delay.
type Say = dyn Fn(usize, &ImageRef, &[Candidate]) -> (Duration, Fact) + Send + Sync;

/// A registry that counts its requests.
#[derive(Clone)]
struct Registry(Arc<Scripted>);

struct Scripted {
    say: Box<Say>,
    asked: AtomicUsize,
    answered: watch::Sender<usize>,
    /// The requests in flight, now and at most, by host.
    at_once: Mutex<HashMap<String, (usize, usize)>>,
}

impl Registry {
    fn new(say: impl Fn(usize, &ImageRef, &[Candidate]) -> (Duration, Fact) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Scripted {
            say: Box::new(say),
            asked: AtomicUsize::new(0),
            answered: watch::Sender::new(0),
            at_once: Mutex::default(),
        }))
    }

    /// Creates a registry that answers with one fact after another, and then with the last one for ever.
    fn saying(facts: Vec<Fact>) -> Self {
        Self::new(move |nth, _, _| (Duration::ZERO, facts.get(nth).or(facts.last()).unwrap().clone()))
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn answered(&self) -> usize {
        *self.0.answered.borrow()
    }

    /// Waits until the registry has answered this often; the clock is paused.
    async fn answers(&self, times: usize) {
        let mut answered = self.0.answered.subscribe();
        answered.wait_for(|answered| *answered >= times).await.unwrap();
    }

    fn enter(&self, host: &str, by: isize) {
        let mut at_once = self.0.at_once.lock().unwrap();
        for host in [host, ""] {
            let (now, most) = at_once.entry(host.to_owned()).or_default();
            *now = now.checked_add_signed(by).unwrap();
            *most = (*most).max(*now);
        }
    }

    /// Returns the maximum number of requests in flight to a host, or to all of them for an empty name.
    fn most(&self, host: &str) -> usize {
        self.0.at_once.lock().unwrap()[host].1
    }
}

impl Lookup for Registry {
    async fn look_up(&self, image: &ImageRef, candidates: &[Candidate], deadline: Instant) -> Fact {
        let nth = self.0.asked.fetch_add(1, Ordering::SeqCst);
        let (after, fact) = (self.0.say)(nth, image, candidates);
        self.enter(image.domain(), 1);
        let late = Instant::now() + after > deadline;
        if !after.is_zero() {
            tokio::time::sleep_until((Instant::now() + after).min(deadline)).await;
        }
        self.enter(image.domain(), -1);
        self.0.answered.send_modify(|answered| *answered += 1);
        if late { failed(Unavailable::Timeout) } else { fact }
    }
}

/// Credentials by namespace: `shop-ab` and `mall-ab` hold the same two passwords, `anonymous` holds none.
struct Holders(AtomicUsize);

impl Holders {
    fn of(asker: &Asker) -> Held {
        let candidates: Vec<Candidate> = match asker.namespace.split_once('-') {
            None => vec![Candidate::anonymous()],
            Some((_, passwords)) => passwords
                .char_indices()
                .map(|(index, password)| {
                    let credential = Credential::basic("robot".to_owned(), password.to_string().into());
                    let secret = format!("secret-{index}-of-{}", asker.namespace);
                    Candidate::new(credential, Source::PullSecret(secret))
                })
                .collect(),
        };
        let search = match asker.namespace.split_once('-') {
            None => Search::NoneNamed,
            Some(_) => Search::Found,
        };
        Held { candidates: candidates.into(), search }
    }
}

#[async_trait]
impl Credentials for Holders {
    async fn candidates(&self, asker: &Asker, _image: &ImageRef, _deadline: Instant) -> Held {
        self.0.fetch_add(1, Ordering::SeqCst);
        Self::of(asker)
    }

    fn at_hand(&self, asker: &Asker, _image: &ImageRef, _profile: &RegistryProfile) -> Option<Held> {
        Some(Self::of(asker))
    }
}

/// Returns the circumstances of an asker without credentials.
fn alone() -> Hidden {
    Hidden { with: AskedWith::NoneNamed, cloud: None }
}

fn forbidden() -> Fact {
    let host = "x".to_owned();
    Fact::AddressForbidden(Box::new(ForbiddenHost {
        authority: host.clone(),
        position: Position::Registry,
        registry: host,
        entry: None,
        own_entry: None,
        untrusted: false,
        never: false,
    }))
}

/// Pins on pods: this digest for every reference, or none.
#[derive(Default)]
struct Pods(Option<LastKnown>);

impl Seeds for Pods {
    fn last_known(&self, _: &ImageRef, _: &Asker, _: Timestamp) -> Option<LastKnown> {
        self.0.clone()
    }
}

fn around(pods: Pods) -> Around {
    Around {
        credentials: Arc::new(Holders(AtomicUsize::new(0))),
        profiles: Arc::new(Current::from(Registries::default())),
        seeds: Arc::new(pods),
        now: Timestamp::now,
        observer: Arc::new(()),
    }
}

fn cache(registry: &Registry) -> Cache<Registry> {
    Cache::new(registry.clone(), around(Pods::default()))
}

fn limited(registry: &Registry) -> Cache<Limit<Registry>> {
    tagpin_registry::assemble(registry.clone(), Arc::default(), around(Pods::default()))
}

fn image(text: &str) -> ImageRef {
    ImageRef::parse(text).unwrap()
}

fn of(namespace: &str) -> Asker {
    Asker::new(namespace.to_owned(), Vec::new())
}

fn digest(letter: char) -> Digest {
    Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
}

fn present(letter: char) -> Fact {
    Fact::Present(digest(letter))
}

fn failed(cause: Unavailable) -> Fact {
    Fact::unavailable(cause)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks up `nginx:1` within the time of a validation, and checks that the remembered answer is the same.
async fn ask(cache: &impl Resolve, namespace: &str) -> Fact {
    let (image, asker) = (image("nginx:1"), of(namespace));
    let known = cache.remembered(&image, &asker, None, Instant::now());
    let fact = cache.resolve(&image, &asker, None, Instant::now() + seconds(5)).await;
    assert!(known.is_none_or(|known| known == fact));
    fact
}

fn last_known(fact: &Fact) -> Option<&LastKnown> {
    match fact {
        Fact::RateLimited { last_known, .. } | Fact::Unavailable { last_known, .. } => last_known.as_ref(),
        other => panic!("{other:?} has nothing last known"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_look_ups_of_one_cold_tag_are_one_question() {
    let registry = Registry::new(|_, _, _| (seconds(1), present('a')));
    let cache = cache(&registry);
    let facts = join_all((0..1000).map(|_| ask(&cache, "anonymous"))).await;
    assert!(facts.iter().all(|fact| *fact == present('a')));
    assert_eq!(registry.asked(), 1);
    assert_eq!(ask(&cache, "anonymous").await, present('a'));
    assert_eq!(registry.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_needs_no_waiting_until_its_time_is_over_and_for_nobody_else() {
    let registry = Registry::saying(vec![present('a')]);
    let cache = cache(&registry);
    let known = |namespace| cache.remembered(&image("nginx:1"), &of(namespace), None, Instant::now());
    assert_eq!(known("shop-a"), None);
    ask(&cache, "shop-a").await;
    assert_eq!((known("shop-a"), known("mall-a")), (Some(present('a')), Some(present('a'))));
    assert_eq!((known("shop-b"), known("anonymous")), (None, None));
    tokio::time::advance(seconds(60)).await;
    assert_eq!(known("shop-a"), None);
}

#[tokio::test(start_paused = true)]
async fn an_omitted_tag_and_latest_are_one_question_and_other_tags_are_not() {
    let registry = Registry::saying(vec![present('a')]);
    let cache = cache(&registry);
    for (text, asked) in
        [("nginx", 1), ("docker.io/library/nginx:latest", 1), ("nginx:1", 2), ("nginx/x:1", 3)]
    {
        cache.resolve(&image(text), &of("anonymous"), None, Instant::now() + seconds(5)).await;
        assert_eq!(registry.asked(), asked, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_refusal_names_the_credentials_of_its_asker() {
    let with = |secret: &str| Hidden { with: AskedWith::Secret(secret.into()), cloud: None };
    for refusal in [Fact::MissingOrPrivate, Fact::AccessDenied] {
        let registry = Registry::saying(vec![refusal(Hidden::default())]);
        let cache = cache(&registry);
        assert_eq!(ask(&cache, "shop-a").await, refusal(with("secret-0-of-shop-a")));
        assert_eq!(ask(&cache, "mall-a").await, refusal(with("secret-0-of-mall-a")));
        assert_eq!(registry.asked(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_an_answer_that_other_credentials_got() {
    let registry = Registry::new(|_, _, candidates| match candidates[0].credential {
        Credential::Basic { .. } => (seconds(1), present('a')),
        _ => (seconds(1), Fact::MissingOrPrivate(alone())),
    });
    let cache = cache(&registry);
    let (first, other, none) =
        tokio::join!(ask(&cache, "shop-a"), ask(&cache, "shop-b"), ask(&cache, "anonymous"));
    assert_eq!((first, other, none), (present('a'), present('a'), Fact::MissingOrPrivate(alone())));
    assert_eq!(registry.asked(), 3);
    assert_eq!(ask(&cache, "mall-a").await, present('a'));
    assert_eq!(registry.asked(), 3, "an equal credential shares the answer");
}

#[tokio::test(start_paused = true)]
async fn a_shared_refusal_names_the_askers_own_secret() {
    let rejected = |name: &str| Fact::CredentialsRejected { secret: Some(name.to_owned()) };
    let registry = Registry::saying(vec![rejected("secret-0-of-shop-ab")]);
    let cache = cache(&registry);
    assert_eq!(ask(&cache, "shop-ab").await, rejected("secret-0-of-shop-ab"));
    assert_eq!(ask(&cache, "mall-ab").await, rejected("secret-0-of-mall-ab"));
    assert_eq!(registry.asked(), 1);
    assert_eq!(ask(&cache, "mall-ba").await, Fact::CredentialsRejected { secret: None });
    assert_eq!(registry.asked(), 2, "another order is another question");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_is_answered_in_time_and_the_question_goes_on() {
    let registry = Registry::new(|_, _, _| (seconds(7), present('a')));
    let cache = cache(&registry);
    let start = Instant::now();
    let deadline = start + Duration::from_millis(2200);
    let fact = cache.resolve(&image("nginx:1"), &of("anonymous"), None, deadline).await;
    assert_eq!(fact, failed(Unavailable::Timeout));
    assert_eq!(start.elapsed(), Duration::from_millis(2200));
    assert_eq!(registry.answered(), 0);
    registry.answers(1).await;
    assert_eq!(start.elapsed(), seconds(7));
    assert_eq!(ask(&cache, "anonymous").await, present('a'));
    assert_eq!((registry.asked(), registry.answered()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_given_up_is_not_given_up_for_others() {
    let registry = Registry::new(|_, _, _| (seconds(3), present('a')));
    let cache = cache(&registry);
    let impatient = async {
        assert!(timeout(seconds(1), ask(&cache, "anonymous")).await.is_err());
    };
    let patient = async {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(ask(&cache, "anonymous").await, present('a'));
    };
    tokio::join!(impatient, patient);
    assert_eq!(registry.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_question_takes_longer_than_its_budget() {
    let registry = Registry::new(|_, _, _| (seconds(100_000), present('a')));
    let cache = cache(&registry);
    let start = Instant::now();
    let fact = cache.resolve(&image("nginx:1"), &of("anonymous"), None, start + seconds(3600)).await;
    assert!(matches!(fact, Fact::Unavailable { cause: Unavailable::Timeout, .. }), "{fact:?}");
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_its_lifetime() {
    let limited = |retry_after| Fact::RateLimited { retry_after, last_known: None };
    for (fact, lifetime) in [
        (present('a'), 60),
        (Fact::TagMissing, 10),
        (Fact::RepositoryMissing, 10),
        (Fact::MissingOrPrivate(alone()), 10),
        (Fact::AccessDenied(alone()), 10),
        (Fact::CredentialsRejected { secret: None }, 10),
        (Fact::Broken(Broken::Schema1), 10),
        (forbidden(), 10),
        (failed(Unavailable::Timeout), 10),
        (failed(Unavailable::Unreadable), 10),
        (limited(None), 1),
        (limited(Some(seconds(0))), 1),
        (limited(Some(seconds(120))), 120),
        (limited(Some(seconds(86_400))), 900),
    ] {
        let registry = Registry::saying(vec![fact.clone(), present('f')]);
        let cache = cache(&registry);
        ask(&cache, "anonymous").await;
        advance(seconds(lifetime) - Duration::from_millis(1)).await;
        assert_ne!(ask(&cache, "anonymous").await, present('f'), "{fact:?}");
        assert_eq!(registry.asked(), 1, "{fact:?}");
        advance(Duration::from_millis(2)).await;
        assert_eq!(ask(&cache, "anonymous").await, present('f'), "{fact:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_refusal_says_how_long_it_still_counts() {
    let said = Fact::RateLimited { retry_after: Some(seconds(60)), last_known: None };
    let registry = Registry::saying(vec![said]);
    let cache = cache(&registry);
    ask(&cache, "anonymous").await;
    advance(seconds(20)).await;
    let fact = ask(&cache, "anonymous").await;
    assert!(
        matches!(fact, Fact::RateLimited { retry_after: Some(left), .. } if left == seconds(40)),
        "{fact:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_gives_the_last_known_digest_with_its_age_and_only_to_the_same_credentials() {
    for outage in
        [failed(Unavailable::Connect), Fact::RateLimited { retry_after: Some(seconds(5)), last_known: None }]
    {
        let registry = Registry::saying(vec![present('a'), outage]);
        let cache = cache(&registry);
        assert_eq!(ask(&cache, "shop-a").await, present('a'));
        advance(seconds(90)).await;
        let stale = LastKnown { digest: digest('a'), age: seconds(90), artifact: false };
        assert_eq!(last_known(&ask(&cache, "shop-a").await), Some(&stale));
        advance(seconds(4)).await;
        let stale = LastKnown { digest: digest('a'), age: seconds(94), artifact: false };
        assert_eq!(last_known(&ask(&cache, "mall-a").await), Some(&stale));
        assert_eq!(last_known(&ask(&cache, "shop-b").await), None);
        advance(LAST_KNOWN).await;
        assert_eq!(last_known(&ask(&cache, "shop-a").await), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_registry_gives_the_last_known_digest_at_the_deadline() {
    let registry = Registry::new(|nth, _, _| (seconds(if nth == 0 { 0 } else { 9 }), present('a')));
    let cache = cache(&registry);
    ask(&cache, "anonymous").await;
    advance(seconds(61)).await;
    let stale = LastKnown { digest: digest('a'), age: seconds(61) + seconds(5), artifact: false };
    let fact = ask(&cache, "anonymous").await;
    assert_eq!(last_known(&fact), Some(&stale));
    registry.answers(2).await;
    assert_eq!(ask(&cache, "anonymous").await, present('a'));
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_bring_back_what_was_gone() {
    for gone in [Fact::TagMissing, Fact::RepositoryMissing, Fact::Broken(Broken::NotAnImage)] {
        let registry = Registry::saying(vec![present('a'), gone, failed(Unavailable::Connect)]);
        let pods = Pods(Some(LastKnown { digest: digest('b'), age: seconds(5), artifact: false }));
        let cache = Cache::new(registry.clone(), around(pods));
        ask(&cache, "anonymous").await;
        advance(seconds(61)).await;
        ask(&cache, "anonymous").await;
        for _ in 0..3 {
            advance(seconds(11)).await;
            assert_eq!(last_known(&ask(&cache, "anonymous").await), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_registry_said_too_long_ago_gives_way_to_pins_on_pods() {
    for said in [present('a'), Fact::TagMissing] {
        let registry = Registry::saying(vec![said, failed(Unavailable::Connect)]);
        let pin = LastKnown { digest: digest('b'), age: seconds(5), artifact: false };
        let cache = Cache::new(registry.clone(), around(Pods(Some(pin.clone()))));
        ask(&cache, "anonymous").await;
        advance(LAST_KNOWN).await;
        assert_ne!(last_known(&ask(&cache, "anonymous").await), Some(&pin));
        advance(seconds(11)).await;
        assert_eq!(last_known(&ask(&cache, "anonymous").await), Some(&pin));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_of_no_use_any_more_is_not_held() {
    let held = async |fact: Fact, after: Duration| {
        let cache = cache(&Registry::saying(vec![fact]));
        ask(&cache, "anonymous").await;
        advance(after).await;
        cache.held().0
    };
    assert_eq!(held(Fact::AccessDenied(alone()), seconds(9)).await, 1);
    assert_eq!(held(Fact::AccessDenied(alone()), seconds(11)).await, 0);
    for known in [present('a'), Fact::TagMissing] {
        assert_eq!(held(known.clone(), LAST_KNOWN).await, 1);
        assert_eq!(held(known, LAST_KNOWN + seconds(1)).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_very_many_credentials_is_not_kept() {
    for (credentials, asked) in [(64, 1), (65, 2)] {
        let registry = Registry::saying(vec![present('a')]);
        let cache = cache(&registry);
        let asker = format!("shop-{}", "a".repeat(credentials));
        for _ in 0..2 {
            assert_eq!(ask(&cache, &asker).await, present('a'));
        }
        assert_eq!(registry.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_asker_says_nothing_of_the_tag() {
    let registry =
        Registry::saying(vec![present('a'), Fact::AccessDenied(alone()), failed(Unavailable::Status(503))]);
    let cache = cache(&registry);
    ask(&cache, "shop-a").await;
    advance(seconds(61)).await;
    let with = AskedWith::Secret("secret-0-of-shop-a".into());
    assert_eq!(ask(&cache, "shop-a").await, Fact::AccessDenied(Hidden { with, cloud: None }));
    advance(seconds(11)).await;
    assert_eq!(last_known(&ask(&cache, "shop-a").await).unwrap().digest, digest('a'));
}

#[tokio::test(start_paused = true)]
async fn pins_on_pods_are_last_known_until_the_registry_has_spoken() {
    let outage = failed(Unavailable::Connect);
    let registry = Registry::saying(vec![outage.clone(), present('a'), outage]);
    let seed = LastKnown { digest: digest('b'), age: seconds(3600), artifact: false };
    let cache = Cache::new(registry, around(Pods(Some(seed.clone()))));
    assert_eq!(last_known(&ask(&cache, "anonymous").await), Some(&seed));
    advance(seconds(11)).await;
    assert_eq!(ask(&cache, "anonymous").await, present('a'));
    advance(seconds(61)).await;
    assert_eq!(last_known(&ask(&cache, "anonymous").await).unwrap().digest, digest('a'));
}

#[tokio::test(start_paused = true)]
async fn pins_on_pods_that_are_too_old_are_not_last_known() {
    let seed = LastKnown { digest: digest('b'), age: LAST_KNOWN + seconds(1), artifact: false };
    let registry = Registry::saying(vec![failed(Unavailable::Connect)]);
    let cache = Cache::new(registry, around(Pods(Some(seed))));
    assert_eq!(last_known(&ask(&cache, "anonymous").await), None);
}

#[tokio::test(start_paused = true)]
async fn an_offline_registry_costs_nothing() {
    let registry = Registry::saying(vec![present('a')]);
    let holders = Arc::new(Holders(AtomicUsize::new(0)));
    let around = Around { credentials: holders.clone(), ..around(Pods::default()) };
    let cache = Cache::new(registry.clone(), around);
    let fact =
        cache.resolve(&image("localhost/app:1"), &of("shop-a"), None, Instant::now() + seconds(5)).await;
    assert_eq!(fact, Fact::Offline);
    assert_eq!((registry.asked(), holders.0.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_answers_everybody_who_waits_and_nobody_who_comes_later() {
    let registry = Registry::new(|nth, _, _| match nth {
        0 => panic!("the registry's answer broke the client"),
        _ => (Duration::ZERO, present('a')),
    });
    let cache = cache(&registry);
    let facts = join_all((0..10).map(|_| ask(&cache, "anonymous"))).await;
    assert!(facts.iter().all(|fact| *fact == failed(Unavailable::Unreadable)), "{facts:?}");
    assert_eq!(ask(&cache, "anonymous").await, present('a'));
}

#[tokio::test(start_paused = true)]
async fn one_slow_registry_never_delays_another() {
    let registry = Registry::new(|_, image, _| {
        let after = if image.domain() == "slow.example" { 3600 } else { 1 };
        (seconds(after), present('a'))
    });
    let cache = limited(&registry);
    let ask = |name: String| {
        let cache = &cache;
        async move { cache.resolve(&image(&name), &of("anonymous"), None, Instant::now() + seconds(5)).await }
    };
    let flood = join_all((0..3000).map(|number| ask(format!("slow.example/app:{number}"))));
    let quick = async {
        sleep(seconds(1)).await;
        let start = Instant::now();
        assert_eq!(ask("quick.example/app:1".to_owned()).await, present('a'));
        assert_eq!(start.elapsed(), seconds(1));
    };
    let (facts, ()) = tokio::join!(flood, quick);
    assert!(facts.iter().all(|fact| matches!(fact, Fact::Unavailable { .. })));
    // The flood comes from one namespace, which gets at most half of the permits of a registry.
    assert_eq!(registry.most("slow.example"), 8);
}

#[tokio::test(start_paused = true)]
async fn one_namespace_never_takes_all_places_at_a_registry() {
    let registry = Registry::new(|_, image, _| {
        let after = if image.path() == "library/flood" { 3600 } else { 1 };
        (seconds(after), present('a'))
    });
    let cache = limited(&registry);
    let flood = join_all((0..300).map(|number| {
        let (cache, name) = (&cache, image(&format!("flood:{number}")));
        async move { cache.resolve(&name, &of("loud"), None, Instant::now() + seconds(5)).await }
    }));
    let quiet = async {
        sleep(seconds(1)).await;
        let start = Instant::now();
        assert_eq!(ask(&cache, "quiet").await, present('a'));
        assert_eq!(start.elapsed(), seconds(1));
    };
    let (facts, ()) = tokio::join!(flood, quiet);
    assert!(facts.iter().all(|fact| matches!(fact, Fact::Unavailable { .. })));
    assert_eq!(registry.most("docker.io"), 9);
}

/// Profiles in which an entry names every host that starts with `named`.
struct Entries;

impl Profiles for Entries {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        let entry = domain.starts_with("named").then(|| domain.into());
        Arc::new(RegistryProfile { entry, ..RegistryProfile::of(domain) })
    }

    fn network(&self) -> Arc<Network> {
        Arc::default()
    }
}

/// Returns the cache with its limits, where entries name some of the registries.
fn with_entries(registry: &Registry) -> Cache<Limit<Registry>> {
    let around = Around { profiles: Arc::new(Entries), ..around(Pods::default()) };
    tagpin_registry::assemble(registry.clone(), Arc::default(), around)
}

#[tokio::test(start_paused = true)]
async fn at_most_64_questions_are_under_way_and_32_of_them_at_hosts_that_nobody_named() {
    for (kind, most) in [("named", 64), ("any", 32)] {
        let registry = Registry::new(|_, _, _| (Duration::from_millis(10), present('a')));
        let cache = with_entries(&registry);
        let facts = join_all((0..2000).map(async |number: usize| {
            let name = image(&format!("{kind}{}.example/app:{number}", number % 20));
            cache.resolve(&name, &of(&format!("n{}", number % 8)), None, Instant::now() + seconds(60)).await
        }))
        .await;
        assert!(facts.iter().all(|fact| *fact == present('a')));
        assert_eq!(registry.asked(), 2000);
        assert_eq!(registry.most(""), most, "{kind}");
        assert!(registry.most(&format!("{kind}1.example")) <= 16);
    }
}

/// Leaves this many look-ups open at hosts that hang, from namespaces of these names, and meanwhile looks up 20 tags
/// for the namespace `quiet` at a host that answers after a second. Returns the time that these take, and the number of
/// requests in flight at most.
async fn beside_a_flood(
    hanging: usize,
    host: &str,
    namespaces: &[&str],
    answering: &str,
) -> (Duration, usize) {
    let registry = Registry::new(|_, image, _| {
        let hangs = image.domain().contains("hangs");
        (seconds(if hangs { 3600 } else { 1 }), present('a'))
    });
    let cache = with_entries(&registry);
    let flood = join_all((0..hanging).map(async |number: usize| {
        let name = image(&format!("{host}-hangs-{}.example/app:{number}", number % 64));
        let namespace = namespaces[number % namespaces.len()];
        cache.resolve(&name, &of(namespace), None, Instant::now() + seconds(5)).await
    }));
    let quiet = async {
        sleep(seconds(1)).await;
        let start = Instant::now();
        for tag in 0..3 {
            let name = image(&format!("{answering}.example/app:{tag}"));
            let deadline = Instant::now() + Duration::from_millis(2200);
            assert_eq!(cache.resolve(&name, &of("quiet"), None, deadline).await, present('a'), "{tag}");
        }
        start.elapsed()
    };
    let (_, took) = tokio::join!(flood, quiet);
    (took, registry.most(""))
}

#[tokio::test(start_paused = true)]
async fn one_namespace_with_64_hanging_hosts_leaves_others_at_their_speed() {
    for host in ["named", "any"] {
        let (took, most) = beside_a_flood(1000, host, &["loud"], "any-other").await;
        assert_eq!((took, most), (seconds(3), 25), "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_that_nobody_named_leave_those_that_are_named_at_their_speed() {
    let loud: Vec<String> = (0..50).map(|number| format!("loud-{number}")).collect();
    let loud: Vec<&str> = loud.iter().map(String::as_str).collect();
    let (took, most) = beside_a_flood(3000, "any", &loud, "named").await;
    assert_eq!((took, most), (seconds(3), 33));
}

#[tokio::test(start_paused = true)]
async fn one_hanging_host_leaves_its_namespace_places_at_others() {
    let registry = Registry::new(|_, image, _| {
        (seconds(if image.domain() == "slow.example" { 3600 } else { 1 }), present('a'))
    });
    let cache = limited(&registry);
    let ask = async |name: String| {
        cache.resolve(&image(&name), &of("shop"), None, Instant::now() + Duration::from_millis(2200)).await
    };
    let flood = join_all((0..100).map(|number| ask(format!("slow.example/app:{number}"))));
    let (_, quick) = tokio::join!(flood, ask("quick.example/app:1".to_owned()));
    assert_eq!(quick, present('a'));
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_gets_no_place_says_so_and_is_not_kept() {
    let registry = Registry::new(|_, _, _| (seconds(3600), present('a')));
    let limit = Limit::new(registry.clone(), Arc::default(), Arc::new(Entries));
    let start = Instant::now();
    let facts = join_all((0..33).map(async |number: u64| {
        let name = image(&format!("h{number}.example/app:1"));
        limit.look_up(&name, &[Candidate::anonymous()], start + seconds(60 - number)).await
    }))
    .await;
    let busy: Vec<_> = facts.iter().filter(|fact| **fact == failed(Unavailable::Busy)).collect();
    assert_eq!((busy.len(), registry.asked()), (1, 32));

    let registry = Registry::saying(vec![failed(Unavailable::Busy), present('a')]);
    let cache = cache(&registry);
    assert_eq!(ask(&cache, "anonymous").await, failed(Unavailable::Busy));
    assert_eq!(ask(&cache, "anonymous").await, present('a'));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waited_for_a_place_is_told_so() {
    let registry = Registry::new(|_, _, _| (seconds(3600), present('a')));
    let cache = limited(&registry);
    let facts = join_all((0..20).map(async |number: usize| {
        let name = image(&format!("slow.example/app:{number}"));
        cache.resolve(&name, &of("shop"), None, Instant::now() + seconds(3)).await
    }))
    .await;
    let count = |cause| facts.iter().filter(|fact| **fact == failed(cause)).count();
    // The host is to blame only for the look-ups that it got.
    assert_eq!((count(Unavailable::Timeout), count(Unavailable::Busy)), (8, 12));
    assert_eq!(registry.asked(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_a_time_doubles_until_the_registry_answers() {
    let limit = Fact::RateLimited { retry_after: None, last_known: None };
    let registry = {
        let limit = limit.clone();
        Registry::new(move |nth, _, _| {
            (Duration::from_millis(10), if nth == 28 { present('a') } else { limit.clone() })
        })
    };
    let cache = limited(&registry);
    let tags = std::cell::Cell::new(0);
    let ask = async || {
        tags.set(tags.get() + 1);
        let name = image(&format!("nginx:{}", tags.get()));
        cache.resolve(&name, &of("anonymous"), None, Instant::now() + seconds(5)).await
    };
    let pause = |fact: &Fact| match fact {
        Fact::RateLimited { retry_after: Some(pause), .. } => pause.as_millis(),
        other => panic!("{other:?}"),
    };
    // A burst is one limit, not as many as it has look-ups.
    let burst = join_all((0..20).map(|_| ask())).await;
    assert!(burst.iter().all(|fact| pause(fact) <= 1000), "{burst:?}");
    assert_eq!(registry.asked(), 8);
    for (nth, expected) in [2, 4, 8, 16, 32, 60, 60, 60, 60].into_iter().enumerate() {
        if nth == 0 {
            advance(seconds(1)).await;
        }
        let fact = ask().await;
        assert_eq!(pause(&fact), expected * 1000);
        advance(seconds(u64::try_from(expected).unwrap()) - Duration::from_millis(10)).await;
        let asked = registry.asked();
        assert!(pause(&ask().await) <= 1000);
        assert_eq!(registry.asked(), asked, "{expected}");
        advance(Duration::from_millis(20)).await;
    }
    assert_eq!(registry.asked(), 17);
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_the_doubling_of_a_limit() {
    let limit = Fact::RateLimited { retry_after: None, last_known: None };
    let facts = vec![limit.clone(), limit.clone(), present('a'), limit];
    let registry = Registry::saying(facts);
    let cache = limited(&registry);
    for (tag, pause) in [Some(1), Some(2), None, Some(1)].into_iter().enumerate() {
        let name = image(&format!("nginx:{tag}"));
        let fact = cache.resolve(&name, &of("anonymous"), None, Instant::now() + seconds(5)).await;
        let expected = pause.map_or(present('a'), |pause| Fact::RateLimited {
            retry_after: Some(seconds(pause)),
            last_known: None,
        });
        assert_eq!(fact, expected, "{tag}");
        advance(seconds(pause.unwrap_or_default())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_limits_us_is_not_asked_for_other_tags_but_for_other_credentials() {
    let registry = Registry::new(|_, _, candidates| match candidates[0].credential {
        Credential::Basic { .. } => (Duration::ZERO, present('a')),
        _ => (Duration::ZERO, Fact::RateLimited { retry_after: Some(seconds(60)), last_known: None }),
    });
    let cache = limited(&registry);
    for tag in 0..5 {
        let name = image(&format!("nginx:{tag}"));
        let fact = cache.resolve(&name, &of("anonymous"), None, Instant::now() + seconds(5)).await;
        assert!(matches!(fact, Fact::RateLimited { retry_after: Some(_), .. }), "{fact:?}");
    }
    assert_eq!(registry.asked(), 1);
    assert_eq!(ask(&cache, "shop-a").await, present('a'));
    assert_eq!(registry.asked(), 2);
}

/// Looks up `nginx:1` and accepts no answer that was asked for before `since`.
async fn ask_since(cache: &impl Resolve, since: Option<Instant>) -> Fact {
    let deadline = Instant::now() + Duration::from_millis(2200);
    cache.resolve(&image("nginx:1"), &of("anonymous"), since, deadline).await
}

fn remembered(cache: &impl Resolve, since: Option<Instant>) -> Option<Fact> {
    cache.remembered(&image("nginx:1"), &of("anonymous"), since, Instant::now())
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_older_than_the_caller_accepts_and_the_newer_one_is_shared() {
    let registry = Registry::saying(vec![present('a'), present('b')]);
    let cache = cache(&registry);
    let start = Instant::now();
    assert_eq!(ask_since(&cache, Some(start)).await, present('a'));
    advance(seconds(5)).await;
    assert_eq!(ask_since(&cache, Some(start)).await, present('a'));
    assert_eq!((remembered(&cache, Some(start)), registry.asked()), (Some(present('a')), 1));
    let push = Instant::now();
    assert_eq!(remembered(&cache, Some(push)), None);
    advance(seconds(5)).await;
    let facts = join_all((0..200).map(|_| ask_since(&cache, Some(push)))).await;
    assert!(facts.iter().all(|fact| *fact == present('b')), "{facts:?}");
    assert_eq!(registry.asked(), 2);
    assert_eq!(
        (remembered(&cache, Some(push)), remembered(&cache, None)),
        (Some(present('b')), Some(present('b')))
    );
}

#[tokio::test(start_paused = true)]
async fn an_earlier_question_is_not_joined_and_its_answer_does_not_replace_a_newer_one() {
    for (first_takes, second_takes) in [(2, 1), (1, 2)] {
        let registry = Registry::new(move |nth, _, _| match nth {
            0 => (seconds(first_takes), present('a')),
            _ => (seconds(second_takes), present('b')),
        });
        let cache = cache(&registry);
        let first = ask_since(&cache, None);
        let later = async {
            sleep(Duration::from_millis(500)).await;
            let push = Instant::now();
            let latest = async {
                sleep(Duration::from_millis(700)).await;
                ask_since(&cache, Some(push)).await
            };
            tokio::join!(ask_since(&cache, Some(push)), ask_since(&cache, None), latest)
        };
        let (first, later) = tokio::join!(first, later);
        assert_eq!((first, later), (present('a'), (present('b'), present('b'), present('b'))));
        assert_eq!((registry.asked(), registry.answered()), (2, 2));
        assert_eq!(remembered(&cache, None), Some(present('b')));
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_answer_that_does_not_come_leaves_the_earlier_one_as_last_known_and_to_others() {
    for (nothing, after) in [
        (Fact::RateLimited { retry_after: Some(seconds(120)), last_known: None }, seconds(0)),
        (failed(Unavailable::Connect), seconds(0)),
        (present('b'), seconds(9)),
    ] {
        let registry = {
            let nothing = nothing.clone();
            Registry::new(move |nth, _, _| match nth {
                0 => (seconds(0), present('a')),
                _ => (after, nothing.clone()),
            })
        };
        let cache = cache(&registry);
        assert_eq!(ask_since(&cache, None).await, present('a'));
        advance(seconds(10)).await;
        let push = Instant::now();
        let fact = ask_since(&cache, Some(push)).await;
        assert_eq!(last_known(&fact).map(|known| known.digest.clone()), Some(digest('a')), "{nothing:?}");
        if after.is_zero() {
            // What others were told goes on, and nobody asks for that.
            assert_eq!(ask_since(&cache, None).await, present('a'), "{nothing:?}");
            assert_eq!(last_known(&ask_since(&cache, Some(push)).await), last_known(&fact));
            assert_eq!(registry.asked(), 2);
            advance(seconds(51)).await;
            assert_ne!(remembered(&cache, None), Some(present('a')), "{nothing:?} after its time");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_no_longer_served_by_digest_ends_the_earlier_answer() {
    let registry = Registry::saying(vec![present('a'), failed(Unavailable::NotByDigest)]);
    let cache = cache(&registry);
    ask_since(&cache, None).await;
    advance(seconds(1)).await;
    assert_eq!(last_known(&ask_since(&cache, Some(Instant::now())).await), None);
    assert_eq!(last_known(&ask_since(&cache, None).await), None);
}

#[tokio::test(start_paused = true)]
async fn an_outage_gives_the_digest_of_an_artifact() {
    let artifact = Fact::Artifact { digest: digest('c'), wasm: false };
    let registry = Registry::saying(vec![present('a'), artifact, failed(Unavailable::Connect)]);
    let cache = cache(&registry);
    ask(&cache, "anonymous").await;
    for _ in 0..2 {
        advance(seconds(61)).await;
        ask(&cache, "anonymous").await;
    }
    assert_eq!(
        last_known(&ask(&cache, "anonymous").await).map(|known| (known.digest.clone(), known.artifact)),
        Some((digest('c'), true))
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_names_fills_no_memory() {
    let registry = Registry::saying(vec![present('a')]);
    let bytes = 2 * 1024 * 1024;
    let cache = Cache::with_capacity(registry, around(Pods::default()), bytes);
    let asker = of("anonymous");
    let before = resident();
    for number in 0..50_000 {
        let name = image(&format!("evil.example/some/longer/path/to/an/app:{number}"));
        cache.resolve(&name, &asker, None, Instant::now() + seconds(5)).await;
    }
    let (entries, held) = cache.held();
    // The system's figure is only printed, because other tests run in this process too; it is right only if this test
    // runs alone.
    let grown = resident().saturating_sub(before);
    println!("{entries} entries of 50000 are held, {held} bytes by count, {grown} bytes by the system");
    assert!(held <= bytes && entries > 1000, "{entries} entries, {held} bytes");
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
