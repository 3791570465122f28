//! What the client tells while it works: closed events, for metrics and for `tagpin resolve`. No event holds a
//! secret, a query or text of a registry; hosts are those of parsed URLs.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::credential::Source;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::Fact;

/// Listens to the client.
pub trait Observer: Send + Sync {
    /// Something happened while the registry with this label (its profile's) was asked.
    fn observe(&self, registry: &str, event: &Event<'_>);

    /// It wants [`Event::Headers`] too.
    fn wants_headers(&self) -> bool {
        false
    }
}

/// Nobody listens.
impl Observer for () {
    fn observe(&self, _registry: &str, _event: &Event<'_>) {}
}

/// One step of a look-up.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request goes out.
    Asked {
        /// What for.
        purpose: Purpose,
        /// `HEAD` or `GET`.
        method: Method,
        /// Where to: of a token service or redirect only the host is ours to show.
        target: Target<'a>,
        /// Whose credential it carries, directly or as a token; none when it carries none.
        credential: Option<&'a Source>,
    },
    /// What went out with a request, or came back; secrets are hidden.
    Headers {
        /// They came back.
        received: bool,
        /// Names and values.
        headers: &'a [(String, String)],
    },
    /// An answer came.
    Answered {
        /// What for.
        purpose: Purpose,
        /// The status.
        status: u16,
        /// How long it took, body included.
        took: Duration,
        /// What is left of the registry's own limit, as it says (`ratelimit-remaining`).
        remaining: Option<u64>,
    },
    /// No answer came.
    Failed {
        /// What for.
        purpose: Purpose,
        /// Why.
        failure: Failure,
        /// How long it took.
        took: Duration,
    },
    /// The registry wants to know who asks.
    Challenged {
        /// How it wants to be told.
        scheme: Scheme,
        /// The token service's host.
        realm: Option<&'a str>,
    },
    /// A credential was kept back: the token service is not on the registry's own host.
    Withheld {
        /// The token service's host.
        realm: &'a str,
    },
    /// The token service is not one that may be asked: not https, or not a URL.
    RealmRefused,
    /// The digest was asked for by digest, and is served.
    Confirmed {
        /// The digest.
        digest: &'a Digest,
        /// What an index says it is for (`linux/arm64`); a lone manifest does not say it.
        platforms: &'a [String],
    },
    /// The digest was not asked for by digest: the registry's limit leaves too few pulls for the nodes.
    Spared,
    /// One endpoint has been heard.
    Concluded {
        /// Its root.
        endpoint: &'a Url,
        /// What it says of the tag.
        fact: &'a Fact,
    },
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A URL that we made.
    Own(&'a Url),
    /// The host of a URL that a registry made.
    Host(&'a str),
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A manifest's digest.
    Manifest,
    /// A page of tags.
    Tags,
    /// A token.
    Token,
}

/// How a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// For the headers.
    Head,
    /// For the body.
    Get,
    /// With a form: a token for an identity token.
    Post,
    /// To open a session with a metadata service.
    Put,
}

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// User and password.
    Basic,
    /// A token from a token service.
    Bearer,
    /// Nothing that we speak, or nothing at all.
    Other,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The address is out of reach.
    AddressForbidden,
    /// Not in time.
    Timeout,
    /// The name does not resolve.
    Dns,
    /// No connection, or it broke.
    Connect,
    /// No TLS.
    Tls,
    /// Too large, too many headers, or not HTTP.
    Unreadable,
    /// Too many redirects, or one that leaves https.
    Redirect,
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
            /// The stable word for metrics and JSON.
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
    Timeout => "timeout",
    Dns => "dns",
    Connect => "connect",
    Tls => "tls",
    Unreadable => "unreadable",
    Redirect => "redirect",
});
