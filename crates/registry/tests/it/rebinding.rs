//! A name that resolves to another machine for each connection: each connection goes to the address that was checked
//! for it.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tagpin_registry::{Client, Names, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::support::{TestProfiles, ask, endpoint, profile, provider};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A resolver that gives these answers, one after the other.
struct Rebinding(Mutex<VecDeque<Vec<IpAddr>>>);

#[async_trait]
impl Names for Rebinding {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.lock().unwrap().pop_front().expect("each connection asks once"))
    }
}

/// Starts a registry that has every tag and keeps no connection open.
async fn registry() -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!(
                "HTTP/1.1 200 x\r\ncontent-type: application/vnd.oci.image.index.v1+json\r\n\
                 docker-content-digest: {DIGEST}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, task)
}

#[tokio::test]
async fn what_was_judged_is_what_is_dialled_each_time() {
    provider();
    let (port, _registry) = registry().await;
    let metadata: Vec<IpAddr> = vec!["169.254.169.254".parse().unwrap()];
    let here: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
    let names = Rebinding(Mutex::new([here.clone(), metadata, here].into()));
    let domain = format!("registry.test:{port}");
    let profiles = TestProfiles::one(profile(endpoint(&format!("http://{domain}"))), &domain);
    let client = Client::new(Transport::new(Arc::new(names)), profiles, Arc::new(()));
    let image = |tag: u8| format!("{domain}/team/app:{tag}");
    assert_eq!(ask(&client, &image(1), &[]).await, format!("Present {DIGEST}"));
    assert_eq!(ask(&client, &image(2), &[]).await, format!("AddressForbidden {domain} Registry never"));
    assert_eq!(ask(&client, &image(3), &[]).await, format!("Present {DIGEST}"));
}
