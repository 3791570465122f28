//! A reader of JSON (RFC 8259) that makes one pass over a text. Fields are borrowed instead of copied, and
//! values that are not needed are skipped. The crate does not depend on the names of fields.

mod pass;
mod write;

use std::borrow::Cow;

use pass::{Bytes, End, word};

pub use write::{map, write_map, write_text};

/// The error for a text that is not JSON, or not of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// Number of bytes of the line before the place where reading stopped.
    pub column: usize,
}

/// The result of reading: a value, or [`Stopped`].
pub type Read<T> = Result<T, Stopped>;

/// The error for a text that is not as expected. The reader knows the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// A string of the text: borrowed if it has no escapes, owned if it has some (Go writes `<` as `\u003c`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        *self = reader.text()?;
        Ok(())
    }

    /// Returns the string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text of a field; a missing field is empty.
    pub fn of(field: &Option<Self>) -> &str {
        field.as_ref().map_or("", Self::as_str)
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// A value that was skipped, to be read later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// Reads the next value in place, for [`once`].
    ///
    /// # Errors
    /// Fails if the next value is not valid JSON.
    pub fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        *self = reader.raw()?;
        Ok(())
    }

    /// Returns the value as it is written.
    pub const fn get(self) -> &'a str {
        self.0
    }

    /// Returns true if the value is null.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }
}

/// A reader of one value after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: Bytes<'a>,
    at: usize,
}

/// A function that reads the value of a key. It is not a type parameter, so that the loop that calls it is
/// compiled once.
type Field<'f, 'a> = &'f mut dyn FnMut(&mut Reader<'a>, &str) -> Read<()>;

impl<'a> Reader<'a> {
    /// Returns a reader at the beginning of this text.
    pub const fn new(text: &'a str) -> Self {
        Self { bytes: Bytes::of(text), at: 0 }
    }

    /// Reads the whole text as one value with this function.
    pub fn whole<T>(text: &'a str, read: impl FnOnce(&mut Self) -> Read<T>) -> Result<T, Malformed> {
        let mut reader = Self::new(text);
        match read(&mut reader) {
            Ok(value) if reader.peek().is_none() => Ok(value),
            Ok(_) | Err(Stopped) => Err(reader.malformed()),
        }
    }

