//! Writing strings as JSON has them.

use std::fmt::Write as _;

use crate::admission::json::pass::plain;

/// An object whose fields are strings.
pub(crate) fn map<K: AsRef<str>, V: AsRef<str>>(fields: impl Iterator<Item = (K, V)>) -> String {
    let mut json = String::with_capacity(512);
    write_map(&mut json, fields);
    json
}

/// Writes an object whose fields are strings.
pub(crate) fn write_map<K: AsRef<str>, V: AsRef<str>>(
    json: &mut String,
    fields: impl Iterator<Item = (K, V)>,
) {
    let mut before = '{';
    for (key, value) in fields {
        json.push(before);
        write_text(json, key.as_ref());
        json.push(':');
        write_text(json, value.as_ref());
        before = ',';
    }
    json.push_str(if before == '{' { "{}" } else { "}" });
}

/// Writes a string as JSON has it.
pub(crate) fn write_text(json: &mut String, text: &str) {
    json.reserve(text.len() + 2);
    json.push('"');
    let mut written = 0;
    loop {
        let special = plain(text.as_bytes(), written);
        json.push_str(text.get(written..special).unwrap_or_default());
        let escaped = match text.as_bytes().get(special) {
            None => break,
            Some(b'"') => "\\\"",
            Some(b'\\') => "\\\\",
            Some(b'\n') => "\\n",
            Some(b'\r') => "\\r",
            Some(b'\t') => "\\t",
            Some(control) => {
                let _ = write!(json, "\\u{control:04x}");
                ""
            }
        };
        json.push_str(escaped);
        written = special + 1;
    }
    json.push('"');
}
