//! A judged object, from which the responses are made.

use tagpin_domain::subject::Subject;
use tagpin_objects::reader::Document;
use tagpin_review::Review;

/// An object that was judged.
pub(crate) struct Judged<'a> {
    pub(crate) object: Box<Document<'a>>,
    /// True if the request only adds ephemeral containers, through their sub-resource.
    pub(crate) ephemeral: bool,
    pub(crate) subject: Subject,
    pub(crate) review: Review,
}