    #[cold]
    fn malformed(&self) -> Malformed {
        let text = self.bytes.bytes();
        let before = text.get(..self.at).unwrap_or(text);
        let column = before.iter().rev().position(|byte| *byte == b'\n').unwrap_or(before.len());
        Malformed { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), column }
    }

    /// Reads an object. `field` gets each key, and has to read the value of that key.
    pub fn object(&mut self, field: Field<'_, 'a>) -> Read<()> {
        self.expect(b'{')?;
        if self.is_next(b'}') {
            return Ok(());
        }
        loop {
            match self.plain_text() {
                Some(key) => {
                    self.expect(b':')?;
                    field(self, key)?;
                }
                None => self.escaped_field(field)?,
            }
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn escaped_field(&mut self, field: Field<'_, 'a>) -> Read<()> {
        let key = self.escaped_text()?;
        self.expect(b':')?;
        field(self, key.as_str())
    }

    /// Reads an object of strings. `field` gets each key and its value.
    pub fn texts(&mut self, field: &mut dyn FnMut(Text<'a>, Text<'a>) -> Read<()>) -> Read<()> {
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

    /// Reads a list. `element` gets each position, and has to read the value there.
    pub fn list(&mut self, element: &mut dyn FnMut(&mut Self, usize) -> Read<()>) -> Read<()> {
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

    /// Reads null and returns true if null comes next.
    pub(crate) fn null(&mut self) -> Read<bool> {
        let is_null = self.peek() == Some(b'n');
        if is_null {
            self.passes(|bytes, at| word(bytes.bytes(), at, "null"))?;
        }
        Ok(is_null)
    }

    /// Reads a string.
    pub fn text(&mut self) -> Read<Text<'a>> {
        match self.plain_text() {
            Some(text) => Ok(Text(Cow::Borrowed(text))),
            None => self.escaped_text(),
        }
    }

    /// Reads a string without escapes; none if something else comes next.
    #[inline(always)]
    fn plain_text(&mut self) -> Option<&'a str> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let end = self.bytes.special(start);
        if self.bytes.get(end) != Some(b'"') {
            return None;
        }
        self.at = end + 1;
        self.bytes.text().get(start..end)
    }

    #[cold]
    #[inline(never)]
    fn escaped_text(&mut self) -> Read<Text<'a>> {
        self.expect(b'"')?;
        let start = self.at - 1;
        self.passes(Bytes::string)?;
        let written = self.bytes.text().get(start..self.at).unwrap_or_default();
        let text = serde_json::from_str(written).map_err(|_| Stopped)?;
        Ok(Text(Cow::Owned(text)))
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self) -> Read<bool> {
        let is_true = self.peek() == Some(b't');
        self.passes(|bytes, at| word(bytes.bytes(), at, if is_true { "true" } else { "false" }))?;
        Ok(is_true)
    }

    /// Reads any value, and returns it as it is written.
    pub fn raw(&mut self) -> Read<Raw<'a>> {
        self.kept(Self::pass)
    }

    /// Reads a value with this function, and returns the value as it is written.
    pub fn kept(&mut self, read: impl FnOnce(&mut Self) -> Read<()>) -> Read<Raw<'a>> {
        self.peek();
        let start = self.at;
        read(self)?;
        Ok(Raw(self.bytes.text().get(start..self.at).unwrap_or_default()))
    }

    /// Skips any value.
    #[inline(never)]
    pub fn pass(&mut self) -> Read<()> {
        self.passes(Bytes::value)
    }

    /// Moves to the end that the function finds, or stops at the place where the text is not as expected.
    #[inline(always)]
    fn passes(&mut self, end: impl FnOnce(&mut Bytes<'a>, usize) -> End) -> Read<()> {
        let end = end(&mut self.bytes, self.at);
        let (Ok(at) | Err(at)) = end;
        self.at = at;
        end.map(drop).map_err(|_| Stopped)
    }

    /// Skips white space, and returns the next byte.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        self.at = self.bytes.white_space(self.at);
        self.bytes.get(self.at)
    }

    /// Skips this byte and returns true if it comes next.
    #[inline(always)]
    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.at += 1;
        }
        is_next
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Read<()> {
        self.passes(|bytes, at| bytes.byte(at, byte))
    }

    /// Returns true after a comma, and false after the closing bracket.
    #[inline(always)]
    fn another(&mut self, bracket: u8) -> Read<bool> {
        if self.is_next(b',') {
            return Ok(true);
        }
        if self.is_next(bracket) { Ok(false) } else { Err(Stopped) }
    }
}

/// Reads a field in place, and stops if the field occurs a second time, because its meaning would be
/// ambiguous.
pub fn once<'a, T: Default>(
    reader: &mut Reader<'a>,
    field: &mut Option<T>,
    read: impl FnOnce(&mut T, &mut Reader<'a>) -> Read<()>,
) -> Read<()> {
    if field.is_some() {
        return Err(Stopped);
    }
    read(field.insert(T::default()), reader)
}

/// Reads a field like [`once`]. Null gives the default value.
pub fn once_or_null<'a, T: Default>(
    reader: &mut Reader<'a>,
    field: &mut Option<T>,
    read: impl FnOnce(&mut T, &mut Reader<'a>) -> Read<()>,
) -> Read<()> {
    once(reader, field, |value, reader| if reader.null()? { Ok(()) } else { read(value, reader) })
}

/// Reads a string field, and stops if the field occurs a second time.
pub fn once_text<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    once(reader, field, Text::read)
}

/// Reads a string field like [`once_text`]. Null gives an empty string.
pub fn once_text_or_null<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    once_or_null(reader, field, Text::read)
}

#[cfg(test)]
mod tests;
