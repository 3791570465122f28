//! A token service for the registry of the distribution project: it gives a JWT that is signed with ES256 and has the
//! certificate in `x5c`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SigningKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The kind of token that the service gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// The right token: everybody may read `public/…`, and `robot` may read everything.
    Due,
    /// A token that has expired.
    Expired,
    /// A token for another service.
    ForOthers,
    /// A token for another repository.
    Elsewhere,
    /// No token: 403.
    Nothing,
}

/// The password of `robot`.
pub(super) const PASSWORD: &str = "the-robots-password";

/// Signs tokens.
pub(super) struct Signer {
    key: KeyPair,
    der: Vec<u8>,
    pub(super) bundle: String,
}

impl Signer {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().to_vec(), bundle: certificate.pem(), key }
    }

    /// Returns a token for these actions in a repository.
    pub(super) fn token(
        &self,
        audience: &str,
        expires_in: i64,
        repository: &str,
        actions: &[&str],
    ) -> SecretString {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let access = if actions.is_empty() {
            json!([])
        } else {
            json!([{ "type": "repository", "name": repository, "actions": actions }])
        };
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.der)] });
        let claims = json!({
            "iss": "tests", "sub": "robot", "aud": audience, "jti": now.to_string(),
            "exp": now + expires_in, "nbf": now - 3600, "iat": now - 3600, "access": access,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = raw_signature(&self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into()
    }
}

/// Returns r and s, 32 bytes each, from DER: SEQUENCE { INTEGER r, INTEGER s }.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let (r, rest) = integer(&der[2..]);
    let (s, _) = integer(rest);
    [r, s].concat()
}

fn integer(der: &[u8]) -> (Vec<u8>, &[u8]) {
    let length = usize::from(der[1]);
    let (value, rest) = der[2..].split_at(length);
    let significant = &value[value.len().saturating_sub(32)..];
    let mut padded = vec![0; 32 - significant.len()];
    padded.extend_from_slice(significant);
    (padded, rest)
}

/// A running token service.
pub(super) struct TokenService {
    pub(super) realm: String,
    pub(super) signer: Arc<Signer>,
    gives: Arc<Mutex<Vec<Gives>>>,
    given: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl TokenService {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let realm = format!("http://127.0.0.1:{}/token", listener.local_addr().unwrap().port());
        let signer = Arc::new(Signer::new());
        let gives = Arc::new(Mutex::new(vec![Gives::Due]));
        let given = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&signer), Arc::clone(&gives), Arc::clone(&given)));
        Self { realm, signer, gives, given, _task: task }
    }

    /// Sets the tokens to give, one for each request, the last one from then on.
    pub(super) fn give(&self, gives: &[Gives]) {
        *self.gives.lock().unwrap() = gives.iter().rev().copied().collect();
    }

    /// Returns the number of requests for a token.
    pub(super) fn asked(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    signer: Arc<Signer>,
    gives: Arc<Mutex<Vec<Gives>>>,
    given: Arc<AtomicUsize>,
) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Some(request) = read_head(&mut stream).await else { continue };
        given.fetch_add(1, Ordering::SeqCst);
        let gives = next(&mut gives.lock().unwrap());
        let (status, body) = answer(&signer, gives, &request);
        let head =
            format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    }
}

/// Takes the next kind of token.
fn next(gives: &mut Vec<Gives>) -> Gives {
    if gives.len() > 1 { gives.pop().unwrap() } else { gives[0] }
}

fn answer(signer: &Signer, gives: Gives, request: &str) -> (u16, String) {
    let authorization = request.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    let robot = format!("Basic {}", STANDARD.encode(format!("robot:{PASSWORD}")));
    let known = authorization == Some(robot.as_str());
    let stranger = authorization.is_some() && !known;
    let scope = request.split("scope=repository%3A").nth(1).and_then(|rest| rest.split("%3Apull").next());
    let repository = scope.unwrap_or_default().replace("%2F", "/");
    let allowed = known || repository.starts_with("public/");
    let actions: &[&str] = if allowed { &["pull"] } else { &[] };
    let token = match gives {
        _ if stranger => return (401, "{}".to_owned()),
        Gives::Nothing => return (403, "{}".to_owned()),
        Gives::Due => signer.token("tests", 300, &repository, actions),
        Gives::Expired => signer.token("tests", -300, &repository, actions),
        Gives::Elsewhere => signer.token("tests", 300, "team/other", actions),
        Gives::ForOthers => signer.token("others", 300, &repository, actions),
    };
    (200, json!({ "token": token.expose_secret(), "expires_in": 300 }).to_string())
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(bytes).ok()
}
