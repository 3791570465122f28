//! The webhooks that tagpin is measured against. Each is a process: this program, started with the argument [`WORD`].
//! The TLS server is tagpin's own, so that the webhooks differ in their routers alone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdin};
use std::net::SocketAddr;
use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::{env, thread};

use axum::extract::Request;
use axum::middleware;
use reference_webhooks::{Digests, bytes, constant, usual};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tagpin_domain::original::ANNOTATION;
use tagpin_webhook::server::{Caller, Callers, Drain, serve};
use tagpin_webhook::tls::CurrentCertificate;
use tokio::net::TcpListener;
use tokio::runtime;

use crate::client::HOST;

/// The argument that makes this program a webhook.
pub(crate) const WORD: &str = "--reference";

/// A webhook and the data that it needs.
#[derive(Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Answers every request with this text.
    Bytes { answer: String },
    /// Answers with this text. The UID of each review replaces `uid` in it.
    Constant { answer: String, uid: String },
    /// Pins references with these digests.
    Usual { digests: Digests },
}

/// The first line that the process reads, in JSON.
#[derive(Serialize, Deserialize)]
struct Order {
    kind: Kind,
    certificate: String,
    key: String,
}

/// A webhook that runs. Its process ends when this value is dropped.
pub(crate) struct Reference {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) trust: Arc<ClientConfig>,
}

impl Drop for Reference {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Reference {
    /// Starts the process. The program and its argument are added to this command.
    pub(crate) fn start(mut command: Command, kind: Kind) -> Self {
        let pair = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let order = serde_json::to_string(&Order { kind, certificate, key }).unwrap();
        command.arg(env::current_exe().unwrap()).arg(WORD);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(process.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(pair.cert.der().clone()).unwrap();
        let trust = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { process, address: address.trim().parse().unwrap(), trust: Arc::new(trust) }
    }

    /// Returns the identifier of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Serves the webhook that the first line of standard input describes, until standard input ends.
pub(crate) fn run() {
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    let Order { kind, certificate, key } = serde_json::from_str(&line).unwrap();
    let router = match kind {
        Kind::Bytes { answer } => bytes(answer.into_bytes()),
        Kind::Constant { answer, uid } => constant(answer.as_bytes(), &uid),
        Kind::Usual { digests } => usual(digests, ANNOTATION.to_owned()),
    };
    let shown = CurrentCertificate::default();
    shown.set(certificate.as_bytes(), key.as_bytes()).unwrap();
    // `tagpin serve` makes its runtime in the same way.
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime =
        runtime::Builder::new_multi_thread().worker_threads(cores.clamp(1, 4)).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    println!("{}", listener.local_addr().unwrap());
    let router = router.layer(middleware::map_request(kept));
    runtime.spawn(async move {
        serve(listener, &shown, router, Drain::default(), Callers::default()).await.unwrap();
    });
    // Standard input ends with the parent process, however the parent ends.
    stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Keeps the connection of a request open. The reference has no tokens, and its callers are no strangers.
async fn kept(request: Request) -> Request {
    assert!(request.extensions().get::<Caller>().is_some_and(Caller::keep));
    request
}
