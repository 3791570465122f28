//! A registry that follows a script, on three hosts, over http or TLS, well-behaved or not. A request that the script
//! does not expect fails the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::support::AUTHORITY;

/// The hosts: `registry.test`, `auth.test` and `other.test`, each with a port of its own.
pub(super) const HOSTS: [&str; 3] = ["registry", "auth", "other"];

/// One expected request and its response.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Method and path with query.
    pub(super) ask: String,
    /// The host that is asked.
    #[serde(default = "registry")]
    pub(super) at: String,
    /// The `Authorization` header; if it is absent, there must be none. A value that ends with * is a prefix.
    pub(super) authorization: Option<String>,
    /// Other headers that the request must have.
    #[serde(default)]
    pub(super) carries: Vec<String>,
    /// The form of a POST; a value that ends with * is a prefix.
    #[serde(default)]
    pub(super) form: String,
    #[serde(default = "ok")]
    pub(super) status: u16,
    /// Lines of the head of the response.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    #[serde(default)]
    pub(super) body: String,
    /// A fault instead of the response.
    pub(super) fault: Option<Fault>,
}

fn registry() -> String {
    "registry".to_owned()
}

const fn ok() -> u16 {
    200
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// The connection is closed before a response.
    Close,
    /// The connection is reset before a response.
    Reset,
    /// The connection is closed in the middle of the body.
    CutBody,
    /// Bytes that are not HTTP.
    Garbage,
    /// No response, ever.
    Silent,
    /// The head, then a body that never ends.
    EndlessBody,
    /// The head, then a byte now and then.
    SlowBody,
    /// A body one byte longer than allowed.
    LargeBody,
    /// A thousand headers.
    ManyHeaders,
    /// A header of 64 KiB.
    LongHeader,
    /// Headers without end.
    EndlessHead,
}

/// The rest of the script, and the deviations from it.
#[derive(Default)]
struct Play {
    steps: VecDeque<Step>,
    wrong: Vec<String>,
}

/// A scripted registry; it ends when it is dropped.
pub(super) struct Scripted {
    play: Arc<Mutex<Play>>,
    ports: [u16; 3],
    _tasks: JoinSet<()>,
}

impl Scripted {
    /// Starts listening; the hosts named in `tls` speak TLS.
    pub(super) async fn start(tls: &[String]) -> Self {
        let play = Arc::<Mutex<Play>>::default();
        let mut tasks = JoinSet::new();
        let mut ports = [0; 3];
        for (host, port) in HOSTS.iter().zip(&mut ports) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            *port = listener.local_addr().unwrap().port();
            let tls = tls.iter().any(|name| name == host);
            tasks.spawn(listen(listener, host, tls, Arc::clone(&play)));
        }
        Self { play, ports, _tasks: tasks }
    }

    /// Returns the host with its port, like `registry.test:12345`.
    pub(super) fn authority(&self, host: &str) -> String {
        let index = HOSTS.iter().position(|name| *name == host).unwrap();
        format!("{host}.test:{}", self.ports[index])
    }

    /// Replaces `{registry}`, `{auth}` and `{other}`, and the registry's `{port}`.
    pub(super) fn fill(&self, text: &str) -> String {
        let text = text.replace("{port}", &self.ports[0].to_string());
        HOSTS.iter().fold(text, |text, host| text.replace(&format!("{{{host}}}"), &self.authority(host)))
    }

    /// Adds these steps to the script.
    pub(super) fn expect(&self, steps: &[Step]) {
        let filled = steps.iter().map(|step| {
            let mut step = step.clone();
            step.ask = self.fill(&step.ask);
            step.headers = step.headers.iter().map(|line| self.fill(line)).collect();
            step.body = self.fill(&step.body);
            step
        });
        self.play.lock().unwrap().steps.extend(filled);
    }

    /// Returns the deviations from the script, including requests that did not come.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut play = self.play.lock().unwrap();
        let missing: Vec<String> =
            play.steps.drain(..).map(|step| format!("not asked: {}", step.ask)).collect();
        play.wrong.drain(..).chain(missing).collect()
    }
}

async fn listen(listener: TcpListener, host: &'static str, tls: bool, play: Arc<Mutex<Play>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let play = Arc::clone(&play);
        connections.spawn(async move {
            if tls {
                // A client that does not trust the certificate disconnects here.
                if let Ok(stream) = AUTHORITY.acceptor().accept(stream).await {
                    serve(stream, host, &play).await;
                }
            } else {
                if play.lock().unwrap().steps.front().is_some_and(|s| s.fault == Some(Fault::Reset)) {
                    reset(stream, &play).await;
                    return;
                }
                serve(stream, host, &play).await;
            }
        });
    }
}

