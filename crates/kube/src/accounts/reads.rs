//! The service accounts that reviews read by name in the last seconds, because no watch had reported them. Concurrent
//! reviews share one read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use tagpin_domain::workload::Known;

/// Time for which a read counts, from its start.
const KEPT: Duration = Duration::from_secs(5);
/// Maximum number of accounts of one namespace, and in all, that are read in that time.
const LIMITS: (usize, usize) = (32, 256);

/// The accounts that were read, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<HashMap<(String, String), Read>>);

#[derive(Debug)]
struct Read {
    until: Instant,
    answer: Answer,
}

/// The pull secrets, as soon as the read has ended; unknown if the account does not exist or cannot be read.
type Answer = Arc<OnceCell<Known<Vec<String>>>>;

/// A read that nobody knows the answer of, because the deadline passed.
struct TooLate;

impl Reads {
    /// Returns the answer of a read that counts; none if there is none yet.
    pub(super) fn recent(&self, namespace: &str, name: &str) -> Option<Known<Vec<String>>> {
        let reads = self.0.lock();
        if reads.is_empty() {
            return None;
        }
        let read = reads.get(&(namespace.to_owned(), name.to_owned()))?;
        read.answer.get().filter(|_| Instant::now() < read.until).cloned()
    }

    /// Returns the answer of the read in flight, or of this one. An account that finds no room is unknown.
    pub(super) async fn join(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
        read: impl Future<Output = Known<Option<Vec<String>>>>,
    ) -> Known<Vec<String>> {
        let Some(answer) = self.answer(namespace, name, Instant::now()) else { return Known::Unknown };
        let read = async {
            match read.await {
                Known::Yes(Some(secrets)) => Ok(Known::Yes(secrets)),
                // Whoever waits for the same read may have more time.
                Known::Unknown if Instant::now() >= deadline => Err(TooLate),
                Known::Yes(None) | Known::Unknown => Ok(Known::Unknown),
            }
        };
        match timeout_at(deadline, answer.get_or_try_init(|| read)).await {
            Ok(Ok(answer)) => answer.clone(),
            Ok(Err(TooLate)) | Err(_) => Known::Unknown,
        }
    }

    fn answer(&self, namespace: &str, name: &str, now: Instant) -> Option<Answer> {
        let mut reads = self.0.lock();
        reads.retain(|_, read| now < read.until);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(read) = reads.get(&key) {
            return Some(Arc::clone(&read.answer));
        }
        let (per_namespace, all) = LIMITS;
        let of_namespace = reads.keys().filter(|(of, _)| of == namespace).count();
        if reads.len() >= all || of_namespace >= per_namespace {
            return None;
        }
        let answer = Answer::default();
        reads.insert(key, Read { until: now + KEPT, answer: Arc::clone(&answer) });
        Some(answer)
    }
}
