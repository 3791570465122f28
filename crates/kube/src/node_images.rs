//! The images that nodes have, read only before an image is refused because no registry has it. Kubelets list their
//! fifty largest images, so an image that is missing here may still be on a node.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use kube::api::ListParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::item::Item;
use crate::slim::SlimNode;
use tagpin_domain::image::ImageRef;
use tagpin_review::NodeImages;

/// Number of nodes in one page: about 2 MB of JSON.
const PAGE: u32 = 100;
/// Time limit for reading all nodes. The listing goes on when no review waits for it any more.
const READ: Duration = Duration::from_secs(10);
/// Time that one review waits for the listing.
const WAIT: Duration = Duration::from_secs(1);
/// Time for which a listing is used.
const KEPT: Duration = Duration::from_secs(60);
/// Time for which a listing that failed is used.
const KEPT_FAILED: Duration = Duration::from_secs(5);
/// Maximum number of names of all nodes together.
const NAMES: usize = 100_000;

/// The images that nodes have. All reviews share one listing.
pub struct ListedNodes {
    client: Client,
    listing: Mutex<Option<Shared<BoxFuture<'static, Arc<Listing>>>>>,
}

/// The names of the images of all nodes. A name is kept as a keyed hash.
struct Listing {
    names: HashSet<u64>,
    hasher: RandomState,
    until: Instant,
}

impl ListedNodes {
    /// Returns the images of the nodes of this cluster, of which nothing is read yet.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client, listing: Mutex::new(None) }
    }

    /// Returns the listing in use or on its way, or else a new one.
    fn listing(&self) -> Shared<BoxFuture<'static, Arc<Listing>>> {
        let mut listing = self.listing.lock();
        let is_old = |known: &Arc<Listing>| known.until <= Instant::now();
        match listing.as_ref().filter(|listing| !listing.peek().is_some_and(is_old)) {
            Some(listing) => listing.clone(),
            None => {
                let task = tokio::spawn(Listing::read(Api::all(self.client.clone())));
                let read = async { Arc::new(task.await.unwrap_or_else(|_| Listing::empty())) };
                listing.insert(read.boxed().shared()).clone()
            }
        }
    }
}

#[async_trait]
impl NodeImages for ListedNodes {
    async fn holds(&self, image: &ImageRef, deadline: Instant) -> bool {
        let listing = timeout_at(deadline.min(Instant::now() + WAIT), self.listing()).await;
        listing.is_ok_and(|listing| listing.holds(image))
    }
}

impl Listing {
    fn empty() -> Self {
        Self { names: HashSet::new(), hasher: RandomState::new(), until: Instant::now() + KEPT_FAILED }
    }

    /// Reads the nodes, page by page. What was read before a failure counts.
    async fn read(nodes: Api<Item<SlimNode>>) -> Self {
        let (mut listing, deadline) = (Self::empty(), Instant::now() + READ);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = match timeout_at(deadline, nodes.list(&page)).await {
                Ok(Ok(list)) => list,
                Ok(Err(error)) => {
                    warn!(%error, "cannot list the nodes: images that only nodes have are refused");
                    break;
                }
                Err(_) => {
                    warn!("cannot list the nodes in time: images that only nodes have are refused");
                    break;
                }
            };
            let nodes = list.items.into_iter().filter_map(Item::read);
            nodes.flat_map(|node| node.image_names()).for_each(|name| listing.add(&name));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if listing.names.len() < NAMES => page = page.continue_token(&token),
                _ => {
                    listing.until = Instant::now() + KEPT;
                    return listing;
                }
            }
        }
        listing.until = Instant::now() + KEPT_FAILED;
        listing
    }

    fn add(&mut self, name: &str) {
        if self.names.len() < NAMES
            && let Ok(image) = ImageRef::parse(name)
        {
            self.names.extend(self.key(&image));
        }
    }

    fn holds(&self, image: &ImageRef) -> bool {
        self.key(image).is_some_and(|key| self.names.contains(&key))
    }

    /// Returns the key of the name and the tag; none without a tag.
    fn key(&self, image: &ImageRef) -> Option<u64> {
        Some(self.hasher.hash_one((image.policy_name(), image.effective_tag()?)))
    }
}