/// Reads the request, and breaks the connection so that the peer sees a reset.
async fn reset(mut stream: TcpStream, play: &Mutex<Play>) {
    let _ = head(&mut stream).await;
    play.lock().unwrap().steps.pop_front();
    stream.set_zero_linger().unwrap();
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str, play: &Mutex<Play>) {
    while let Some(request) = head(&mut stream).await {
        let step = next(play, host, &request);
        if answer(&mut stream, &request, &step).await.is_err() || step.fault.is_some() {
            return;
        }
    }
}

/// Returns a header of a request.
fn header(request: &str, name: &str) -> Option<String> {
    request.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Reads a request; none if the peer is done or speaks TLS.
async fn head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
    const HANDSHAKE: u8 = 22;
    let mut bytes = vec![stream.read_u8().await.ok()?];
    if bytes == [HANDSHAKE] {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        return None;
    }
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(bytes).ok()?;
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8(body).ok()?)
}

/// Returns true if the text is the expected one, or starts with one that ends with `*`.
fn is_like(expected: Option<&str>, found: Option<&str>) -> bool {
    match (expected.and_then(|text| text.strip_suffix('*')), found) {
        (Some(start), Some(found)) => found.starts_with(start),
        _ => expected == found,
    }
}

/// Returns the next step, checked against the request.
fn next(play: &Mutex<Play>, host: &str, request: &str) -> Step {
    let line = request.lines().next().unwrap_or_default();
    let asked = line.trim_end_matches(" HTTP/1.1");
    let header = |name: &str| header(request, name);
    let form = request.split_once("\r\n\r\n").unwrap_or_default().1;
    let mut play = play.lock().unwrap();
    let Some(step) = play.steps.pop_front() else {
        play.wrong.push(format!("asked too much: {asked} at {host}"));
        return Step {
            ask: String::new(),
            at: registry(),
            authorization: None,
            form: String::new(),
            carries: Vec::new(),
            status: 599,
            headers: Vec::new(),
            body: String::new(),
            fault: None,
        };
    };
    if asked != step.ask || host != step.at {
        play.wrong.push(format!("asked {asked} at {host}, not {} at {}", step.ask, step.at));
    }
    let authorization = header("authorization");
    if !is_like(step.authorization.as_deref(), authorization.as_deref()) {
        play.wrong.push(format!("{asked} carried {authorization:?}, not {:?}", step.authorization));
    }
    if !is_like(Some(&step.form), Some(form)) {
        play.wrong.push(format!("{asked} carried the form {form:?}, not {:?}", step.form));
    }
    for line in &step.carries {
        let (name, value) = line.split_once(": ").unwrap();
        if header(name).as_deref() != Some(value) {
            play.wrong.push(format!("{asked} carried {name} {:?}, not {value:?}", header(name)));
        }
    }
    if header("accept-encoding").as_deref() != Some("identity") {
        play.wrong.push(format!("{asked} accepts an encoding"));
    }
    step
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), request: &str, step: &Step) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} x\r\n", step.status);
    for line in &step.headers {
        head.push_str(line);
        head.push_str("\r\n");
    }
    let body = if request.starts_with("HEAD ") { "" } else { &step.body };
    let length = format!("content-length: {}\r\n\r\n", body.len());
    match step.fault {
        None => stream.write_all(format!("{head}{length}{body}").as_bytes()).await,
        Some(Fault::Close | Fault::Reset) => Ok(()),
        Some(Fault::CutBody) => {
            stream
                .write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len() + 10).as_bytes())
                .await
        }
        Some(Fault::Garbage) => stream.write_all(b"\0\x01SSH-2.0-OpenSSH\r\n\r\n\xff").await,
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::EndlessBody) => {
            stream.write_all(format!("{head}\r\n").as_bytes()).await?;
            loop {
                stream.write_all(&[b' '; 16 * 1024]).await?;
            }
        }
        Some(Fault::SlowBody) => {
            stream.write_all(format!("{head}content-length: 1000\r\n\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Some(Fault::LargeBody) => {
            let size = 4 * 1024 * 1024 + 1;
            stream.write_all(format!("{head}content-length: {size}\r\n\r\n").as_bytes()).await?;
            stream.write_all(&vec![b' '; size]).await
        }
        Some(Fault::ManyHeaders) => {
            let many: String = (0..1000).map(|n| format!("x-{n}: y\r\n")).collect();
            stream.write_all(format!("{head}{many}{length}{body}").as_bytes()).await
        }
        Some(Fault::LongHeader) => {
            let long = format!("x-long: {}\r\n", "y".repeat(64 * 1024));
            stream.write_all(format!("{head}{long}{length}{body}").as_bytes()).await
        }
        Some(Fault::EndlessHead) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(format!("x-more: {}\r\n", "y".repeat(8 * 1024)).as_bytes()).await?;
            }
        }
    }
}
