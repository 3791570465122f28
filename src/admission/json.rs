//! Reading JSON (RFC 8259) in one pass and without copying it: fields are borrowed, and what nobody asks for is passed
//! over at once. It knows no field.

mod pass;
mod write;

use std::borrow::Cow;

pub(crate) use write::{map, write_map, write_text};

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
                    decoded = self.escaped_text()?;
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

    /// An object of strings: `field` is given each key and its value.
    pub(crate) fn texts(&mut self, mut field: impl FnMut(Text<'a>, Text<'a>) -> Read<()>) -> Read<()> {
        self.expect(b'{')?;
        if self.is_next(b'}') {
            return Ok(());
        }
        loop {
            let key = self.text()?;
            self.expect(b':')?;
            let value = self.text()?;
            field(key, value)?;
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
    pub(crate) fn text(&mut self) -> Read<Text<'a>> {
        match self.plain_text() {
            Some(text) => Ok(Text(Cow::Borrowed(text))),
            None => self.escaped_text(),
        }
    }

    /// A string without escapes, if that is what comes next.
    fn plain_text(&mut self) -> Option<&'a str> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let end = pass::plain(self.text.as_bytes(), start);
        if self.text.as_bytes().get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    #[cold]
    fn escaped_text(&mut self) -> Read<Text<'a>> {
        self.expect(b'"')?;
        let start = self.at - 1;
        self.passes(pass::string(self.text.as_bytes(), self.at))?;
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
        self.passes(pass::value(self.text.as_bytes(), self.at))
    }

    /// Goes where something ends, or stops where it is not what it should be.
    #[inline]
    fn passes(&mut self, passed: Result<usize, usize>) -> Read<()> {
        let (Ok(at) | Err(at)) = passed;
        self.at = at;
        passed.map(drop).map_err(|_| Stopped)
    }

    fn word(&mut self, word: &str) -> Read<()> {
        self.peek();
        self.passes(pass::word(self.text.as_bytes(), self.at, word))
    }

    /// The first byte of what comes next.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            // The API server writes no white space.
            Some(0..=b' ') => {
                self.at = pass::white_space(self.text.as_bytes(), self.at);
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

    #[inline]
    fn expect(&mut self, byte: u8) -> Read<()> {
        if self.is_next(byte) { Ok(()) } else { Err(Stopped) }
    }

    /// Whether one more comes, or the bracket that closes.
    #[inline]
    fn another(&mut self, bracket: u8) -> Read<bool> {
        let next = self.peek();
        self.at += 1;
        match next {
            Some(b',') => Ok(true),
            Some(byte) if byte == bracket => Ok(false),
            _ => {
                self.at -= 1;
                Err(Stopped)
            }
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
