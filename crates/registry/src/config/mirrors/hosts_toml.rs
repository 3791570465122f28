//! Reads a `hosts.toml` as containerd does: the tables `[host."…"]` in the order of the file, then the root.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::hub;
use crate::config::file::{ConfigError, Files, mistake_at};
use crate::profile::endpoint::{Endpoint, EndpointError, Header};
use crate::profile::tls::{CaBundle, ClientCertificate, Tls};

/// The settings for one registry.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// The hosts that are asked before the registry.
    pub(super) mirrors: Vec<Endpoint>,
    /// The `server`, with the settings of the root.
    pub(super) server: Option<Endpoint>,
    /// The TLS settings of the root, for the registry at its own name.
    pub(crate) tls: Option<Tls>,
}

/// Reads the file.
pub(super) fn read(
    files: &Files,
    file: &Path,
    text: &str,
    warnings: &mut Vec<String>,
) -> Result<Hosts, ConfigError> {
    let mut reader = Reader { files, file, text, warnings };
    let root = DeTable::parse(text).map_err(|error| reader.wrong(error.span(), "", error.message()))?;
    let root = root.into_inner();
    let said = reader.said(&root, "", true)?;
    let mut hosts = Hosts { mirrors: Vec::new(), server: None, tls: said.tls.clone() };
    if let Some(server) = root.get("server") {
        let url = reader.text(server, "server")?;
        if !url.is_empty() {
            hosts.server = Some(reader.endpoint(url, server.span(), "server", said)?);
        }
    }
    let Some(tables) = root.get("host") else { return Ok(hosts) };
    let DeValue::Table(tables) = tables.get_ref() else {
        return Err(reader.wrong(Some(tables.span()), "host", "must be tables: [host.\"https://…\"]"));
    };
    let mut tables: Vec<_> = tables.iter().collect();
    tables.sort_by_key(|(name, _)| name.span().start);
    for (name, table) in tables {
        let key = format!("host.{:?}", name.get_ref());
        let DeValue::Table(inside) = table.get_ref() else {
            return Err(reader.wrong(Some(table.span()), &key, "must be a table"));
        };
        let said = reader.said(inside, &key, false)?;
        hosts.mirrors.push(reader.endpoint(name.get_ref(), name.span(), &key, said)?);
    }
    Ok(hosts)
}

/// The settings of a table for one host.
struct Said {
    resolves: bool,
    override_path: bool,
    tls: Option<Tls>,
    headers: Vec<Header>,
}

