//! Describes the fault of an object and its place. The text holds names of fields, and no value that the
//! object's author wrote.

use std::fmt::Write as _;

/// Maximum length of a field's name in bytes; a longer name is shown as `…`.
const NAME: usize = 40;
/// Maximum number of steps of a place that are shown.
const STEPS: usize = 12;

/// Prefixes of serde's messages that end with `, expected …`.
const STANDARD: [&str; 3] = ["invalid type: ", "invalid length ", "unknown variant "];

/// Describes a parse error and its place: `spec.containers[0].name: expected a string`.
pub(super) fn describe(text: &str, error: &serde_json::Error) -> String {
    let said = error.to_string();
    // The text before `, expected` holds the value, and the text after ` at line ` holds the position. Other
    // messages, such as those about times, can hold values anywhere.
    let expected = said.rsplit_once(", expected ").and_then(|(_, after)| after.split(" at line ").next());
    let expected = expected.filter(|_| STANDARD.iter().any(|begin| said.starts_with(begin)));
    let what = match expected {
        Some(expected) => format!("expected {expected}"),
        None if said.starts_with("recursion limit") => "nested too deeply".to_owned(),
        None => "not a valid value".to_owned(),
    };
    let place = place(text, offset(text, error.line(), error.column()));
    if place.is_empty() { what } else { format!("{place}: {what}") }
}

/// Describes a fault at this position inside of a field of an object: `spec.containers[0].name: not a valid value`.
pub(super) fn in_field(name: &str, json: &str, line: usize, column: usize) -> String {
    let place = place(json, offset(json, line, column));
    let separator = if place.is_empty() || place.starts_with('[') { "" } else { "." };
    format!("{name}{separator}{place}: not a valid value")
}

/// Returns the number of bytes before this position of the text. Lines and columns count from 1; line 0 means
/// no position.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let Some(before) = line.checked_sub(1) else { return 0 };
    text.split_inclusive('\n').take(before).map(str::len).sum::<usize>() + column
}

/// A step on the way to a position: into an object or into a list.
enum Step<'a> {
    /// The value of this field; the name is empty before the first field.
    Field(&'a str),
    /// The element at this index.
    Element(usize),
}

/// Returns the place of the value at this offset: `spec.containers[0].name`.
fn place(text: &str, offset: usize) -> String {
    let mut steps = Vec::new();
    // True if the next string is the name of a field.
    let mut name_follows = false;
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at).filter(|_| at < offset) {
        match byte {
            b'{' => {
                steps.push(Step::Field(""));
                name_follows = true;
            }
            b'[' => steps.push(Step::Element(0)),
            b'}' | b']' => {
                steps.pop();
                name_follows = false;
            }
            b',' => match steps.last_mut() {
                Some(Step::Element(number)) => *number += 1,
                _ => name_follows = true,
            },
            b'"' => {
                let string = string(text, at + 1);
                if let (true, Some(step)) = (name_follows, steps.last_mut()) {
                    *step = Step::Field(string);
                    name_follows = false;
                }
                at += string.len() + 1;
            }
            _ => {}
        }
        at += 1;
    }
    shown(&steps)
}

/// Returns the string that begins here, without its closing quote and with its escapes unchanged.
fn string(text: &str, from: usize) -> &str {
    let rest = text.get(from..).unwrap_or_default();
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

fn shown(steps: &[Step<'_>]) -> String {
    let mut place = String::new();
    for step in steps.iter().take(STEPS) {
        match step {
            Step::Field("") => {}
            Step::Field(name) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
                let name = if name.len() <= NAME && name.bytes().all(plain) { name } else { "…" };
                let dot = if place.is_empty() { "" } else { "." };
                let _ = write!(place, "{dot}{name}");
            }
            Step::Element(number) => {
                let _ = write!(place, "[{number}]");
            }
        }
    }
    place
}
