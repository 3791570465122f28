//! Events that the registry client reports while it works, for metrics and for `tagpin resolve`.
//!
//! No event holds a secret, the query of a URL, or text that a registry wrote; hosts are those of parsed URLs.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use url::Url;

use crate::credential::Source;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Cloud, Fact};

/// Receives events.
pub trait Observer: Send + Sync {
    /// Receives one event.
    fn observe(&self, event: &Event<'_>);

    /// Returns true if the observer wants [`Step::Headers`], which cost time to collect.
    fn wants_headers(&self) -> bool;
}

/// Ignores every event.
impl Observer for () {
    fn observe(&self, _event: &Event<'_>) {}

    fn wants_headers(&self) -> bool {
        false
    }
}

/// One event.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step of asking a registry.
    Step {
        /// The label of the registry's profile.
        registry: &'a str,
        /// The step.
        step: Step<'a>,
    },
    /// A look-up was answered.
    Answered(AnsweredBy),
    /// A host failed and is not asked for a while.
    BreakerOpened,
    /// A pull secret was named and not used.
    SecretSkipped(Skipped),
    /// A credential that is configured for a registry was not used.
    CredentialUnused {
        /// The label of the registry's profile.
        registry: &'a str,
        /// The host of the registry.
        host: &'a str,
        /// The reason.
        reason: Unused,
        /// Object of the reason: the region, the host of the token service, the namespace and name of the pull
        /// secret, or the right.
        about: &'a str,
    },
    /// A cloud was asked for a credential.
    CloudAsked {
        /// The cloud.
        cloud: Cloud,
        /// The reason why the cloud gave no credential; none if it gave one.
        error: Option<&'a dyn Error>,
    },
}

/// One step of asking a registry.
#[derive(Debug)]
pub enum Step<'a> {
    /// A request is sent.
    Asked {
        /// The purpose of the request.
        purpose: Purpose,
        /// The method of the request.
        method: Method,
        /// The place that the request is sent to.
        target: Target<'a>,
        /// The source of the credential that the request carries, directly or as a token; none if it carries none.
        credential: Option<&'a Source>,
    },
    /// Headers were sent or received; secrets are hidden.
    Headers {
        /// True for the headers of a response, false for those of a request.
        received: bool,
        /// Names and values.
        headers: &'a [(String, String)],
    },
    /// A response was received.
    Answered {
        /// The URL that was asked.
        url: &'a Url,
        /// The purpose of the request.
        purpose: Purpose,
        /// The HTTP status.
        status: u16,
        /// The time from the request to the end of the body.
        took: Duration,
        /// The requests that the registry's own limit still allows (`ratelimit-remaining`).
        remaining: Option<u64>,
    },
    /// No response was received.
    Failed {
        /// The URL that was asked.
        url: &'a Url,
        /// The purpose of the request.
        purpose: Purpose,
        /// The reason.
        failure: Failure,
        /// The time from the request to the failure.
        took: Duration,
    },
    /// The registry asked for authentication.
    Challenged {
        /// The scheme that it asked for.
        scheme: Scheme,
        /// The host of the token service.
        realm: Option<&'a str>,
    },
    /// The credential was withheld, because the token service is on another host than the registry.
    Withheld {
        /// The host of the token service.
        realm: &'a str,
    },
    /// The token service was not asked, because its address is not an https URL.
    RealmRefused,
    /// The registry serves the digest by digest.
    Confirmed {
        /// The digest.
        digest: &'a Digest,
        /// The platforms that an index lists (`linux/arm64`); empty for a single manifest.
        platforms: &'a [String],
    },
    /// The digest was not confirmed, because the registry's limit leaves too few pulls for the nodes.
    Spared,
    /// An endpoint was not asked, because its host failed a moment ago.
    EndpointSkipped {
        /// The root of the endpoint.
        endpoint: &'a Url,
        /// Time until the host is asked again.
        left: Duration,
    },
    /// An endpoint gave its final answer.
    Concluded {
        /// The root of the endpoint.
        endpoint: &'a Url,
        /// The answer.
        fact: &'a Fact,
    },
}

