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

impl<'a> Text<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        *self = reader.text()?;
        Ok(())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A field's text; one that is not there is empty.
    pub(crate) fn of(field: &Option<Self>) -> &str {
        field.as_ref().map_or("", Self::as_str)
    }
}

/// A value that was passed over, to be read later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    pub(crate) fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        *self = reader.raw()?;
        Ok(())
    }

    /// As it is written.
    pub(crate) const fn get(self) -> &'a str {
        self.0
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == "null"
    }
}

/// Reads one value after the other.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    left: &'a [u8],
}

/// Reads the value of a key. It is no type parameter, so that the loop around it is there once.
type Field<'f, 'a> = &'f mut dyn FnMut(&mut Reader<'a>, &str) -> Read<()>;

impl<'a> Reader<'a> {
    /// Reads this text from its beginning.
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, left: text.as_bytes() }
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
        let before = self.text.as_bytes().get(..self.at()).unwrap_or_default();
        let column = before.iter().rev().position(|byte| *byte == b'\n').unwrap_or(before.len());
        Malformed { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), column }
    }

    /// Bytes of the text that were read.
    const fn at(&self) -> usize {
        self.text.len() - self.left.len()
    }

    /// An object: `field` is given each key, and reads the value of it.
    pub(crate) fn object(&mut self, field: Field<'_, 'a>) -> Read<()> {
        self.expect(b'{')?;
        if self.is_next(b'}') {
            return Ok(());
        }
        loop {
            let key = self.text()?;
            self.expect(b':')?;
            field(self, key.as_str())?;
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// An object of strings: `field` is given each key and its value.
    pub(crate) fn texts(&mut self, field: &mut dyn FnMut(Text<'a>, Text<'a>) -> Read<()>) -> Read<()> {
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
    pub(crate) fn list(&mut self, element: &mut dyn FnMut(&mut Self, usize) -> Read<()>) -> Read<()> {
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
    pub(crate) fn null(&mut self) -> Read<bool> {
        let is_null = self.peek() == Some(b'n');
        if is_null {
            self.passes(pass::word(self.left, "null"))?;
        }
        Ok(is_null)
    }

    /// A string.
    pub(crate) fn text(&mut self) -> Read<Text<'a>> {
        self.expect(b'"')?;
        let start = self.at();
        let end = pass::plain(self.left);
        let [b'"', left @ ..] = end else { return self.escaped_text() };
        let text = self.text.get(start..self.text.len() - end.len()).unwrap_or_default();
        self.left = left;
        Ok(Text(Cow::Borrowed(text)))
    }

    /// A string from behind its first quote.
    #[cold]
    fn escaped_text(&mut self) -> Read<Text<'a>> {
        let start = self.at() - 1;
        self.passes(pass::string(self.left))?;
        let written = self.text.get(start..self.at()).unwrap_or_default();
        let text = serde_json::from_str(written).map_err(|_| Stopped)?;
        Ok(Text(Cow::Owned(text)))
    }

    /// True or false.
    pub(crate) fn boolean(&mut self) -> Read<bool> {
        let is_true = self.peek() == Some(b't');
        self.passes(pass::word(self.left, if is_true { "true" } else { "false" }))?;
        Ok(is_true)
    }

    /// Any value, as it is written.
    pub(crate) fn raw(&mut self) -> Read<Raw<'a>> {
        self.kept(Self::pass)
    }

    /// A value as it is written, which this reads.
    pub(crate) fn kept(&mut self, read: impl FnOnce(&mut Self) -> Read<()>) -> Read<Raw<'a>> {
        self.peek();
        let start = self.at();
        read(self)?;
        Ok(Raw(self.text.get(start..self.at()).unwrap_or_default()))
    }

    /// Passes over any value.
    pub(crate) fn pass(&mut self) -> Read<()> {
        self.passes(pass::value(self.left))
    }

    /// Goes where something ends, or stops where it is not what it should be.
    #[inline]
    fn passes(&mut self, passed: pass::Left<'a>) -> Read<()> {
        let (Ok(left) | Err(left)) = passed;
        self.left = left;
        passed.map(drop).map_err(|_| Stopped)
    }

    /// The first byte of what comes next.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        if let [0..=b' ', ..] = self.left {
            self.left = pass::white_space(self.left);
        }
        self.left.first().copied()
    }

    /// Passes over this byte, if it comes next.
    #[inline]
    fn is_next(&mut self, byte: u8) -> bool {
        self.expect(byte).is_ok()
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Read<()> {
        self.passes(pass::byte(self.left, byte))
    }

    /// Whether one more comes, or the bracket that closes.
    #[inline]
    fn another(&mut self, bracket: u8) -> Read<bool> {
        if self.is_next(b',') {
            return Ok(true);
        }
        self.expect(bracket)?;
        Ok(false)
    }
}

/// A field that is there at most once, and is read where it stays: one that is there twice means two things.
pub(crate) fn once<'a, T: Default>(
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
pub(crate) fn once_or_null<'a, T: Default>(
    reader: &mut Reader<'a>,
    field: &mut Option<T>,
    read: impl FnOnce(&mut T, &mut Reader<'a>) -> Read<()>,
) -> Read<()> {
    once(reader, field, |value, reader| if reader.null()? { Ok(()) } else { read(value, reader) })
}

/// A string that is there at most once.
pub(crate) fn once_text<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    once(reader, field, Text::read)
}

/// A string that is there at most once; null is an empty one.
pub(crate) fn once_text_or_null<'a>(reader: &mut Reader<'a>, field: &mut Option<Text<'a>>) -> Read<()> {
    once_or_null(reader, field, Text::read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
