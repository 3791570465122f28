//! Makes the certificate authority and the webhook's certificate (the leaf), and decides when each is due.
//! This module reads and writes nothing.
//!
//! No client ever meets an unknown or expired authority: a new one is in the bundle for a while (at most an
//! hour) before it signs, and an old one stays in the bundle until it expires.

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

use tagpin_kube::certificate::Pems;
use tagpin_objects::release;

/// Time by which a new certificate's start date lies in the past, because clocks differ.
const BACKDATE: Duration = Duration::from_hours(1);
/// Maximum time for which a new authority is in the bundle before it signs, while a leaf of an older
/// authority serves. The time is at most half of a leaf's lifetime.
const TRUST_PERIOD: Duration = Duration::from_hours(1);
/// Remaining lifetime of a leaf below which it is renewed by any authority, however young.
const LAST_MOMENT: Duration = Duration::from_secs(2);
/// Maximum time between two checks of the certificate.
const MAX_CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// Minimum time between two checks of the certificate.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Number of checks in the lifetime of a leaf.
const CHECKS_PER_LIFETIME: u32 = 12;

/// Lifetimes of new certificates. A certificate with less than a third of its lifetime left, or with more
/// than all of it, is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Lifetime of the webhook's certificate.
    pub leaf: Duration,
    /// Lifetime of the authority that signs it.
    pub authority: Duration,
}

/// The reason why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("make a certificate: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// One authority in the bundle.
struct Authority {
    der: CertificateDer<'static>,
    starts: Duration,
    ends: Duration,
}

/// Returns the content that the Secret should have; none if it is as it should be.
///
/// # Errors
/// Fails if no key or certificate can be made.
pub fn next(
    held: Option<&Pems>,
    namespace: &str,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<Option<Pems>, IssueError> {
    let now = since_epoch(now);
    let maker = Maker { namespace, lifetimes, now };
    let Some(held) = held else { return maker.authority(&[], None).map(Some) };
    let mut bundle = authorities(&held.ca);
    bundle.retain(|authority| authority.ends > now);
    let certificate = |at| serves(&held.certificate, held.key.expose_secret(), &bundle, namespace, at);
    let serves_on = certificate(now + LAST_MOMENT);
    let newest = bundle.first().filter(|newest| newest.starts <= now && lifetimes.suits(newest, now));
    let Some((newest, key)) = newest.and_then(|newest| Some((newest, newest.key(&held.ca_key)?))) else {
        let lasts = certificate(now + lifetimes.leaf / 3 + lifetimes.trusted());
        let last = if lasts { None } else { maker.last_leaf(&bundle, held)? };
        return maker.authority(&bundle, last.as_ref().or(serves_on.then_some(held))).map(Some);
    };
    let ca = pem(bundle.iter().map(|authority| &authority.der));
    // A young authority does not sign until every client can trust it, unless no certificate is usable without it.
    let outlasts = ends(&held.certificate).is_some_and(|ends| ends > now + lifetimes.leaf);
    let in_order = certificate(now + lifetimes.leaf / 3) && !outlasts;
    let young = now < newest.starts + BACKDATE + lifetimes.trusted();
    if in_order || (serves_on && young) {
        return Ok((ca != held.ca).then(|| Pems { ca, ..held.clone() }));
    }
    let (certificate, key) = maker.leaf(&Issuer::from_ca_cert_der(&newest.der, key)?)?;
    Ok(Some(Pems { ca, certificate, key: key.into(), ca_key: held.ca_key.clone() }))
}

/// Returns the time until the next check. It also suits a leaf that was made with other, shorter lifetimes.
#[must_use]
pub fn next_check(held: Option<&Pems>, lifetimes: Lifetimes, now: Timestamp) -> Duration {
    let left =
        held.and_then(|held| ends(&held.certificate)).map(|ends| ends.saturating_sub(since_epoch(now)));
    let life = left.unwrap_or(lifetimes.leaf).min(lifetimes.leaf);
    (life / CHECKS_PER_LIFETIME).clamp(MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL)
}

impl Lifetimes {
    /// Returns the time for which a new authority is in the bundle before it signs.
    fn trusted(self) -> Duration {
        TRUST_PERIOD.min(self.leaf / 2)
    }

    /// Returns true if the authority neither ends soon nor lives longer than these lifetimes allow.
    fn suits(self, authority: &Authority, now: Duration) -> bool {
        (now + self.authority / 3..=now + self.authority).contains(&authority.ends)
    }
}

impl Authority {
    /// Parses the key; none if it is not the key of this authority.
    fn key(&self, pem: &SecretSlice<u8>) -> Option<KeyPair> {
        let key = KeyPair::from_pem(std::str::from_utf8(pem.expose_secret()).ok()?).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        (certificate.public_key().subject_public_key.data == key.public_key_raw()).then_some(key)
    }
}

/// The maker of certificates that are valid from now on.
struct Maker<'a> {
    namespace: &'a str,
    lifetimes: Lifetimes,
    now: Duration,
}

