//! The long-running tasks of the process. Each has a name, and the end of any of them ends the process with a cause.
//! When the process drains, tasks that have something to finish are waited for, and the others are aborted.

use std::future::{self, Future};
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::timeout;
use tokio_util::task::JoinMap;
use tracing::{Instrument, info_span};

/// The vital tasks of the process: none may end before the drain. Their names are unique.
#[derive(Debug, Default)]
pub(crate) struct Tasks(JoinMap<Task, anyhow::Result<()>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Task {
    name: &'static str,
    /// True if the task ends by itself when the process drains, so that the drain waits for it.
    finishes: bool,
}

impl Tasks {
    /// Starts a task that never ends.
    pub(crate) fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.start(Task { name, finishes: false }, task);
    }

    /// Starts a task that ends by itself once the process drains.
    pub(crate) fn spawn_finishing<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.start(Task { name, finishes: true }, task);
    }

    fn start<F>(&mut self, task: Task, work: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.0.spawn(task, work.instrument(info_span!("task", task = task.name)));
    }

    /// Waits for the first task that ends, and returns the cause.
    pub(crate) async fn death(&mut self) -> anyhow::Error {
        match self.next().await {
            None => future::pending().await,
            Some((name, Ok(()))) => anyhow!("task {name} ended, which it never should"),
            Some((name, Err(cause))) => cause.context(format!("task {name} failed")),
        }
    }

    /// Waits for every task that has something to finish, and aborts the others.
    ///
    /// # Errors
    /// Returns the first failure, or the names of the tasks that were not done in time.
    pub(crate) async fn finish(mut self, limit: Duration) -> anyhow::Result<()> {
        let done = timeout(limit, async {
            while self.0.keys().any(|task| task.finishes) {
                if let Some((name, ended)) = self.next().await {
                    ended.map_err(|cause| cause.context(format!("task {name} failed")))?;
                }
            }
            Ok(())
        });
        match done.await {
            Ok(finished) => finished,
            Err(_) => {
                let left: Vec<_> = self.0.keys().filter(|task| task.finishes).map(|task| task.name).collect();
                Err(anyhow!("not done after {} s: {}", limit.as_secs(), left.join(", ")))
            }
        }
    }

    async fn next(&mut self) -> Option<(&'static str, anyhow::Result<()>)> {
        let (task, ended) = self.0.join_next().await?;
        Some((task.name, ended.unwrap_or_else(|panic| Err(panic.into()))))
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

    #[tokio::test]
    async fn a_panic_is_a_death_with_a_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("status", async { panic!("impossible") });
        let cause = format!("{:#}", tasks.death().await);
        assert!(cause.starts_with("task status failed: task") && cause.contains("impossible"), "{cause}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_those_that_finish_something() {
        let mut tasks = Tasks::default();
        tasks.spawn("patient", future::pending());
        tasks.spawn_finishing("server", async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(())
        });
        tasks.finish(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_has_an_end_and_says_who_was_late() {
        let mut tasks = Tasks::default();
        tasks.spawn_finishing("server", future::pending());
        let late = tasks.finish(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(late.to_string(), "not done after 5 s: server");
    }
}
