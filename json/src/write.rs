//! Writing strings as JSON has them.

use std::fmt::Write as _;

use crate::pass::Bytes;

/// An object whose fields are strings.
pub fn map<K: AsRef<str>, V: AsRef<str>>(fields: impl Iterator<Item = (K, V)>) -> String {
    let mut json = String::with_capacity(512);
    write_map(&mut json, fields);
    json
}

/// Writes an object whose fields are strings.
pub fn write_map<K: AsRef<str>, V: AsRef<str>>(json: &mut String, fields: impl Iterator<Item = (K, V)>) {
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
pub fn write_text(json: &mut String, text: &str) {
    json.reserve(text.len() + 2);
    json.push('"');
    let (mut bytes, mut written) = (Bytes::of(text), 0);
    loop {
        let special = bytes.special(written);
        let Some(byte) = bytes.get(special) else { break };
        json.push_str(text.get(written..special).unwrap_or_default());
        written = special + 1;
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
    json.push_str(text.get(written..).unwrap_or_default());
    json.push('"');
}
