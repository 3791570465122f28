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
    let mut left = text.as_bytes();
    loop {
        let special = plain(left);
        let written = text.len() - left.len()..text.len() - special.len();
        json.push_str(text.get(written).unwrap_or_default());
        let Some((byte, after)) = special.split_first() else { break };
        left = after;
        match byte {
            b'"' => json.push_str("\\\""),
            b'\\' => json.push_str("\\\\"),
            b'\n' => json.push_str("\\n"),
            b'\r' => json.push_str("\\r"),
            b'\t' => json.push_str("\\t"),
            control => {
                let _ = write!(json, "\\u{control:04x}");
            }
        }
    }
    json.push('"');
}
