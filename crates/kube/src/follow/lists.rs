//! The ways to list all objects of a kind without holding many of them at once: as a stream of events, else in pages
//! that become shorter where objects are large.

use kube::runtime::watcher::{Config, Error};

/// Number of objects in one page of a list.
const PAGE: u32 = 20;
/// Number of bytes of JSON beyond which the next pages are half as long.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The way in which a watch gets its next list.
#[derive(Debug)]
pub(super) struct Lists {
    streams: bool,
    page: u32,
    /// Number of objects of the current page so far.
    objects: u32,
    /// Number of bytes of these objects.
    bytes: usize,
    /// True after the beginning of a list.
    begun: bool,
}

impl Lists {
    /// Returns lists as streams, or in pages if the kind has few objects.
    pub(super) const fn new(streams: bool) -> Self {
        Self { streams, page: PAGE, objects: 0, bytes: 0, begun: false }
    }

    /// Returns the configuration of a watch that lists in this way.
    pub(super) fn configure(&mut self, config: Config) -> Config {
        (self.objects, self.bytes, self.begun) = (0, 0, false);
        if self.streams { config.streaming_lists() } else { config.page_size(self.page) }
    }

    /// Notes that a list begins. Returns true if it should begin in pages, because a stream ended before all objects
    /// had come.
    pub(super) const fn begins(&mut self) -> bool {
        let again = self.begun && self.streams;
        (self.objects, self.bytes, self.begun) = (0, 0, true);
        if again {
            self.streams = false;
        }
        again
    }

    /// Notes that the list is complete.
    pub(super) const fn ends(&mut self) {
        self.begun = false;
    }

    /// Returns true if the API server has no such streams, so that the list comes in pages from now on.
    pub(super) fn has_no_streams(&mut self, error: &Error) -> bool {
        let refused = matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if [400, 422].contains(&status.code));
        let falls_back = self.streams && refused;
        self.streams &= !falls_back;
        falls_back
    }

    /// Counts an object of a list. Returns true if the page is too large, so that the list should begin again in shorter
    /// pages.
    pub(super) const fn is_too_large(&mut self, bytes: usize) -> bool {
        if self.streams || self.page == 1 {
            return false;
        }
        if self.objects == self.page {
            (self.objects, self.bytes) = (0, 0);
        }
        self.objects += 1;
        self.bytes += bytes;
        let too_large = self.bytes > PAGE_BYTES;
        if too_large {
            self.page /= 2;
        }
        too_large
    }
}
