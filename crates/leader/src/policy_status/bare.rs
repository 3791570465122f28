//! The images of pods that a policy pins and that have no digest, as far as there is room for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tagpin_domain::slot::SlotKey;
use tagpin_kube::stored::Stored;

/// Maximum number of images that are kept. Authors decide how many there are.
pub(crate) const PLACES: usize = 4096;

/// The place of an image without a digest in a workload, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bare {
    /// UID of the workload.
    pub uid: String,
    /// The container or volume.
    pub slot: SlotKey,
    /// The code of the reason.
    pub reason: String,
}

/// An image without a digest.
#[derive(Debug, Clone)]
pub struct BareImage {
    /// The workload at the top, which is the pod itself if it belongs to none.
    pub top: Arc<Stored>,
    /// The image as its author wrote it, cut as in a status.
    pub image: String,
}

/// The images without a digest in the order of their places, up to the first one without room.
#[derive(Debug, Default)]
pub struct BareImages {
    by_place: BTreeMap<Bare, BareImage>,
    first_left_out: Option<Bare>,
}

impl BareImages {
    /// Adds an image. One that is there already stays.
    pub(crate) fn add(&mut self, place: Bare, image: BareImage) {
        if self.first_left_out.as_ref().is_some_and(|first| *first <= place) {
            return;
        }
        self.by_place.entry(place).or_insert(image);
        if self.by_place.len() > PLACES {
            self.first_left_out = self.by_place.pop_last().map(|(place, _)| place);
        }
    }

    /// Returns the images by their places.
    #[must_use]
    pub const fn by_place(&self) -> &BTreeMap<Bare, BareImage> {
        &self.by_place
    }

    /// Returns the place from which on images are left out; none if there was room for all.
    pub(crate) const fn first_left_out(&self) -> Option<&Bare> {
        self.first_left_out.as_ref()
    }
}
