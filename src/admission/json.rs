//! Reading JSON (RFC 8259) in one pass and without copying it: fields are borrowed, and what nobody asks for is passed
//! over at once. And writing its strings. It knows no field.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Why a text is not JSON, or not of the shape that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// From 1.
    pub(crate) line: usize,
    /// Bytes of the line up to where reading stopped.
    pub(crate) column: usize,
}

/// What reading gives: the value, or that the reader stopped.
pub(crate) type Read<T> = Result<T, Stopped>;

/// The text is not what is read; the reader knows where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// A string of the request: borrowed where JSON has it as it is, owned where it is escaped (Go writes `<` as `\u003c`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value that was passed over, to be read later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// As it is written.
    pub(crate) const fn get(self) -> &'a str {
        self.0
    }
}

/// Reads one value after the other.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads this text from its beginning.
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The whole text is one value, which this reads.
    pub(crate) fn whole<T>(text: &'a str, read: impl FnOnce(&mut Self) -> Read<T>) -> Result<T, Malformed> {
        let mut reader = Self::new(text);
        match read(&mut reader) {
            Ok(value) if reader.peek().is_none() => Ok(value),
            Ok(_) | Err(Stopped) => Err(reader.malformed()),
        }
    }

    #[cold]
    fn malformed(&self) -> Malformed {
        let before = self.text.as_bytes().get(..self.at).unwrap_or_default();
        let column = before.iter().rev().position(|byte| *byte == b'\n').unwrap_or(before.len());
        Malformed { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), column }
    }

    /// An object: `field` is given each key, and reads the value of it.
    #[inline]
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, &str) -> Read<()>) -> Read<()> {
        self.expect(b'{')?;
        if self.is_next(b'}') {
            return Ok(());
        }
        loop {
            let decoded;
            let key = match self.plain_text() {
                Some(key) => key,
                None => {
                    decoded = self.text()?;
                    decoded.as_str()
                }
            };
            self.expect(b':')?;
            field(self, key)?;
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// A list: `element` is given each position, and reads the value there.
    pub(crate) fn list(&mut self, mut element: impl FnMut(&mut Self, usize) -> Read<()>) -> Read<()> {
        self.expect(b'[')?;
        if self.is_next(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            element(self, index)?;
            index += 1;
            if !self.another(b']')? {
                return Ok(());
            }
        }
    }

    /// A value that may be null.
    pub(crate) fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.peek() == Some(b'n') {
            self.word("null")?;
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// A string.
    #[inline]
    pub(crate) fn text(&mut self) -> Read<Text<'a>> {
        match self.plain_text() {
            Some(text) => Ok(Text(Cow::Borrowed(text))),
            None => self.escaped_text(),
        }
    }

    /// A string without escapes, if that is what comes next.
    #[inline]
    fn plain_text(&mut self) -> Option<&'a str> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let end = start + plain(self.text.as_bytes().get(start..)?);
        let text = self.text.get(start..end)?;
        let ends = self.text.as_bytes().get(end) == Some(&b'"');
        self.at = if ends { end + 1 } else { self.at };
        ends.then_some(text)
    }

    #[cold]
    fn escaped_text(&mut self) -> Read<Text<'a>> {
        let start = self.at;
        self.expect(b'"')?;
        self.pass_escapes()?;
        let written = self.text.get(start..self.at).unwrap_or_default();
        let text = serde_json::from_str(written).map_err(|_| Stopped)?;
        Ok(Text(Cow::Owned(text)))
    }

    /// True or false.
    pub(crate) fn boolean(&mut self) -> Read<bool> {
        if self.peek() == Some(b't') {
            self.word("true").map(|()| true)
        } else {
            self.word("false").map(|()| false)
        }
    }

    /// Any value, as it is written.
    pub(crate) fn raw(&mut self) -> Read<Raw<'a>> {
        self.kept(Self::pass).map(|(raw, ())| raw)
    }

    /// A value that is read, and as it is written.
    pub(crate) fn kept<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<(Raw<'a>, T)> {
        self.peek();
        let start = self.at;
        let value = read(self)?;
        Ok((Raw(self.text.get(start..self.at).unwrap_or_default()), value))
    }

    /// Passes over any value.
    pub(crate) fn pass(&mut self) -> Read<()> {
        // What is open here, the innermost in the lowest bit: an object, or else a list.
        let (mut objects, mut open) = (0_u64, 0_usize);
        // The same, of what is around those: what nobody reads may be deep.
        let mut around = Vec::new();
        loop {
            let opens = match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.pass_rest_of_string()?;
                    None
                }
                Some(b'{') => {
                    self.at += 1;
                    (!self.is_next(b'}')).then_some(true)
                }
                Some(b'[') => {
                    self.at += 1;
                    (!self.is_next(b']')).then_some(false)
                }
                Some(b't') => self.word("true").map(|()| None)?,
                Some(b'f') => self.word("false").map(|()| None)?,
                Some(b'n') => self.word("null").map(|()| None)?,
                _ => self.number().map(|()| None)?,
            };
            if let Some(object) = opens {
                if open > 0 && open.is_multiple_of(64) {
                    around.push(objects);
                }
                open += 1;
                objects = objects << 1 | u64::from(object);
                if object {
                    self.pass_key()?;
                }
                continue;
            }
            loop {
                if open == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.pass_key()?;
                        }
                        break;
                    }
                    Some(bracket) if bracket == if object { b'}' } else { b']' } => {
                        self.at += 1;
                        open -= 1;
                        objects =
                            if open.is_multiple_of(64) { around.pop().unwrap_or(0) } else { objects >> 1 };
                    }
                    _ => return Err(Stopped),
                }
            }
        }
    }

    #[inline]
    fn left(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    #[cold]
    fn pass_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
    }

    /// The first byte of what comes next.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            // The API server writes no white space.
            Some(0..=b' ') => {
                self.pass_white_space();
                self.text.as_bytes().get(self.at).copied()
            }
            byte => byte.copied(),
        }
    }

    /// Passes over this byte, if it comes next.
    #[inline]
    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Read<()> {
        if self.is_next(byte) { Ok(()) } else { Err(Stopped) }
    }

    /// Whether one more comes, or the bracket that closes.
    fn another(&mut self, bracket: u8) -> Read<bool> {
        if self.is_next(b',') {
            return Ok(true);
        }
        if self.is_next(bracket) { Ok(false) } else { Err(Stopped) }
    }

    #[inline]
    fn pass_key(&mut self) -> Read<()> {
        self.expect(b'"')?;
        self.pass_rest_of_string()?;
        self.expect(b':')
    }

    /// To behind the quote that ends a string.
    #[inline]
    fn pass_rest_of_string(&mut self) -> Read<()> {
        self.at += plain(self.left());
        if self.left().first() == Some(&b'"') {
            self.at += 1;
            return Ok(());
        }
        self.pass_escapes()
    }

    #[cold]
    fn pass_escapes(&mut self) -> Read<()> {
        loop {
            self.at += plain(self.left());
            match self.left() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => {
                    self.at += 6;
                }
                _ => return Err(Stopped),
            }
        }
    }

    fn word(&mut self, word: &str) -> Read<()> {
        self.pass_white_space();
        if self.left().starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(Stopped)
    }

    fn number(&mut self) -> Read<()> {
        self.passes(|byte| byte == b'-');
        if !self.passes(|byte| byte == b'0') {
            self.digits()?;
        }
        if self.passes(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.passes(|byte| matches!(byte, b'e' | b'E')) {
            self.passes(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    fn passes(&mut self, is: impl Fn(u8) -> bool) -> bool {
        let passes = self.left().first().is_some_and(|byte| is(*byte));
        self.at += usize::from(passes);
        passes
    }

    fn digits(&mut self) -> Read<()> {
        let digits = self.left().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(Stopped) } else { Ok(()) }
    }
}

/// A field that is there twice means two things.
pub(crate) fn once<T>(field: &mut Option<T>, value: T) -> Read<()> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Stopped),
    }
}

