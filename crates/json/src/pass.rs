//! Skips values: finds the end of a value and checks its syntax. Each function takes a position, and returns
//! the end of its part of the text, or the position at which the text is not as expected. Most of a review is
//! skipped.

use std::slice;

use wide::u8x16;

/// Number of bytes whose special bytes are found at once.
const BLOCK: usize = 64;
/// Number of bytes that are compared at once.
const PART: usize = 16;

/// A text, and the special bytes of the block that was looked at last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    text: &'a str,
    block: usize,
    /// A bit for each quote, escape and control character of the block. The first byte has the lowest bit.
    specials: u64,
}

/// The end of a part of the text, or the position at which the text is not as expected.
pub(crate) type End = Result<usize, usize>;

impl<'a> Bytes<'a> {
    pub(crate) const fn of(text: &'a str) -> Self {
        Self { text, block: usize::MAX, specials: 0 }
    }

    pub(crate) const fn text(self) -> &'a str {
        self.text
    }

    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.text.as_bytes()
    }

    #[inline(always)]
    pub(crate) fn get(self, at: usize) -> Option<u8> {
        self.bytes().get(at).copied()
    }

    /// Returns the end of any value that begins here. White space may come first.
    pub(crate) fn value(&mut self, at: usize) -> End {
        // The copy can stay in registers, unlike a value behind a reference.
        let mut bytes = *self;
        let end = bytes.any(at);
        *self = bytes;
        end
    }

    #[inline(always)]
    fn any(&mut self, mut at: usize) -> End {
        let mut open = Open::default();
        loop {
            let byte = self.get(at);
            if byte == Some(b'"') {
                at = self.string(at + 1)?;
            } else if byte == Some(b'{') {
                at = self.white_space(at + 1);
                if self.get(at) != Some(b'}') {
                    open.push(true);
                    at = self.key(at)?;
                    continue;
                }
                at += 1;
            } else if byte == Some(b'[') {
                at = self.white_space(at + 1);
                if self.get(at) != Some(b']') {
                    open.push(false);
                    continue;
                }
                at += 1;
            } else if let Some(b' ' | b'\n' | b'\r' | b'\t') = byte {
                at += 1;
                continue;
            } else {
                at = plain(self.bytes(), at)?;
            }
            // A value has ended, and perhaps also the objects and lists around it.
            loop {
                let Some(in_object) = open.innermost() else { return Ok(at) };
                let byte = self.get(at);
                if byte == Some(b',') {
                    at += 1;
                    if in_object {
                        at = self.key(at)?;
                    }
                    break;
                }
                if byte == Some(if in_object { b'}' } else { b']' }) {
                    open.pop();
                } else if !matches!(byte, Some(b' ' | b'\n' | b'\r' | b'\t')) {
                    return Err(at);
                }
                at += 1;
            }
        }
    }

    /// Returns the end of a key and its colon.
    #[inline(always)]
    fn key(&mut self, at: usize) -> End {
        let at = self.byte(at, b'"')?;
        let at = self.string(at)?;
        self.byte(at, b':')
    }

    /// Returns the end of this one byte. White space may come first.
    #[inline(always)]
    pub(crate) fn byte(self, at: usize, wanted: u8) -> End {
        if self.get(at) == Some(wanted) { Ok(at + 1) } else { far_byte(self.bytes(), at, wanted) }
    }

    #[inline(always)]
    pub(crate) fn white_space(self, at: usize) -> usize {
        // The API server writes no white space.
        if let Some(0..=b' ') = self.get(at) { white_space(self.bytes(), at) } else { at }
    }

    /// Returns the end of a string whose first quote is before this position.
    #[inline(always)]
    pub(crate) fn string(&mut self, at: usize) -> End {
        let end = self.special(at);
        if self.get(end) == Some(b'"') { Ok(end + 1) } else { escapes(self.text, end) }
    }

    /// Returns the position of the next quote, escape or control character, or a position behind the end of
    /// the text. The bits of a block are shifted to find the end of each string in it, so the next string
    /// needs no comparison of its own.
    #[inline(always)]
    pub(crate) fn special(&mut self, mut at: usize) -> usize {
        loop {
            let block = at / BLOCK;
            if block != self.block {
                (self.block, self.specials) = (block, specials(self.bytes(), block));
            }
            let ahead = self.specials >> (at % BLOCK);
            if ahead != 0 {
                return at + ahead.trailing_zeros() as usize;
            }
            at = (block + 1) * BLOCK;
        }
    }
}

