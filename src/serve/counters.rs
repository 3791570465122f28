//! Counts the events of the registry client in its metrics.

use tagpin_registry::cloud::CloudError;
use tagpin_registry::metrics::RegistryMetrics;
use tagpin_registry::observe::{Event, Observer};
use tagpin_registry::tally::{AnsweredBy, Skipped, Tally};

/// The counters of requests to registries.
#[derive(Debug, Clone)]
pub(crate) struct Counters(pub(crate) RegistryMetrics);

impl Observer for Counters {
    fn observe(&self, registry: &str, event: &Event<'_>) {
        match event {
            Event::Answered { purpose, status, took, remaining } => {
                self.0.answered(registry, purpose.word(), *status, *took, *remaining);
            }
            Event::Failed { purpose, failure, took } => {
                self.0.failed(registry, purpose.word(), failure.word(), *took);
            }
            Event::Asked { .. }
            | Event::Headers { .. }
            | Event::Challenged { .. }
            | Event::Withheld { .. }
            | Event::RealmRefused
            | Event::Confirmed { .. }
            | Event::Spared
            | Event::Concluded { .. } => {}
        }
    }
}

impl Tally for Counters {
    fn answered(&self, by: AnsweredBy) {
        self.0.resolved(by.word());
    }

    fn breaker_opened(&self) {
        self.0.breaker_opened();
    }

    fn secret_skipped(&self, why: Skipped) {
        self.0.secret_skipped(why.word());
    }

    fn cloud_asked(&self, cloud: &'static str, gave: Result<(), &CloudError>) {
        self.0.cloud_asked(cloud, if gave.is_ok() { "given" } else { "failed" });
    }
}
