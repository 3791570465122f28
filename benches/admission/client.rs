//! The client of the webhooks. It keeps connections open, sends requests that were made before, and reads no more of an
//! answer than its length. It has to be cheaper than any webhook, because otherwise the bench would measure the client.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name in the certificates of all webhooks.
pub(crate) const HOST: &str = "tagpin.tagpin-system.svc";

/// A connection to a webhook.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, trust: &Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let stream = TlsConnector::from(Arc::clone(trust)).connect(name, stream).await.unwrap();
        Self { stream, answer: Vec::with_capacity(16 * 1024) }
    }

    /// Sends a request, and returns the body of its answer. The status of the answer must be 200.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).await.unwrap();
        self.stream.flush().await.unwrap();
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.unwrap();
            assert!(read > 0, "the webhook hung up");
            if let Some(body) = whole(&self.answer) {
                return &self.answer[body..];
            }
        }
    }
}

/// Returns the position at which the body of an answer begins, once the whole answer is there.
fn whole(answer: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = &answer[..end];
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    let at = head.windows(LENGTH.len()).position(|bytes| bytes == LENGTH).expect("an answer says its length");
    let digits = head[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    (answer.len() >= end + 4 + length).then_some(end + 4)
}
