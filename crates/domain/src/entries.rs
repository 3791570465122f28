//! Writes the value of an annotation that has an entry for each slot.

use crate::slot::SlotKey;

/// Usual length of an entry in bytes.
const ENTRY: usize = 192;

/// Returns a JSON object with these entries, with sorted keys and without white space; none if there is no entry. If
/// two entries are of the same slot, the later one counts. `write` appends the text of a value.
pub(crate) fn json<T>(mut entries: Vec<(&SlotKey, T)>, write: impl Fn(&T, &mut String)) -> Option<String> {
    if entries.is_empty() {
        return None;
    }
    // The sort keeps the order of equal keys, and the first of them is kept.
    entries.reverse();
    entries.sort_by(|(one, _), (other, _)| one.parts().cmp(&other.parts()));
    entries.dedup_by_key(|(slot, _)| *slot);
    let mut json = String::with_capacity(ENTRY * entries.len());
    let mut text = String::with_capacity(ENTRY);
    for (slot, value) in entries {
        json.push(if json.is_empty() { '{' } else { ',' });
        text.clear();
        slot.parts().into_iter().for_each(|part| text.push_str(part));
        write_string(&mut json, &text)?;
        json.push(':');
        text.clear();
        write(&value, &mut text);
        write_string(&mut json, &text)?;
    }
    json.push('}');
    Some(json)
}

/// Appends a string as JSON. Few names and references have a character to escape.
fn write_string(json: &mut String, text: &str) -> Option<()> {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        json.push_str(&serde_json::to_string(text).ok()?);
    } else {
        json.push('"');
        json.push_str(text);
        json.push('"');
    }
    Some(())
}
