//! The long-running tasks of the process: each has a name, and the end of any of them ends the process with a cause.

use std::collections::HashMap;
use std::future::{self, Future};

use anyhow::anyhow;
use tokio::task::{Id, JoinSet};
use tracing::Instrument;

/// Vital tasks. They run until they are dropped; none may end before.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task in a span with its name.
    pub(crate) fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let handle = self.running.spawn(task.instrument(tracing::info_span!("task", name)));
        self.names.insert(handle.id(), name);
    }

    /// Waits for the first task that ends, and says why.
    pub(crate) async fn death(&mut self) -> anyhow::Error {
        let Some(ended) = self.running.join_next_with_id().await else {
            return future::pending().await;
        };
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(panic) => panic.id(),
        };
        let name = self.names.get(&id).copied().unwrap_or("unknown");
        match ended {
            Ok((_, Ok(()))) => anyhow!("task {name} ended, which it never should"),
            Ok((_, Err(cause))) => cause.context(format!("task {name} failed")),
            Err(panic) => anyhow::Error::new(panic).context(format!("task {name} died")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cause_names_the_task_that_ended() {
        let mut tasks = Tasks::default();
        tasks.spawn("patient", future::pending());
        tasks.spawn("watch", async { Err(anyhow!("connection refused")) });
        assert_eq!(format!("{:#}", tasks.death().await), "task watch failed: connection refused");
    }
}
