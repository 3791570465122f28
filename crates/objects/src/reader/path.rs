//! Finds the pod template in an object of any kind of the table, in one pass and without reading the rest.

use tagpin_json::{Read, Reader, once_or_null};

use crate::reader::Template;

/// Reads the template at a path, if it is there.
pub(super) fn read<'a>(template: &mut Template<'a>, path: &[&str], reader: &mut Reader<'a>) -> Read<()> {
    let Some((first, rest)) = path.split_first() else { return template.read(reader) };
    let mut found = None;
    reader.object(&mut |reader, key| {
        if key != *first {
            return reader.pass();
        }
        once_or_null(reader, &mut found, |(), reader| read(template, rest, reader))
    })
}
