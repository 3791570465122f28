//! The environment variables, the files and the clock of this process, from which the clients of clouds read its
//! identity; and the programs that it starts.

use std::time::SystemTime;
use std::{env, fs};

use tagpin_registry::Surroundings;

pub(crate) mod helper;

/// The surroundings of this process, as opposed to those of a test.
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
