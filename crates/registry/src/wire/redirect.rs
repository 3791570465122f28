//! Follows redirects: the guard checks every hop, no hop leaves https, and the credential is dropped at the first
//! change of origin. A host that cannot be connected to is tried once more; one that rests is not asked.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::credential::Source;
use crate::observe::{Event, Failure, Method, Observer, Purpose, Step, Target};
use crate::profile::endpoint::{Endpoint, Header, Profiles};
use crate::profile::host::authority;
use crate::profile::tls::Tls;
use crate::wire::guard::Reach;
use crate::wire::health::{Evidence, Health, Host};
use crate::wire::message::{Body, Call, HttpResponse};
use crate::wire::retry::{WORTH, jitter};
use crate::wire::transport::Transport;
use tagpin_domain::fact::{ForbiddenHost, Position};

/// Minimum time that a host must have had for a timeout to count against it.
const WHOLE: Duration = Duration::from_secs(2);

/// Limits on following redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// At most five hops, to any host.
    Anywhere,
    /// At most two hops on the same host: for a token service.
    SameHost,
}

/// A request, before redirects.
pub(crate) struct Request<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// True if tagpin made the URL, so that it may be shown.
    pub(crate) own: bool,
    pub(crate) accept: Option<&'static str>,
    /// The body of a POST.
    pub(crate) body: Option<&'a Body>,
    pub(crate) authorization: Option<&'a SecretString>,
    /// The source of the credential in the authorization.
    pub(crate) source: Option<&'a Source>,
    pub(crate) follow: Follow,
    pub(crate) limit: usize,
}

/// The final response of a chain of redirects.
pub(crate) struct Followed {
    pub(crate) answer: HttpResponse,
    /// The URL that gave the response.
    pub(crate) url: Url,
    /// True if the response came from another origin than the one that was asked.
    pub(crate) crossed: bool,
}

/// The failure of a request that got no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// The host that must not be contacted, if that is the failure.
    pub(crate) forbidden: Option<Box<ForbiddenHost>>,
    /// Time until the host is asked again, if that is the failure and the time is known.
    pub(crate) rests: Option<Duration>,
}

/// Everything that is needed to reach one endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) profiles: &'a dyn Profiles,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) health: &'a Health,
    /// The bounded label of the registry.
    pub(crate) label: &'a str,
    /// The domain of the registry, as references name it.
    pub(crate) registry: &'a str,
    /// The repository, with its registry.
    pub(crate) repository: &'a str,
    /// The `match` of the entry that covers the registry.
    pub(crate) entry: Option<&'a Arc<str>>,
    pub(crate) endpoint: &'a Endpoint,
}

