//! A process that the supervisor keeps running, and the conditions around its start.

use std::path::PathBuf;

use super::probe::Probe;

/// A process that the supervisor keeps running.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// The conditions that must hold before the component starts.
    pub(crate) after: Vec<Probe>,
    /// The condition that holds while the component serves, if that can be observed.
    pub(crate) serving: Option<Probe>,
    /// True for a whole machine. It is always killed, because its `unshare` ignores SIGTERM.
    pub(crate) machine: bool,
}

impl Component {
    pub(crate) fn new(name: &str, program: PathBuf, args: Vec<String>) -> Self {
        let name = name.to_owned();
        Self { name, program, args, after: Vec::new(), serving: None, machine: false }
    }

    pub(crate) fn after(mut self, probe: Probe) -> Self {
        self.after.push(probe);
        self
    }

    pub(crate) fn serving(mut self, probe: Probe) -> Self {
        self.serving = Some(probe);
        self
    }
}
