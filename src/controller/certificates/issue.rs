//! An authority of our own and a leaf for the webhook, and when each is due. It reads and writes nothing.
//!
//! Nothing expires under anybody: a new authority is trusted for an hour before it signs, and an old one stays in the
//! bundle until it expires.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use secrecy::{ExposeSecret, SecretSlice};

use crate::cluster::certificate::Pems;

/// The Service that the API server calls.
const SERVICE: &str = "tagpin";

/// Lifetime of an authority.
const CA_LIFE: Duration = Duration::from_hours(24 * 365 * 10);
/// Lifetime of a leaf.
const LEAF_LIFE: Duration = Duration::from_hours(24 * 90);
/// The start of both is so far in the past: clocks differ.
const BACKDATE: Duration = Duration::from_hours(1);
/// So long after its start an authority signs, when there is an older one that still does.
const TRUSTED: Duration = Duration::from_hours(2);

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("make a certificate: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// One authority of the bundle.
struct Authority {
    der: CertificateDer<'static>,
    starts: Duration,
    ends: Duration,
}

/// What the Secret should hold instead of this; nothing when it is in order.
///
/// # Errors
/// When no key or certificate can be made.
pub fn next(held: Option<&Pems>, namespace: &str, now: Timestamp) -> Result<Option<Pems>, IssueError> {
    let now = since_epoch(now);
    let Some(held) = held else { return new_authority(&[], None, namespace, now).map(Some) };
    let mut bundle = authorities(&held.ca);
    bundle.retain(|authority| authority.ends > now);
    let certificate = |at| serves(&held.certificate, held.key.expose_secret(), &bundle, namespace, at);
    let serves_now = certificate(now);
    let newest = bundle.first().filter(|newest| newest.starts <= now && now < newest.is_due());
    let Some((newest, key)) = newest.and_then(|newest| Some((newest, newest.key(&held.ca_key)?))) else {
        return new_authority(&bundle, serves_now.then_some(held), namespace, now).map(Some);
    };
    let ca = pem(bundle.iter().map(|authority| &authority.der));
    // A young authority waits for everybody to trust it, unless nothing serves without it.
    if certificate(now + LEAF_LIFE / 3) || (serves_now && now < newest.starts + TRUSTED) {
        return Ok((ca != held.ca).then(|| Pems { ca, ..held.clone() }));
    }
    let (certificate, key) = leaf(&Issuer::from_ca_cert_der(&newest.der, key)?, namespace, now)?;
    Ok(Some(Pems { ca, certificate, key: key.into(), ca_key: held.ca_key.clone() }))
}

impl Authority {
    /// When it is time for the next one.
    fn is_due(&self) -> Duration {
        self.starts + self.ends.saturating_sub(self.starts) * 2 / 3
    }

    /// The authority's key, when this is it.
    fn key(&self, pem: &SecretSlice<u8>) -> Option<KeyPair> {
        let key = KeyPair::from_pem(std::str::from_utf8(pem.expose_secret()).ok()?).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        (certificate.public_key().subject_public_key.data == key.public_key_raw()).then_some(key)
    }
}

/// A new authority before those that there are, and a leaf of it when there is none that serves.
fn new_authority(
    older: &[Authority],
    leaf_kept: Option<&Pems>,
    namespace: &str,
    now: Duration,
) -> Result<Pems, IssueError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "tagpin webhook authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let starts = now.saturating_sub(BACKDATE);
    params.not_before = date_time_ymd(1970, 1, 1) + starts;
    params.not_after = date_time_ymd(1970, 1, 1) + starts + CA_LIFE;
    let certificate = params.self_signed(&key)?;
    let ca_key = key.serialize_pem().into_bytes().into();
    let ca = pem([certificate.der()].into_iter().chain(older.iter().map(|authority| &authority.der)));
    if let Some(kept) = leaf_kept {
        return Ok(Pems { ca, ca_key, certificate: kept.certificate.clone(), key: kept.key.clone() });
    }
    let (certificate, key) = leaf(&Issuer::new(params, key), namespace, now)?;
    Ok(Pems { ca, ca_key, certificate, key: key.into() })
}

/// A leaf and its key, in PEM.
fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    namespace: &str,
    now: Duration,
) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
    let key = KeyPair::generate()?;
    let name = format!("{SERVICE}.{namespace}");
    let names = vec![host(namespace), name.clone(), format!("{name}.svc.cluster.local")];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "tagpin webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let starts = now.saturating_sub(BACKDATE);
    params.not_before = date_time_ymd(1970, 1, 1) + starts;
    params.not_after = date_time_ymd(1970, 1, 1) + starts + LEAF_LIFE;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()))
}

/// The name that the API server asks for.
fn host(namespace: &str) -> String {
    format!("{SERVICE}.{namespace}.svc")
}

/// Whether a client that trusts these authorities would take this pair at that time.
fn serves(certificate: &[u8], key: &[u8], trusted: &[Authority], namespace: &str, at: Duration) -> bool {
    let accepted = || {
        let provider = Arc::new(ring::default_provider());
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(key).ok()?;
        CertifiedKey::from_der(chain.clone(), key, &provider).ok()?;
        let mut roots = RootCertStore::empty();
        let valid = trusted.iter().filter(|authority| authority.starts <= at && at < authority.ends);
        roots.add_parsable_certificates(valid.map(|authority| authority.der.clone()));
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        let (leaf, rest) = chain.split_first()?;
        let name = ServerName::try_from(host(namespace)).ok()?;
        verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::since_unix_epoch(at)).ok()
    };
    accepted().is_some()
}

/// The authorities of a bundle, as far as they can be read.
fn authorities(bundle: &[u8]) -> Vec<Authority> {
    let certificates = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok);
    certificates
        .filter_map(|der| {
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
            let seconds = |at: i64| u64::try_from(at).map(Duration::from_secs).ok();
            let starts = seconds(parsed.validity().not_before.timestamp())?;
            let ends = seconds(parsed.validity().not_after.timestamp())?;
            Some(Authority { starts, ends, der })
        })
        .collect()
}

/// Certificates as text (RFC 7468).
fn pem<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> Vec<u8> {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (position, character) in STANDARD.encode(certificate).chars().enumerate() {
            if position > 0 && position.is_multiple_of(64) {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

fn since_epoch(now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}
