//! Google: gets a token from the metadata server (for the service account of the machine, or on GKE of the workload),
//! or exchanges a key of a service account for one. The token is the password of the user `oauth2accesstoken`.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Secret;
use super::access::ServiceKey;
use super::error::CloudError;
use super::exchange::{self, Ask, Exchange};
use super::given::Given;
use crate::credential::Credential;
use crate::wire::guard::Reach;

const METADATA: &str = "the metadata server of Google";
const OAUTH: &str = "Google's token service";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform.read-only";
/// Time before the end of a token at which it is renewed, as Google's own libraries do.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// Lifetime of the assertion, in seconds: the longest that Google accepts.
const ASSERTED: u64 = 3600;

#[derive(Deserialize)]
struct HttpResponse {
    access_token: SecretString,
    expires_in: u64,
}

/// Returns a credential for every registry of Google.
pub(super) async fn credential(
    exchange: &Exchange,
    key: Option<&ServiceKey>,
    deadline: Instant,
) -> Result<Given, CloudError> {
    let answer = match key {
        None => of_metadata(exchange, deadline).await?,
        Some(key) => of_key(exchange, key, deadline).await?,
    };
    let (now, life) = (Instant::now(), Duration::from_secs(answer.expires_in));
    let credential = Credential::basic("oauth2accesstoken".to_owned(), answer.access_token);
    Ok(Given { credential, renew: now + life.saturating_sub(EARLY).max(life / 2), ends: now + life })
}

async fn of_metadata(exchange: &Exchange, deadline: Instant) -> Result<HttpResponse, CloudError> {
    let host =
        exchange.variable("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    let path = "computeMetadata/v1/instance/service-accounts/default/token";
    let url = exchange::url(METADATA, &format!("http://{host}/{path}"))?;
    let ask = Ask::get(METADATA, url, Reach::Metadata).with("metadata-flavor", "Google");
    let answer = exchange.send(ask, deadline).await?;
    // Another server at that name would not send this header.
    if answer.header("metadata-flavor") != Some("Google") {
        return Err(exchange::unreadable(METADATA));
    }
    exchange::read(METADATA, &answer)
}

/// Exchanges an assertion that is signed with the key for a token (RFC 7523).
async fn of_key(
    exchange: &Exchange,
    key: &ServiceKey,
    deadline: Instant,
) -> Result<HttpResponse, CloudError> {
    let now = exchange.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let assertion =
        key.assert(now).ok_or(CloudError::Nobody("the private key in the key file cannot sign"))?;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let form = exchange::form(&[("grant_type", grant), ("assertion", &assertion)]);
    let ask = Ask::post(OAUTH, exchange::url(OAUTH, &key.token_uri)?, form);
    exchange.json(ask, deadline).await
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretString,
    #[serde(default = "token_uri")]
    token_uri: String,
}

fn token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

impl ServiceKey {
    /// Reads the JSON key file of a service account; none if it is not one.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        use secrecy::ExposeSecret as _;
        let file: KeyFile = serde_json::from_slice(json).ok()?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.expose_secret().as_bytes()).ok()?;
        let key = der.secret_pkcs8_der().to_vec();
        RsaKeyPair::from_pkcs8(&key).ok()?;
        Some(Self { email: file.client_email, token_uri: file.token_uri, key: Secret(key) })
    }

    /// Creates a JWT that identifies the service account at this time, in seconds since 1970.
    fn assert(&self, now: u64) -> Option<String> {
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = part(serde_json::json!({ "alg": "RS256", "typ": "JWT" }));
        let claims = part(serde_json::json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_uri, "iat": now, "exp": now + ASSERTED,
        }));
        let text = format!("{header}.{claims}");
        let pair = RsaKeyPair::from_pkcs8(&self.key.0).ok()?;
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key for tests, without any rights.
    const KEY: &[u8] = include_bytes!("../../../../../tests/cases/registry/service-account.json");

    #[test]
    fn what_is_asserted_is_signed_as_openssl_signs_it() {
        let key = ServiceKey::parse(KEY).unwrap();
        let (text, signature) = SIGNED.rsplit_once('.').unwrap();
        let asserted = key.assert(1_440_938_160).unwrap();
        assert_eq!(asserted.rsplit_once('.').unwrap(), (text, signature));
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_key_file_is_none() {
        let other = String::from_utf8(KEY.to_vec()).unwrap().replace("BEGIN PRIVATE", "BEGIN PUBLIC");
        for text in ["", "{}", r#"{"client_email":"a","private_key":"b"}"#, &other] {
            assert!(ServiceKey::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    /// Header, claims, and `openssl dgst -sha256 -sign` of the two.
    const SIGNED: &str = concat!(
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJodHRwczovL29hdXRoMi5nb29nbGVhcGlzLmNvbS90b2tlbiIsImV",
        "4cCI6MTQ0MDk0MTc2MCwiaWF0IjoxNDQwOTM4MTYwLCJpc3MiOiJ0YWdwaW5AYWNtZS5pYW0uZ3NlcnZpY2VhY2NvdW50LmNvbSI",
        "sInNjb3BlIjoiaHR0cHM6Ly93d3cuZ29vZ2xlYXBpcy5jb20vYXV0aC9jbG91ZC1wbGF0Zm9ybS5yZWFkLW9ubHkifQ.eQraa7if",
        "qQTF3G1HznF9YKx2i-vTOxcruLg2ISx9N7CVFWQT_q22XangmfDvRA5g5m9N-pu7tW-LinDKed8T-",
        "2Wnwd_aH3GhUEfLIlsqcCPbjek96bScJCjn0e28pvUEVZ53b-wctl1HCV1-",
        "LEDLjip9IzaxB4vzbPKJDgGwE3UCgghKjv1qTGKeHQidBHe_aQEJkmultDKwCOvjna9IO1UqPg-kCr6oUPk2WmXK4IQ_NCAGfXe8",
        "jsaqStANzBEiYxv0Rca2mw0DcP0mzcWhDMJjYAysTfJmL75p9HdJisI0YNE8afjMygHihDk8YIfP_pQvtXoxz_UgBM3dlu6p3Q",
    );
}
