//! Passing over what nobody reads: where a value ends, and whether it is one. Each function is told where it is, and says
//! where its part of the text ends, or where it stops being what it should be. Most of a review is passed over.

use std::slice;

use wide::u8x16;

/// Bytes of which is found out at once where the special ones are.
const BLOCK: usize = 64;
/// Bytes that are compared at once.
const PART: usize = 16;

/// A text that is passed over, and what was found out about the block of it that is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    text: &'a str,
    block: usize,
    /// A bit for each quote, escape and control character, the first in the lowest.
    specials: u64,
}

/// Where something ends, or where it is not what it should be.
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

    /// Of any value that begins here, behind white space or not.
    pub(crate) fn value(&mut self, at: usize) -> End {
        // In registers, not behind a reference.
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
            // A value has ended, and maybe what it is in.
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

    /// Of a key and its colon.
    #[inline(always)]
    fn key(&mut self, at: usize) -> End {
        let at = self.byte(at, b'"')?;
        let at = self.string(at)?;
        self.byte(at, b':')
    }

    /// Of this one byte, behind white space or not.
    #[inline(always)]
    pub(crate) fn byte(self, at: usize, wanted: u8) -> End {
        if self.get(at) == Some(wanted) { Ok(at + 1) } else { far_byte(self.bytes(), at, wanted) }
    }

    #[inline(always)]
    pub(crate) fn white_space(self, at: usize) -> usize {
        // The API server writes none.
        if let Some(0..=b' ') = self.get(at) { white_space(self.bytes(), at) } else { at }
    }

    /// Of a string, from behind its first quote.
    #[inline(always)]
    pub(crate) fn string(&mut self, at: usize) -> End {
        let end = self.special(at);
        if self.get(end) == Some(b'"') { Ok(end + 1) } else { escapes(self.text, end) }
    }

    /// The next quote, escape or control character, or somewhere behind the end. Where a string ends is known by a shift
    /// of what is known of its block: the next one does not wait for a comparison of its own.
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

/// Of a number or a word.
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

/// Where the special bytes of a block are; behind the end of the text everything is special.
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

/// Whether this byte ends a string, escapes what follows, or must be escaped itself.
pub(crate) const fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// A bit for each byte of these parts.
#[inline]
fn specials_of(parts: &[[u8; PART]]) -> u64 {
    parts.iter().rev().fold(0, |specials, part| {
        let part = u8x16::new(*part);
        let is = |byte| part.simd_eq(u8x16::splat(byte));
        let is_control = part.min(u8x16::splat(0x1f)).simd_eq(part);
        specials << PART | u64::from((is(b'"') | is(b'\\') | is_control).to_bitmask())
    })
}

/// What is open: objects and lists, to any depth.
struct Open {
    /// A bit for each, set for an object, the innermost in the lowest; above them one that says where they end.
    innermost: u64,
    /// The same, of what is around those.
    around: Vec<u64>,
}

impl Default for Open {
    fn default() -> Self {
        Self { innermost: 1, around: Vec::new() }
    }
}

impl Open {
    /// Whether the innermost is an object.
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
