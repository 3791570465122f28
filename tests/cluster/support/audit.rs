//! The audit log of the rig's API server: the writes and lists of tagpin's replicas, with their times.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use super::rig::Rig;

const ACCOUNT: &str = "system:serviceaccount:tagpin-system:tagpin";

/// The audit log from some moment on.
pub(crate) struct Audit {
    file: PathBuf,
    from: u64,
}

/// One request of a replica that the API server carried out.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) pod: String,
    pub(crate) verb: String,
    pub(crate) resource: String,
    pub(crate) received: Timestamp,
    pub(crate) done: Timestamp,
}

impl Audit {
    /// Starts to read the log from its present end.
    pub(crate) fn start(rig: &Rig) -> Self {
        let file = rig.folder().join("logs/audit.log");
        let from = file.metadata().unwrap().len();
        Self { file, from }
    }

    /// Returns the requests of replicas since then, in the order of their completion.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let mut file = File::open(&self.file).unwrap();
        file.seek(SeekFrom::Start(self.from)).unwrap();
        // The last line may be incomplete, and is then left out.
        let lines = BufReader::new(file).lines().map_while(std::io::Result::ok);
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let mut requests: Vec<Request> = events.filter_map(|event| Request::of(&event)).collect();
        requests.sort_by_key(|request| request.done);
        requests
    }
}

impl Request {
    fn of(event: &Value) -> Option<Self> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let carried_out = event["responseStatus"]["code"].as_u64()? < 300;
        // Further pages belong to the list that the first page began, and are not counted.
        let begins = !text("/requestURI")?.contains("continue=");
        (carried_out && begins && event["user"]["username"] == ACCOUNT).then_some(())?;
        Some(Self {
            pod: text("/user/extra/authentication.kubernetes.io~1pod-name/0")?,
            verb: text("/verb")?,
            resource: text("/objectRef/resource")?,
            received: text("/requestReceivedTimestamp")?.parse().ok()?,
            done: text("/stageTimestamp")?.parse().ok()?,
        })
    }

    /// Returns true if the request is about the Lease.
    pub(crate) fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// Returns true if the request changed an object. The canary (a PodTemplate) is a dry run and changes nothing.
    pub(crate) fn is_write(&self) -> bool {
        self.verb != "list" && self.resource != "podtemplates"
    }
}

/// Checks that each write came from the replica that held the Lease: the last one that wrote the Lease before, or
/// `first` if none did.
#[track_caller]
pub(crate) fn one_writer_at_a_time(requests: &[Request], first: &str) {
    let (leases, writes): (Vec<_>, Vec<_>) =
        requests.iter().filter(|request| request.is_write()).partition(|request| request.is_lease());
    assert!(writes.len() > 1, "nothing to judge: {requests:?}");
    for write in writes {
        let held = leases.iter().rev().find(|lease| lease.done <= write.received);
        let holder = held.map_or(first, |lease| lease.pod.as_str());
        assert_eq!(holder, write.pod, "{write:?} while another led: {held:?}");
    }
}
