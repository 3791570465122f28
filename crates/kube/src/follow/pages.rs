//! The lengths of the pages of a list. The API server limits a page by the number of objects and not by their size, so
//! pages become shorter where objects are large.

/// Number of objects in the first page.
const FIRST: u32 = 5;
/// Maximum number of objects in a page.
const MOST: u32 = 20;
/// Number of bytes of JSON beyond which the next page is half as long.
const LARGE: usize = 4 * 1024 * 1024;
/// Number of bytes of JSON up to which the next page is twice as long.
const SMALL: usize = 256 * 1024;

/// The length of the next page.
#[derive(Debug)]
pub(super) struct Pages(u32);

impl Default for Pages {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pages {
    pub(super) const fn length(&self) -> u32 {
        self.0
    }

    /// Notes the number of bytes of a page.
    pub(super) fn had(&mut self, bytes: usize) {
        if bytes > LARGE {
            self.0 = (self.0 / 2).max(1);
        } else if bytes <= SMALL {
            self.0 = (self.0 * 2).min(MOST);
        }
    }
}
