//! Writes strings and maps as JSON.

use std::fmt::Write as _;

use crate::pass::{Bytes, is_special};

/// Maximum length in bytes of a text whose special bytes are searched one by one.
const SHORT: usize = 24;

/// Returns an object whose fields are strings. Each key is given in parts.
pub fn map<'a, V: AsRef<str>, const PARTS: usize>(
    fields: impl Iterator<Item = ([&'a str; PARTS], V)>,
) -> String {
    let mut json = String::with_capacity(512);
    write_map(&mut json, fields);
    json
}

/// Writes an object whose fields are strings. Each key is given in parts.
pub fn write_map<'a, V: AsRef<str>, const PARTS: usize>(
    json: &mut String,
    fields: impl Iterator<Item = ([&'a str; PARTS], V)>,
) {
    let mut before = '{';
    for (key, value) in fields {
        json.push(before);
        json.push('"');
        for part in key {
            write_escaped(json, part);
        }
        json.push_str("\":");
        write_text(json, value.as_ref());
        before = ',';
    }
    json.push_str(if before == '{' { "{}" } else { "}" });
}

/// Writes a string as JSON.
pub fn write_text(json: &mut String, text: &str) {
    json.push('"');
    write_escaped(json, text);
    json.push('"');
}

fn write_escaped(json: &mut String, text: &str) {
    // Most keys and names are too short for bit masks to pay.
    if text.len() <= SHORT && !text.bytes().any(is_special) {
        json.push_str(text);
        return;
    }
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
}