struct Reader<'a> {
    files: &'a Files,
    file: &'a Path,
    text: &'a str,
    warnings: &'a mut Vec<String>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn wrong(&self, span: Option<Range<usize>>, key: &str, problem: impl Into<String>) -> ConfigError {
        mistake_at(self.file, self.text, span, key, problem)
    }

    fn warn(&mut self, key: &str, problem: impl std::fmt::Display) {
        self.warnings.push(format!("{}: {key}: {problem}", self.file.display()));
    }

    fn text<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<&'v str, ConfigError> {
        let text = value.get_ref().as_str();
        text.ok_or_else(|| self.wrong(Some(value.span()), key, "must be a text"))
    }

    fn boolean(&self, value: &Value<'_>, key: &str) -> Result<bool, ConfigError> {
        let boolean = value.get_ref().as_bool();
        boolean.ok_or_else(|| self.wrong(Some(value.span()), key, "must be true or false"))
    }

    /// Reads a text or a list of texts.
    fn texts<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<Vec<&'v str>, ConfigError> {
        match value.get_ref().as_array() {
            None => Ok(vec![self.text(value, key)?]),
            Some(values) => values.iter().map(|value| self.text(value, key)).collect(),
        }
    }

    fn said(&mut self, table: &DeTable<'_>, at: &str, is_root: bool) -> Result<Said, ConfigError> {
        let mut said = Said { resolves: true, override_path: false, tls: None, headers: Vec::new() };
        let mut tls = Tls::default();
        let mut secured = false;
        for (name, value) in table {
            let key =
                if at.is_empty() { name.get_ref().to_string() } else { format!("{at}.{}", name.get_ref()) };
            match &**name.get_ref() {
                "server" | "host" if is_root => {}
                "capabilities" => said.resolves = self.resolves(value, &key)?,
                "override_path" => said.override_path = self.boolean(value, &key)?,
                "skip_verify" => {
                    (tls.unverified, secured) = (self.boolean(value, &key)?, true);
                    if tls.unverified {
                        self.warn(&key, "the certificate is not verified: anybody on the network path can answer in place of this host");
                    }
                }
                "ca" => (tls.ca, secured) = (self.authorities(value, &key)?, true),
                "client" => (tls.client, secured) = (self.client(value, &key)?, true),
                "header" => said.headers = self.headers(value, &key)?,
                "dial_timeout" => {
                    self.text(value, &key)?;
                    self.warn(&key, "has no effect: tagpin always waits two seconds for a connection");
                }
                _ => self.warn(&key, "has no effect: containerd has no such key"),
            }
        }
        said.tls = secured.then_some(tls);
        Ok(said)
    }

    /// Reads the capabilities. A host that may resolve must also have the image.
    fn resolves(&self, value: &Value<'_>, key: &str) -> Result<bool, ConfigError> {
        let written = self.texts(value, key)?;
        let (mut pulls, mut resolves) = (false, false);
        for capability in &written {
            match capability.to_ascii_lowercase().as_str() {
                "pull" => pulls = true,
                "resolve" => resolves = true,
                "push" | "referrers" => {}
                other => {
                    let problem = format!("{other:?} is not one of: pull, resolve, push, referrers");
                    return Err(self.wrong(Some(value.span()), key, problem));
                }
            }
        }
        Ok(written.is_empty() || pulls && resolves)
    }

    fn path(&self, written: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(written)
    }

    /// Reads a file with a certificate. A file that is only on the nodes is a warning and is not used.
    fn bytes(&mut self, written: &str, key: &str) -> Option<Vec<u8>> {
        let read = self.files.read(&self.path(written));
        read.map_err(|cause| self.warn(key, format_args!("{written} is not used: {cause}"))).ok()
    }

    fn authorities(&mut self, value: &Value<'_>, key: &str) -> Result<Option<CaBundle>, ConfigError> {
        let mut pem = Vec::new();
        for written in self.texts(value, key)? {
            pem.extend(self.bytes(written, key).into_iter().flatten());
            pem.push(b'\n');
        }
        if pem.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let bundle = CaBundle::parse(&pem);
        bundle.map(Some).map_err(|error| self.wrong(Some(value.span()), key, error.to_string()))
    }

    /// Reads the client certificate: a file with certificate and key, a list of those, or pairs of files. The first
    /// one is used.
    fn client(
        &mut self,
        value: &Value<'_>,
        key: &str,
    ) -> Result<Option<Arc<ClientCertificate>>, ConfigError> {
        let first = match value.get_ref().as_array().map(|values| values.iter().as_slice()) {
            None => value,
            Some([]) => return Ok(None),
            Some([first, rest @ ..]) => {
                if !rest.is_empty() {
                    self.warn(key, "names several certificates: tagpin uses the first one");
                }
                first
            }
        };
        let pair = self.texts(first, key)?;
        let (chain, private) = match pair.as_slice() {
            [both] => (*both, *both),
            [chain, private] => (*chain, *private),
            _ => {
                return Err(self.wrong(
                    Some(first.span()),
                    key,
                    "write a pair: the file of the certificate and the file of its key",
                ));
            }
        };
        let Some((chain, private)) = self.bytes(chain, key).zip(self.bytes(private, key)) else {
            return Ok(None);
        };
        let own = ClientCertificate::parse(&chain, &private);
        own.map(|own| Some(Arc::new(own)))
            .map_err(|error| self.wrong(Some(first.span()), key, error.to_string()))
    }

    fn headers(&self, value: &Value<'_>, key: &str) -> Result<Vec<Header>, ConfigError> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(self.wrong(Some(value.span()), key, "must be a table of names and values"));
        };
        let mut headers = Vec::new();
        for (name, value) in table {
            let key = format!("{key}.{}", name.get_ref());
            for text in self.texts(value, &key)? {
                let header = Header::new(name.get_ref(), text);
                let header = header
                    .ok_or_else(|| self.wrong(Some(name.span()), &key, "is not a valid HTTP header"))?;
                headers.push(header);
            }
        }
        Ok(headers)
    }

    fn endpoint(
        &mut self,
        written: &str,
        span: Range<usize>,
        key: &str,
        said: Said,
    ) -> Result<Endpoint, ConfigError> {
        let place = place(written, said.override_path).and_then(hub::endpoint);
        let mut endpoint = place.map_err(|error| self.wrong(Some(span), key, error.to_string()))?;
        if endpoint.plain_http() && said.tls.is_some() && endpoint.root().port().is_some() {
            self.warn(key, "tagpin uses http, but nodes try https first, because TLS settings are given");
        }
        endpoint.resolves = said.resolves;
        endpoint.tls = said.tls.unwrap_or_default();
        endpoint.headers = said.headers.into();
        Ok(endpoint)
    }
}

/// Parses the URL of a host. Its path ends with `/v2`, unless that is overridden.
fn place(written: &str, override_path: bool) -> Result<Url, EndpointError> {
    let scheme = if written.contains("://") { "" } else { "https://" };
    let mut url = Url::parse(&format!("{scheme}{written}")).map_err(|_| EndpointError::Url)?;
    let path = url.path().trim_end_matches('/').to_owned();
    if !override_path && !path.ends_with("/v2") {
        url.set_path(&format!("{path}/v2"));
    }
    Ok(url)
}