impl Route<'_> {
    /// Sends the request and follows redirects.
    pub(crate) async fn follow(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Followed, Unanswered> {
        let mut url = request.url.clone();
        let mut authorization = request.authorization;
        let (hops, same_host) = match request.follow {
            Follow::Anywhere => (5, false),
            Follow::SameHost => (2, true),
        };
        for hop in 0..=hops {
            let own = hop == 0 && request.own;
            let answer = self.reach(request, &url, own, authorization, deadline).await?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) || request.method == Method::Post {
                let crossed = url.origin() != request.url.origin();
                return Ok(Followed { answer, url, crossed });
            }
            let next = next_hop(&url, answer.header("location")).ok_or_else(stray)?;
            if same_host && next.host() != request.url.host() {
                return Err(stray());
            }
            if next.origin() != url.origin() {
                authorization = None;
            }
            url = next;
        }
        Err(stray())
    }

    /// Sends the request to one host, unless it rests, and learns about its health.
    async fn reach(
        &self,
        request: &Request<'_>,
        url: &Url,
        own: bool,
        authorization: Option<&SecretString>,
        deadline: Instant,
    ) -> Result<HttpResponse, Unanswered> {
        let root = self.endpoint.root();
        let host = Host::new(url, root, self.profiles.network().proxy_for(url));
        let pass = self.health.enter(host, Instant::now()).map_err(|left| {
            if url.origin() == root.origin() {
                self.observe(Step::EndpointSkipped { endpoint: root, left });
            }
            let rests = (!left.is_zero()).then_some(left);
            Unanswered { failure: Failure::Resting, forbidden: None, rests }
        })?;
        let asked = Instant::now();
        let mut result = self.exchange(request, url, own, authorization, deadline).await;
        let mut evidence = evidence(&result, deadline.saturating_duration_since(asked) >= WHOLE);
        if let Err(failure) = result
            && may_be_a_hiccup(request.method, failure)
            && !pass.is_probe()
        {
            let pause = jitter();
            if Instant::now() + pause + WORTH < deadline {
                sleep(pause).await;
                if !pass.is_overtaken(Instant::now()) {
                    result = self.exchange(request, url, own, authorization, deadline).await;
                    evidence = match self::evidence(&result, true) {
                        // No attempt of two got as far as an answer.
                        Evidence::Doubtful if result.is_err() => Evidence::Gone,
                        other => other,
                    };
                }
            }
        }
        if pass.learn(evidence, self.label, self.repository, Instant::now()) {
            self.observer.observe(&Event::BreakerOpened);
        }
        result.map_err(|failure| self.unanswered(request, url, self.told(url, failure)))
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        url: &Url,
        own: bool,
        authorization: Option<&SecretString>,
        deadline: Instant,
    ) -> Result<HttpResponse, Failure> {
        self.observe(Step::Asked {
            purpose: request.purpose,
            method: request.method,
            target: if own { Target::Own(url) } else { Target::Host(host_of(url)) },
            credential: authorization.and(request.source),
        });
        let (reach, mut tls) = self.way_to(url);
        let network = self.profiles.network();
        tls.common.clone_from(&network.ca);
        let call = Call {
            method: request.method,
            url,
            accept: request.accept,
            headers: self.headers_for(url),
            body: request.body,
            authorization,
            tls: &tls,
            reach,
            proxy: network.proxy_for(url),
            limit: request.limit,
        };
        let purpose = request.purpose;
        let headers = |received, shown: &dyn Fn() -> Vec<(String, String)>| {
            if self.observer.wants_headers() {
                self.observe(Step::Headers { received, headers: &shown() });
            }
        };
        headers(false, &|| call.shown());
        let start = Instant::now();
        let result = self.transport.exchange(&call, deadline).await;
        let took = start.elapsed();
        match result {
            Ok(answer) => {
                headers(true, &|| answer.shown());
                let remaining = answer.header("ratelimit-remaining").and_then(number_before_window);
                self.observe(Step::Answered { url, purpose, status: answer.status, took, remaining });
                Ok(answer)
            }
            Err(failure) => {
                self.observe(Step::Failed { url, purpose, failure, took });
                Err(failure)
            }
        }
    }

    /// Returns the error for a request that got no response from this URL.
    fn unanswered(&self, request: &Request<'_>, url: &Url, failure: Failure) -> Unanswered {
        let never = failure == Failure::AddressBlocked;
        let forbidden = (never || failure == Failure::AddressForbidden).then(|| {
            // Another port of the endpoint's own host is reached as the endpoint is.
            let position = match request.purpose {
                _ if url.host() == self.endpoint.host() && self.endpoint.is_mirror => Position::Mirror,
                _ if url.host() == self.endpoint.host() => Position::Registry,
                Purpose::Token => Position::TokenService,
                Purpose::Manifest | Purpose::Tags => Position::Redirect,
            };
            let authority = authority(url);
            let own_entry = match position {
                Position::Registry | Position::Mirror => None,
                Position::TokenService | Position::Redirect => {
                    self.profiles.profile(&authority).entry.clone()
                }
            };
            Box::new(ForbiddenHost {
                authority,
                position,
                registry: self.registry.to_owned(),
                entry: self.entry.cloned(),
                own_entry,
                // The session knows.
                untrusted: false,
                never,
            })
        });
        Unanswered { failure, forbidden, rests: None }
    }

    /// Returns the addresses that a request to this URL may reach, and its TLS settings: those that the operator set
    /// for that very host.
    fn way_to(&self, url: &Url) -> (Reach, Tls) {
        let reach = |allow_private: bool| if allow_private { Reach::Private } else { Reach::Public };
        let endpoint = self.endpoint;
        if url.host() == endpoint.host() {
            let reach = Reach::of_endpoint(endpoint, url, &self.profiles.network());
            return (reach, endpoint.tls.clone());
        }
        let profile = self.profiles.profile(&authority(url));
        match profile.upstream.as_ref().filter(|upstream| upstream.host() == url.host()) {
            None => (Reach::Public, endpoint.tls.for_others()),
            Some(own) if own.tls == Tls::default() => (reach(own.allow_private), endpoint.tls.for_others()),
            Some(own) => (reach(own.allow_private), own.tls.clone()),
        }
    }

    /// Returns the failure as the asker may know it. In the operator's own ranges all failures read alike, unless an
    /// entry names the registry: nobody finds out which hosts there are by naming images.
    fn told(&self, url: &Url, failure: Failure) -> Failure {
        match failure {
            Failure::Timeout | Failure::Tls | Failure::Unreadable
                if self.entry.is_none() && self.transport.is_own(&self.way_to(url).0, url) =>
            {
                Failure::Connect
            }
            failure => failure,
        }
    }

    /// Returns the operator's headers if the URL belongs to the endpoint; they are sent nowhere else.
    fn headers_for(&self, url: &Url) -> &[Header] {
        let own = url.origin() == self.endpoint.root().origin();
        if own { &self.endpoint.headers } else { &[] }
    }

    pub(crate) fn observe(&self, step: Step<'_>) {
        self.observer.observe(&Event::Step { registry: self.label, step });
    }
}

/// Returns what the result of a request says about its host. `whole` is true if the host had all the time that it may
/// take, so that a timeout counts against it.
const fn evidence(result: &Result<HttpResponse, Failure>, whole: bool) -> Evidence {
    match result {
        // 501 is about the method and 505 about the version of HTTP.
        Ok(HttpResponse { status: 500 | 502..=504 | 506..=599, .. }) => Evidence::Doubtful,
        Ok(_) => Evidence::Well,
        Err(Failure::Dns | Failure::Connect | Failure::Tls | Failure::Proxy) => Evidence::Doubtful,
        Err(Failure::Timeout) if whole => Evidence::Doubtful,
        Err(_) => Evidence::Silent,
    }
}