fn left(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}

#[cold]
#[inline(never)]
fn white_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

#[cold]
#[inline(never)]
fn far_byte(text: &[u8], at: usize, wanted: u8) -> End {
    let at = white_space(text, at);
    if text.get(at) == Some(&wanted) { Ok(at + 1) } else { Err(at) }
}

#[cold]
#[inline(never)]
fn escapes(text: &str, mut at: usize) -> End {
    let mut bytes = Bytes::of(text);
    loop {
        at = match left(text.as_bytes(), at) {
            [b'"', ..] => return Ok(at + 1),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => at + 2,
            [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => {
                at + 6
            }
            [] | [b'\\' | 0..=0x1f, ..] => return Err(at),
            _ => bytes.special(at),
        };
    }
}

/// Returns the end of a number or a word.
#[inline(never)]
fn plain(text: &[u8], at: usize) -> End {
    match text.get(at) {
        Some(b't') => word(text, at, "true"),
        Some(b'f') => word(text, at, "false"),
        Some(b'n') => word(text, at, "null"),
        _ => number(text, at),
    }
}

#[inline]
pub(crate) fn word(text: &[u8], at: usize, word: &str) -> End {
    if left(text, at).starts_with(word.as_bytes()) { Ok(at + word.len()) } else { Err(at) }
}

fn number(text: &[u8], mut at: usize) -> End {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(text, at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    match left(text, at) {
        [b'e' | b'E', b'+' | b'-', ..] => digits(text, at + 2),
        [b'e' | b'E', ..] => digits(text, at + 1),
        _ => Ok(at),
    }
}

fn digits(text: &[u8], at: usize) -> End {
    let digits = left(text, at).iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { Err(at) } else { Ok(at + digits) }
}

/// Returns the bits of the special bytes of a block. Every byte behind the end of the text counts as special.
#[inline(never)]
fn specials(text: &[u8], block: usize) -> u64 {
    let left = text.get(block * BLOCK..).unwrap_or_default();
    if let Some(block) = left.first_chunk::<BLOCK>() {
        return specials_of(block.as_chunks().0);
    }
    let (parts, last) = left.as_chunks();
    let of_last = match text.last_chunk() {
        Some(part) => specials_of(slice::from_ref(part)) >> (PART - last.len()),
        None => last.iter().rev().fold(0, |specials, byte| specials << 1 | u64::from(is_special(*byte))),
    };
    specials_of(parts) | (u64::MAX << last.len() | of_last) << (PART * parts.len())
}

/// Returns true for a byte that ends a string, begins an escape, or must be escaped itself.
pub(crate) const fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// Returns a bit for each byte of these parts, which is set for special bytes.
#[inline]
fn specials_of(parts: &[[u8; PART]]) -> u64 {
    parts.iter().rev().fold(0, |specials, part| {
        let part = u8x16::new(*part);
        let is = |byte| part.simd_eq(u8x16::splat(byte));
        let is_control = part.min(u8x16::splat(0x1f)).simd_eq(part);
        specials << PART | u64::from((is(b'"') | is(b'\\') | is_control).to_bitmask())
    })
}

/// The objects and lists that are open, to any depth.
struct Open {
    /// A bit for each of the innermost ones, set for an object. The innermost has the lowest bit, and a set
    /// bit above them marks their end.
    innermost: u64,
    /// The same bits for the objects and lists around those.
    around: Vec<u64>,
}

impl Default for Open {
    fn default() -> Self {
        Self { innermost: 1, around: Vec::new() }
    }
}

impl Open {
    /// Returns true if the innermost one is an object, and false if it is a list; none if nothing is open.
    #[inline(always)]
    fn innermost(&mut self) -> Option<bool> {
        if self.innermost == 1 {
            self.innermost = self.around.pop()?;
        }
        Some(self.innermost & 1 == 1)
    }

    #[inline(always)]
    fn push(&mut self, is_object: bool) {
        if self.innermost >> 63 == 1 {
            self.around.push(self.innermost);
            self.innermost = 1;
        }
        self.innermost = self.innermost << 1 | u64::from(is_object);
    }

    #[inline(always)]
    const fn pop(&mut self) {
        self.innermost >>= 1;
    }
}
