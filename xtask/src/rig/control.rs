//! The protocol between commands and the supervisor of a running rig: one line of JSON each way. Its socket is in the
//! rig's own /run, and so cannot outlive the rig.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The socket that a supervisor listens on, seen from inside its machine.
pub(crate) const SOCKET: &str = "/run/supervisor.sock";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Asks for the state of every component.
    Status,
    /// Asks what is missing for pods to run.
    Missing,
    /// Gives an order to one component. `MACHINE/COMPONENT` names a component of a further machine.
    Component(Order, String),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Wait until the component serves.
    Wait,
    Stop,
    Kill,
    /// Start the component, and wait until it serves.
    Start,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Status(Vec<Seen>),
    Missing(Option<String>),
    Done,
    Failed(String),
}

/// One component as the supervisor sees it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) state: Life,
    /// Number of times that the component ended by itself and was started again.
    pub(crate) restarts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Life {
    /// The component waits for what it needs, or for its next start after an end.
    Waiting,
    Running,
    /// `rig stop` stopped the component.
    Stopped,
}

/// Sends a request to the supervisor, which is process `pid` here, and returns its response.
pub(crate) fn ask(pid: i32, request: &Request) -> Result<Response> {
    let socket = PathBuf::from(format!("/proc/{pid}/root{SOCKET}"));
    let mut stream = UnixStream::connect(&socket).with_context(|| format!("{}", socket.display()))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the supervisor did not answer")?;
    match serde_json::from_str(&line).context("the supervisor's answer")? {
        Response::Failed(reason) => bail!(reason),
        response => Ok(response),
    }
}