/// Returns true if the same request may succeed a moment later. A POST whose connection was closed may have had its
/// effect.
const fn may_be_a_hiccup(method: Method, failure: Failure) -> bool {
    match failure {
        Failure::Dns | Failure::Tls | Failure::Proxy => true,
        Failure::Connect => !matches!(method, Method::Post),
        _ => false,
    }
}

/// Returns the target of a redirect; none if it leaves https or is not a plain URL.
fn next_hop(current: &Url, location: Option<&str>) -> Option<Url> {
    let mut next = current.join(location?).ok()?;
    next.set_fragment(None);
    let scheme = match (current.scheme(), next.scheme()) {
        (_, "https") => true,
        (from, "http") => from == "http",
        _ => false,
    };
    let plain = next.has_host() && next.username().is_empty() && next.password().is_none();
    (scheme && plain).then_some(next)
}

/// Returns the error for a redirect that is not followed.
const fn stray() -> Unanswered {
    Unanswered { failure: Failure::Redirect, forbidden: None, rests: None }
}

/// Returns the host of a URL, without its port.
pub(crate) fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Parses the number before the window of a rate limit: `20` of `20;w=21600`.
pub(crate) fn number_before_window(value: &str) -> Option<u64> {
    value.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::endpoint::RegistryProfile;
    use crate::profile::network::{IpNet, Network};
    use crate::wire::guard::SystemNames;

    fn hop(from: &str, location: &str) -> Option<String> {
        next_hop(&Url::parse(from).unwrap(), Some(location)).map(String::from)
    }

    #[test]
    fn a_location_is_read_against_the_url_that_was_asked() {
        let from = "https://reg.example/v2/a/manifests/1";
        assert_eq!(hop(from, "/v2/b").as_deref(), Some("https://reg.example/v2/b"));
        assert_eq!(hop(from, "2#x").as_deref(), Some("https://reg.example/v2/a/manifests/2"));
        assert_eq!(hop(from, "//other.example/x").as_deref(), Some("https://other.example/x"));
    }

    #[test]
    fn no_redirect_leaves_https_or_carries_a_user() {
        assert_eq!(hop("https://reg.example/", "http://reg.example/"), None);
        assert_eq!(hop("http://reg.example/", "http://b.example/").as_deref(), Some("http://b.example/"));
        assert_eq!(hop("http://reg.example/", "https://b.example/").as_deref(), Some("https://b.example/"));
        for location in ["https://u:p@b.example/", "file:///etc/passwd", "data:,x", "https://", "http://[::1"]
        {
            assert_eq!(hop("https://reg.example/", location), None, "{location}");
        }
        assert_eq!(next_hop(&Url::parse("https://reg.example/").unwrap(), None), None);
    }

    /// A network in which `10.20.0.0/16` is the operator's own.
    struct Own;

    impl Profiles for Own {
        fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
            Arc::new(RegistryProfile::of(domain))
        }

        fn network(&self) -> Arc<Network> {
            let own: [_; 1] = [IpNet::parse("10.20.0.0/16").unwrap()];
            Arc::new(Network { own: Some(own.into()), ..Network::default() })
        }
    }

    #[test]
    fn in_own_ranges_all_failures_read_alike_unless_an_entry_names_the_registry() {
        let (transport, health) = (Transport::new(Arc::new(SystemNames)), Health::default());
        let entry: Arc<str> = "*".into();
        let told = |url: &str, entry: Option<&Arc<str>>, failure| {
            let url = Url::parse(url).unwrap();
            let endpoint = Endpoint::new(url.clone()).unwrap();
            let (label, registry, repository) = ("other", "reg.example", "reg.example/app");
            let (transport, health) = (&transport, &health);
            let (profiles, observer, endpoint) = (&Own, &(), &endpoint);
            Route { transport, profiles, observer, health, label, registry, repository, entry, endpoint }
                .told(&url, failure)
        };
        for failure in [Failure::Timeout, Failure::Tls, Failure::Unreadable, Failure::Connect] {
            assert_eq!(told("https://10.20.0.1:8443", None, failure), Failure::Connect);
            assert_eq!(told("https://10.20.0.1:8443", Some(&entry), failure), failure);
            assert_eq!(told("https://10.21.0.1", None, failure), failure);
            assert_eq!(told("https://reg.example", None, failure), failure);
        }
        assert_eq!(told("https://10.20.0.1", None, Failure::AddressForbidden), Failure::AddressForbidden);
    }

    #[test]
    fn what_is_left_of_a_limit_is_the_number_before_its_window() {
        assert_eq!(number_before_window("20;w=21600"), Some(20));
        assert_eq!(number_before_window("7"), Some(7));
        assert_eq!(number_before_window("many"), None);
    }
}
