//! Where the process runs, for those who ask a cloud who they are: its environment, files and clock.

use std::time::SystemTime;
use std::{env, fs};

use tagpin_registry::Surroundings;

/// The real ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn file(&self, path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
