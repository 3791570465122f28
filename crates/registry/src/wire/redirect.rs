//! Follows redirects: the guard checks every hop, no hop leaves https, and the credential is dropped at the first
//! change of origin.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use crate::credential::Source;
use crate::observe::{Event, Failure, Method, Observer, Purpose, Step, Target};
use crate::profile::endpoint::{Endpoint, Header, Profiles};
use crate::profile::host::authority;
use crate::profile::tls::Tls;
use crate::wire::guard::Reach;
use crate::wire::message::{Body, Call, HttpResponse};
use crate::wire::transport::Transport;
use tagpin_domain::fact::{ForbiddenHost, Position};

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
}

/// Everything that is needed to reach one endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) profiles: &'a dyn Profiles,
    pub(crate) observer: &'a dyn Observer,
    /// The bounded label of the registry.
    pub(crate) label: &'a str,
    /// The domain of the registry, as references name it.
    pub(crate) registry: &'a str,
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
            let target =
                if hop == 0 && request.own { Target::Own(&url) } else { Target::Host(host_of(&url)) };
            let source = authorization.and(request.source);
            self.observe(Step::Asked {
                purpose: request.purpose,
                method: request.method,
                target,
                credential: source,
            });
            let answer = self.exchange(request, &url, authorization, deadline).await;
            let answer = answer.map_err(|failure| self.unanswered(request, &url, failure))?;
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

    async fn exchange(
        &self,
        request: &Request<'_>,
        url: &Url,
        authorization: Option<&SecretString>,
        deadline: Instant,
    ) -> Result<HttpResponse, Failure> {
        let (reach, tls) = self.way_to(url);
        let call = Call {
            method: request.method,
            url,
            accept: request.accept,
            headers: self.headers_for(url),
            body: request.body,
            authorization,
            tls: &tls,
            reach,
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
                self.observe(Step::Answered { purpose, status: answer.status, took, remaining });
                Ok(answer)
            }
            Err(failure) => {
                self.observe(Step::Failed { purpose, failure, took });
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
        Unanswered { failure, forbidden }
    }

    /// Returns the addresses that a request to this URL may reach, and its TLS settings: those that the operator set
    /// for that very host.
    fn way_to(&self, url: &Url) -> (Reach, Tls) {
        let reach = |allow_private: bool| if allow_private { Reach::Private } else { Reach::Public };
        if url.host() == self.endpoint.host() {
            return (reach(self.endpoint.allow_private), self.endpoint.tls.clone());
        }
        let domain = match url.port() {
            None => host_of(url).to_owned(),
            Some(port) => format!("{}:{port}", host_of(url)),
        };
        let profile = self.profiles.profile(&domain);
        match profile.upstream.as_ref().filter(|upstream| upstream.host() == url.host()) {
            None => (Reach::Public, self.endpoint.tls.for_others()),
            Some(own) if own.tls == Tls::default() => {
                (reach(own.allow_private), self.endpoint.tls.for_others())
            }
            Some(own) => (reach(own.allow_private), own.tls.clone()),
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
    Unanswered { failure: Failure::Redirect, forbidden: None }
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

    #[test]
    fn what_is_left_of_a_limit_is_the_number_before_its_window() {
        assert_eq!(number_before_window("20;w=21600"), Some(20));
        assert_eq!(number_before_window("7"), Some(7));
        assert_eq!(number_before_window("many"), None);
    }
}
