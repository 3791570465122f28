//! Finding the pod template in an object of any kind of the slot table, in one pass and without reading the rest.

use crate::admission::json::{Raw, Read, Reader, once, once_or_null};
use crate::admission::object::Template;
use crate::admission::object::metadata::Metadata;

/// What was found of an object.
pub(crate) struct Found<'a> {
    pub(crate) metadata: Metadata<'a>,
    /// As it is written, and what is read of it.
    pub(crate) template: Option<(Raw<'a>, Template<'a>)>,
}

/// Reads metadata, and the template at a path that begins with `first`.
pub(crate) fn find<'a>(reader: &mut Reader<'a>, first: &str, rest: &[&str]) -> Read<Found<'a>> {
    let (mut metadata, mut template) = (None, None);
    reader.object(|reader, key| match key {
        "metadata" => once_or_null(reader, &mut metadata, Metadata::read),
        key if key == first => {
            let value = at(reader, rest)?;
            once(&mut template, value)
        }
        _ => reader.pass(),
    })?;
    Ok(Found { metadata: metadata.flatten().unwrap_or_default(), template: template.flatten() })
}

/// The template at a path, if it is there and not null.
fn at<'a>(reader: &mut Reader<'a>, path: &[&str]) -> Read<Option<(Raw<'a>, Template<'a>)>> {
    let Some((first, rest)) = path.split_first() else {
        return reader.optional(|reader| reader.kept(Template::read));
    };
    let mut found = None;
    reader.optional(|reader| {
        reader.object(|reader, key| {
            if key != *first {
                return reader.pass();
            }
            let value = at(reader, rest)?;
            once(&mut found, value)
        })
    })?;
    Ok(found.flatten())
}