/// The place that a request is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A URL that tagpin made.
    Own(&'a Url),
    /// The host of a URL that a registry made; the rest of it may be a secret.
    Host(&'a str),
}

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To read a manifest or its digest.
    Manifest,
    /// To list tags.
    Tags,
    /// To get a token.
    Token,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `HEAD`.
    Head,
    /// `GET`.
    Get,
    /// `POST`: exchanges an identity token for a token, or calls the API of a cloud.
    Post,
    /// `PUT`: opens a session with a metadata service.
    Put,
}

/// An authentication scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// User and password.
    Basic,
    /// A token from a token service.
    Bearer,
    /// A scheme that tagpin does not support, or none.
    Other,
}

/// The reason why a request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The address must not be contacted, unless an entry allows it.
    AddressForbidden,
    /// The address must not be contacted, and no entry can allow it.
    AddressBlocked,
    /// The response did not arrive in time.
    Timeout,
    /// The name does not resolve.
    Dns,
    /// The connection was refused or closed.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The response is too large, has too many headers, or is not HTTP.
    Unreadable,
    /// The redirects are too many, or leave https.
    Redirect,
    /// The host failed a moment ago, so nothing was sent.
    Resting,
    /// The proxy cannot be reached, or refuses to connect.
    Proxy,
}

/// The source of the answer to a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnsweredBy {
    /// The configuration, which marks the registry as offline.
    Offline,
    /// A fresh entry of the cache.
    Memory,
    /// The registry, asked by this look-up or by an equal one at the same time.
    Registry,
    /// The deadline, which passed before the registry answered.
    Deadline,
}

/// The reason why a pull secret was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// There is no secret of that name.
    NotFound,
    /// The API server does not allow tagpin to read the secret.
    Forbidden,
    /// The name is not a valid name of a secret.
    InvalidName,
    /// The secret is empty, or not of a type that holds docker credentials.
    WrongType,
    /// The content is not a docker configuration.
    Malformed,
    /// The API server did not answer in time.
    Unavailable,
    /// The pod names more secrets than tagpin reads.
    TooMany,
    /// The secret holds an identity token, which nodes do not use; its other credentials are used.
    IdentityToken,
}

/// The reason why a configured credential was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unused {
    /// The registry is in a region that `aws.regions` does not list.
    Region,
    /// The token service is on another host, and no entry trusts it.
    Realm,
    /// The pull secret names a credential helper, which neither nodes nor tagpin run.
    Helper,
    /// tagpin's identity in the cloud lacks a right.
    Right,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(url) => write!(f, "{}{}", url.origin().ascii_serialization(), url.path()),
            Self::Host(host) => f.write_str(host),
        }
    }
}

macro_rules! words {
    ($type:ty { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            /// Returns the stable word for metrics and JSON.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

words!(Purpose { Manifest => "manifest", Tags => "tags", Token => "token" });
words!(Method { Head => "HEAD", Get => "GET", Post => "POST", Put => "PUT" });
words!(Scheme { Basic => "basic", Bearer => "bearer", Other => "other" });
words!(Failure {
    AddressForbidden => "address-forbidden",
    AddressBlocked => "address-blocked",
    Timeout => "timeout",
    Dns => "dns",
    Connect => "connect",
    Tls => "tls",
    Unreadable => "unreadable",
    Redirect => "redirect",
    Resting => "resting",
    Proxy => "proxy",
});
words!(Unused { Region => "region", Realm => "realm", Helper => "helper", Right => "right" });
words!(AnsweredBy {
    Offline => "offline",
    Memory => "memory",
    Registry => "registry",
    Deadline => "deadline",
});
impl Skipped {
    /// All reasons.
    pub(crate) const ALL: [Self; 8] = [
        Self::NotFound,
        Self::Forbidden,
        Self::InvalidName,
        Self::WrongType,
        Self::Malformed,
        Self::Unavailable,
        Self::TooMany,
        Self::IdentityToken,
    ];
}

words!(Skipped {
    NotFound => "not-found",
    Forbidden => "forbidden",
    InvalidName => "invalid-name",
    WrongType => "wrong-type",
    Malformed => "malformed",
    Unavailable => "unavailable",
    TooMany => "too-many",
    IdentityToken => "identity-token",
});
