//! Writing strings as JSON has them.

use std::fmt::Write as _;

use crate::admission::json::pass::plain;

/// An object whose fields are strings.
pub(crate) fn map<K: AsRef<str>, V: AsRef<str>>(fields: impl Iterator<Item = (K, V)>) -> String {
    let mut json = String::with_capacity(512);
    for (key, value) in fields {
        json.push(if json.is_empty() { '{' } else { ',' });
        write_text(&mut json, key.as_ref());
        json.push(':');
        write_text(&mut json, value.as_ref());
    }
    json.push_str(if json.is_empty() { "{}" } else { "}" });
    json
}

/// Writes a string as JSON has it.
pub(crate) fn write_text(json: &mut String, text: &str) {
    json.push('"');
    let mut left = text;
    while let Some((as_it_is, rest)) = left.split_at_checked(plain(left.as_bytes(), 0)) {
        json.push_str(as_it_is);
        let Some(special) = rest.chars().next() else { break };
        match special {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            control => {
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
        }
        left = rest.get(special.len_utf8()..).unwrap_or_default();
    }
    json.push('"');
}
