//! One webhook on a thread of its own, behind tagpin's TLS server: what differs between webhooks is the router alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use axum::Router;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use tagpin_webhook::server::{Drain, serve};
use tagpin_webhook::tls::CurrentCertificate;
use tokio::net::TcpListener;
use tokio::runtime;

use crate::machine::ThreadClock;

/// The name in the certificate.
pub(crate) const NAME: &str = "tagpin.tagpin-system.svc";

/// A CA and a certificate of it, the same for all.
pub(crate) struct Authority {
    shown: CurrentCertificate,
    pub(crate) trust: Arc<ClientConfig>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let shown = CurrentCertificate::default();
        shown.set(leaf.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let mut trust = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        trust.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { shown, trust: Arc::new(trust) }
    }
}

/// A webhook that runs until the process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) clock: ThreadClock,
}

impl Server {
    /// One thread, so that what it used is what its requests cost.
    pub(crate) fn start(router: Router, authority: &Authority) -> Self {
        let certificate = authority.shown.clone();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tell.send(Self { address, clock: ThreadClock::here() }).unwrap();
                serve(listener, &certificate, router, Drain::default()).await.unwrap();
            });
        });
        told.recv().unwrap()
    }
}