impl Maker<'_> {
    /// Makes a new authority at the front of the bundle, and a leaf of it unless `leaf_kept` is usable.
    fn authority(&self, older: &[Authority], leaf_kept: Option<&Pems>) -> Result<Pems, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tagpin webhook authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.date(&mut params, self.lifetimes.authority);
        let certificate = params.self_signed(&key)?;
        let ca_key = key.serialize_pem().into_bytes().into();
        let ca = pem([certificate.der()].into_iter().chain(older.iter().map(|authority| &authority.der)));
        if let Some(kept) = leaf_kept {
            return Ok(Pems { ca, ca_key, certificate: kept.certificate.clone(), key: kept.key.clone() });
        }
        let (certificate, key) = self.leaf(&Issuer::new(params, key))?;
        Ok(Pems { ca, ca_key, certificate, key: key.into() })
    }

    /// Makes a last leaf of the newest authority before its key is replaced, so that the next authority can
    /// become trusted meanwhile. Returns none without the key, or if the authority ends too soon.
    fn last_leaf(&self, bundle: &[Authority], held: &Pems) -> Result<Option<Pems>, IssueError> {
        let outlives = |authority: &&Authority| {
            authority.starts <= self.now && authority.ends > self.now + self.lifetimes.leaf
        };
        let signer = bundle.first().filter(outlives);
        let Some((signer, key)) = signer.and_then(|signer| Some((signer, signer.key(&held.ca_key)?))) else {
            return Ok(None);
        };
        let (certificate, key) = self.leaf(&Issuer::from_ca_cert_der(&signer.der, key)?)?;
        Ok(Some(Pems { certificate, key: key.into(), ..held.clone() }))
    }

    /// Makes a leaf and its key, in PEM.
    fn leaf(&self, issuer: &Issuer<'_, KeyPair>) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
        let key = KeyPair::generate()?;
        let name = format!("{}.{}", release::NAME, self.namespace);
        let names = vec![host(self.namespace), name.clone(), format!("{name}.svc.cluster.local")];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "tagpin webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        self.date(&mut params, self.lifetimes.leaf);
        let certificate = params.signed_by(&key, issuer)?;
        Ok((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()))
    }

    fn date(&self, params: &mut CertificateParams, lifetime: Duration) {
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + self.now.saturating_sub(BACKDATE);
        params.not_after = epoch + self.now + lifetime;
    }
}

/// Returns the host name that the API server connects to.
fn host(namespace: &str) -> String {
    format!("{}.{namespace}.svc", release::NAME)
}

/// Returns true if a client that trusts these authorities accepts this certificate and key at that time.
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

/// Parses the authorities of a bundle; what cannot be parsed is left out.
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

/// Returns the time at which the first certificate of a chain ends.
fn ends(chain: &[u8]) -> Option<Duration> {
    authorities(chain).first().map(|certificate| certificate.ends)
}

/// Returns the certificates as text (RFC 7468).
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
