//! Requests and responses of HTTP, and their headers for display.

use std::sync::Arc;

use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::observe::{Failure, Method};
use crate::profile::endpoint::Header;
use crate::profile::proxy::ProxyWay;
use crate::profile::tls::Tls;
use crate::wire::guard::Reach;

/// Maximum number of headers of a response.
pub(super) const HEADER_COUNT: usize = 100;
/// One request.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) accept: Option<&'static str>,
    /// Headers of the operator for this host.
    pub(crate) headers: &'a [Header],
    pub(crate) body: Option<&'a Body>,
    /// The value of the `Authorization` header.
    pub(crate) authorization: Option<&'a SecretString>,
    pub(crate) tls: &'a Tls,
    pub(crate) reach: Reach,
    /// The proxy that leads to the host.
    pub(crate) proxy: Option<&'a Arc<ProxyWay>>,
    /// Maximum size of the body of a 200, in bytes; a larger one is an error.
    pub(crate) limit: usize,
}

impl Call<'_> {
    /// Builds the headers of the request.
    pub(super) fn fields(&self) -> Result<HeaderMap, Failure> {
        let mut fields = HeaderMap::new();
        for Header { name, value } in self.headers {
            fields.append(name.clone(), value.clone());
        }
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = self.accept {
            fields.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(body) = self.body {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        }
        if let Some(authorization) = self.authorization {
            let mut value =
                HeaderValue::from_str(authorization.expose_secret()).map_err(|_| Failure::Unreadable)?;
            value.set_sensitive(true);
            fields.insert(AUTHORIZATION, value);
        }
        Ok(fields)
    }

    /// Returns the headers for display, without secrets.
    pub(super) fn shown(&self) -> Vec<(String, String)> {
        self.fields().as_ref().map(shown).unwrap_or_default()
    }
}

/// Returns headers for display, without what is or may be a secret. Values are single lines already; long ones are
/// cut.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    const LONGEST: usize = 300;
    let show = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        let secret = ["auth", "cookie", "token", "secret", "key", "signature"];
        let hidden = name != "www-authenticate" && secret.iter().any(|part| name.contains(part));
        let text = value.to_str().unwrap_or("(not text)");
        let text = match (name, text.split_once('?')) {
            // Object stores put signatures into the query.
            ("location" | "link", Some((place, _))) => format!("{place}?***"),
            _ if hidden || value.is_sensitive() => match text.split_once(' ') {
                Some((scheme @ ("Basic" | "Bearer"), _)) => format!("{scheme} ***"),
                _ => "***".to_owned(),
            },
            _ => text.chars().take(LONGEST).collect(),
        };
        (name.to_owned(), text)
    };
    headers.iter().take(HEADER_COUNT).map(show).collect()
}

/// The body of a request; it may hold a secret.
pub(crate) struct Body {
    content_type: &'static str,
    pub(super) content: SecretString,
}

impl Body {
    /// Creates a JSON body of this media type.
    #[cfg(feature = "aws")]
    pub(crate) fn json(content_type: &'static str, content: &str) -> Self {
        Self { content_type, content: content.into() }
    }

    /// Returns the media type.
    #[cfg(feature = "aws")]
    pub(crate) const fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Creates a body of encoded form fields.
    pub(crate) const fn form(content: SecretString) -> Self {
        Self { content_type: "application/x-www-form-urlencoded", content }
    }
}

/// A response. The body of anything but a 200 is as much as arrived in time, and may be empty.
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(super) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl HttpResponse {
    /// Returns the headers for display, without secrets.
    pub(super) fn shown(&self) -> Vec<(String, String)> {
        shown(&self.headers)
    }

    /// Returns the first value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Returns every value of a header that is text.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }
}

#[cfg(test)]
impl HttpResponse {
    /// Creates a response for a test.
    pub(crate) fn of(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers
            .iter()
            .filter_map(|(name, value)| {
                let name: HeaderName = name.parse().ok()?;
                Some((name, HeaderValue::from_str(value).ok()?))
            })
            .collect();
        Self { status, headers, body: body.to_vec() }
    }
}
