//! The limits of reviews whose caller has shown no token. For them nothing is read at the API server, and neither a
//! registry nor a node is asked.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use tagpin_domain::asker::{Asker, Secrets};
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_domain::subject::{Subject, Suggestions};
use tagpin_review::{NodeImages, Resolve};

/// Returns the time until which the facts around an object may be awaited for a caller: a stranger's review uses only what
/// is in memory.
pub(crate) fn facts_deadline(known: bool, deadline: Instant) -> Instant {
    if known { deadline } else { Instant::now() }
}

/// Takes from a subject the credentials of its namespace, and the suggestions that would need a request.
pub(crate) fn withhold(subject: &mut Subject) {
    subject.asker.secrets = Secrets::Withheld;
    if subject.suggestions == Suggestions::Ask {
        subject.suggestions = Suggestions::Cached;
    }
}

/// Look-ups that are answered from memory alone.
pub(crate) struct OnlyRemembered<'a>(pub(crate) &'a dyn Resolve);

#[async_trait]
impl Resolve for OnlyRemembered<'_> {
    fn remembered(
        &self,
        image: &ImageRef,
        asker: &Asker,
        since: Option<Instant>,
        now: Instant,
    ) -> Option<Fact> {
        self.0.remembered(image, asker, since, now)
    }

    fn entry(&self, image: &ImageRef) -> Option<Arc<str>> {
        self.0.entry(image)
    }

    async fn resolve(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Fact {
        Fact::unavailable(Unavailable::Busy)
    }
}

/// Nodes that are not asked for their images.
pub(crate) struct NodesNotAsked;

#[async_trait]
impl NodeImages for NodesNotAsked {
    async fn holds(&self, _: &ImageRef, _: Instant) -> bool {
        false
    }
}
