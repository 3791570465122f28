//! Reading JSON (RFC 8259) in one pass and without copying it: fields are borrowed, and what nobody asks for is passed
//! over at once. It knows no field.

mod pass;
mod write;

use std::borrow::Cow;

use pass::{Bytes, End, word};

pub use write::{map, write_map, write_text};

/// Why a text is not JSON, or not of the shape that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    /// Bytes of the line up to where reading stopped.
    pub column: usize,
}

/// What reading gives: the value, or that the reader stopped.
pub type Read<T> = Result<T, Stopped>;

/// The text is not what is read; the reader knows where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// A string of the request: borrowed where JSON has it as it is, owned where it is escaped (Go writes `<` as `\u003c`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        *self = reader.text()?;
        Ok(())
    }

    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A field's text; one that is not there is empty.
    pub fn of(field: &Option<Self>) -> &str {
        field.as_ref().map_or("", Self::as_str)
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// A value that was passed over, to be read later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// Reads it in place, for [`once`].
    ///
    /// # Errors
    /// It is no value.
    pub fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        *self = reader.raw()?;
        Ok(())
    }

    /// As it is written.
    pub const fn get(self) -> &'a str {
        self.0
    }

    /// Whether null stands there.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }
}

/// Reads one value after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: Bytes<'a>,
    at: usize,
}

/// Reads the value of a key. It is no type parameter, so that the loop around it is there once.
type Field<'f, 'a> = &'f mut dyn FnMut(&mut Reader<'a>, &str) -> Read<()>;

impl<'a> Reader<'a> {
    /// Reads this text from its beginning.
    pub const fn new(text: &'a str) -> Self {
        Self { bytes: Bytes::of(text), at: 0 }
    }

    /// The whole text is one value, which this reads.
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

    /// An object: `field` is given each key, and reads the value of it.
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

    /// An object of strings: `field` is given each key and its value.
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

    /// A list: `element` is given each position, and reads the value there.
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

    /// Whether null comes next, which is then read.
    pub fn null(&mut self) -> Read<bool> {
        let is_null = self.peek() == Some(b'n');
        if is_null {
            self.passes(|bytes, at| word(bytes.bytes(), at, "null"))?;
        }
        Ok(is_null)
    }

    /// A string.
    pub fn text(&mut self) -> Read<Text<'a>> {
        match self.plain_text() {
            Some(text) => Ok(Text(Cow::Borrowed(text))),
            None => self.escaped_text(),
        }
    }

    /// A string without escapes, if that is what comes next.
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

    /// True or false.
    pub fn boolean(&mut self) -> Read<bool> {
        let is_true = self.peek() == Some(b't');
        self.passes(|bytes, at| word(bytes.bytes(), at, if is_true { "true" } else { "false" }))?;
        Ok(is_true)
    }

    /// Any value, as it is written.
    pub fn raw(&mut self) -> Read<Raw<'a>> {
        self.kept(Self::pass)
    }

    /// A value as it is written, which this reads.
    pub fn kept(&mut self, read: impl FnOnce(&mut Self) -> Read<()>) -> Read<Raw<'a>> {
        self.peek();
        let start = self.at;
        read(self)?;
        Ok(Raw(self.bytes.text().get(start..self.at).unwrap_or_default()))
    }

    /// Passes over any value.
    #[inline(never)]
    pub fn pass(&mut self) -> Read<()> {
        self.passes(Bytes::value)
    }

    /// Goes where something ends, or stops where it is not what it should be.
    #[inline(always)]
    fn passes(&mut self, end: impl FnOnce(&mut Bytes<'a>, usize) -> End) -> Read<()> {
        let end = end(&mut self.bytes, self.at);
        let (Ok(at) | Err(at)) = end;
        self.at = at;
        end.map(drop).map_err(|_| Stopped)
    }

    /// The first byte of what comes next.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        self.at = self.bytes.white_space(self.at);
        self.bytes.get(self.at)
    }

    /// Passes over this byte, if it comes next.
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

    /// Whether one more comes, or the bracket that closes.
    #[inline(always)]
    fn another(&mut self, bracket: u8) -> Read<bool> {
        if self.is_next(b',') {
            return Ok(true);
        }
        if self.is_next(bracket) { Ok(false) } else { Err(Stopped) }
    }
}

/// A field that is there at most once, and is read where it stays: one that is there twice means two things.
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

/// The same of a field that may be null, which leaves it as it is by default.
pub fn once_or_null<'a, T: Default>(
    reader: &mut Reader<'a>,
    field: &mut Option<T>,
    read: impl FnOnce(&mut T, &mut Reader<'a>) -> Read<()>,
) -> Read<()> {
    once(reader, field, |value, reader| if reader.null()? { Ok(()) } else { read(value, reader) })
}

/// A string that is there at most once.
pub fn once_text<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    once(reader, field, Text::read)
}

/// A string that is there at most once; null is an empty one.
pub fn once_text_or_null<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    once_or_null(reader, field, Text::read)
}

#[cfg(test)]
mod tests;