/// A field that is there at most once, and may be null.
pub(crate) fn once_or_null<'a, T>(
    reader: &mut Reader<'a>,
    field: &mut Option<Option<T>>,
    read: impl FnOnce(&mut Reader<'a>) -> Read<T>,
) -> Read<()> {
    let value = reader.optional(read)?;
    once(field, value)
}

/// A string that is there at most once.
pub(crate) fn once_text<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    let value = reader.text()?;
    once(field, value)
}

/// How many bytes a string goes on without a quote, an escape or a control character: eight at a time.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    let mut left = bytes;
    while let Some((word, rest)) = left.split_first_chunk() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return bytes.len() - left.len() + special.trailing_zeros() as usize / 8;
        }
        left = rest;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    bytes.len() - left.len() + left.iter().position(is_special).unwrap_or(left.len())
}

/// The high bit of each byte that is special; bits above the lowest one that is set say nothing. A byte that is zero, or
/// below 32, borrows from its high bit when one, or 32, is taken off; no special byte has that bit itself.
const fn special(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let quote = (word ^ each(b'"')).wrapping_sub(each(1));
    let escape = (word ^ each(b'\\')).wrapping_sub(each(1));
    let control = word.wrapping_sub(each(0x20));
    (quote | escape | control) & !word & each(0x80)
}

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
    while let Some((as_it_is, rest)) = left.split_at_checked(plain(left.as_bytes())) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
