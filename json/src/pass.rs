//! Passing over what nobody reads: where a value ends, and whether it is one. Each function is told where it is, and says
//! where its part of the text ends, or where it stops being what it should be. Most of a review is passed over.

use std::slice;

use wide::u8x16;

/// Bytes of which is found out at once where the special ones are.
const BLOCK: usize = 64;
/// Bytes that are compared at once.
const PART: usize = 16;

/// A text that is passed over, and what was found out about the block of it that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Bytes<'a> {
    text: &'a [u8],
    block: usize,
    /// A bit for each quote, escape and control character, the first in the lowest.
    specials: u64,
}

/// Where something ends, or where it is not what it should be.
pub(crate) type End = Result<usize, usize>;

impl<'a> Bytes<'a> {
    pub(crate) const fn of(text: &'a str) -> Self {
        Self { text: text.as_bytes(), block: usize::MAX, specials: 0 }
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn left(&self, at: usize) -> &'a [u8] {
        self.text.get(at..).unwrap_or_default()
    }

    /// Of any value that begins here, behind white space or not.
    pub(crate) fn value(&mut self, mut at: usize) -> End {
        let mut open = Open::default();
        loop {
            match self.get(at) {
                Some(b'"') => at = self.string(at + 1)?,
                Some(bracket @ (b'{' | b'[')) => {
                    let is_object = bracket == b'{';
                    at = self.white_space(at + 1);
                    if self.get(at) == Some(if is_object { b'}' } else { b']' }) {
                        at += 1;
                    } else {
                        open.push(is_object);
                        if is_object {
                            at = self.key(at)?;
                        }
                        continue;
                    }
                }
                Some(b't') => at = self.word(at, "true")?,
                Some(b'f') => at = self.word(at, "false")?,
                Some(b'n') => at = self.word(at, "null")?,
                Some(b' ' | b'\n' | b'\r' | b'\t') => {
                    at += 1;
                    continue;
                }
                _ => at = self.number(at)?,
            }
            // A value has ended, and maybe what it is in.
            loop {
                let Some(in_object) = open.innermost() else { return Ok(at) };
                match self.get(at) {
                    Some(b',') => {
                        at += 1;
                        if in_object {
                            at = self.key(at)?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => open.pop(),
                    Some(b']') if !in_object => open.pop(),
                    Some(b' ' | b'\n' | b'\r' | b'\t') => {}
                    _ => return Err(at),
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
    #[inline]
    pub(crate) fn byte(&self, at: usize, wanted: u8) -> End {
        if self.get(at) == Some(wanted) { Ok(at + 1) } else { self.far_byte(at, wanted) }
    }

    /// The API server writes no white space.
    #[cold]
    #[inline(never)]
    fn far_byte(&self, at: usize, wanted: u8) -> End {
        let at = self.white_space(at);
        if self.get(at) == Some(wanted) { Ok(at + 1) } else { Err(at) }
    }

    #[inline]
    pub(crate) fn white_space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.get(at) {
            at += 1;
        }
        at
    }

    /// Of a string, from behind its first quote.
    #[inline]
    pub(crate) fn string(&mut self, at: usize) -> End {
        let end = self.special(at);
        if self.get(end) == Some(b'"') { Ok(end + 1) } else { self.escapes(end) }
    }

    #[cold]
    #[inline(never)]
    fn escapes(&mut self, mut at: usize) -> End {
        loop {
            at = match self.left(at) {
                [b'"', ..] => return Ok(at + 1),
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => at + 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => {
                    at + 6
                }
                [] | [b'\\' | 0..=0x1f, ..] => return Err(at),
                _ => self.special(at),
            };
        }
    }

    #[inline]
    pub(crate) fn word(&self, at: usize, word: &str) -> End {
        if self.left(at).starts_with(word.as_bytes()) { Ok(at + word.len()) } else { Err(at) }
    }

    fn number(&self, mut at: usize) -> End {
        if self.get(at) == Some(b'-') {
            at += 1;
        }
        at = if self.get(at) == Some(b'0') { at + 1 } else { self.digits(at)? };
        if self.get(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        match self.left(at) {
            [b'e' | b'E', b'+' | b'-', ..] => self.digits(at + 2),
            [b'e' | b'E', ..] => self.digits(at + 1),
            _ => Ok(at),
        }
    }

    fn digits(&self, at: usize) -> End {
        let digits = self.left(at).iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 { Err(at) } else { Ok(at + digits) }
    }

    /// The next quote, escape or control character, or somewhere behind the end. Where a string ends is known by a shift
    /// of what is known of its block: the next one does not wait for a comparison of its own.
    #[inline]
    pub(crate) fn special(&mut self, mut at: usize) -> usize {
        loop {
            let block = at / BLOCK;
            if block != self.block {
                (self.block, self.specials) = (block, specials(self.text, block));
            }
            let ahead = self.specials >> (at % BLOCK);
            if ahead != 0 {
                return at + ahead.trailing_zeros() as usize;
            }
            at = (block + 1) * BLOCK;
        }
    }
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
        None => last
            .iter()
            .rev()
            .fold(0, |specials, byte| specials << 1 | u64::from(matches!(byte, b'"' | b'\\' | 0..=0x1f))),
    };
    specials_of(parts) | (u64::MAX << last.len() | of_last) << (PART * parts.len())
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
#[derive(Default)]
struct Open {
    depth: usize,
    /// Whether each is an object, the innermost in the lowest bit.
    objects: u64,
    /// The same, of what is around those.
    around: Vec<u64>,
}

impl Open {
    /// Whether the innermost is an object.
    #[inline]
    const fn innermost(&self) -> Option<bool> {
        if self.depth == 0 { None } else { Some(self.objects & 1 == 1) }
    }

    #[inline]
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.around.push(self.objects);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        if self.depth.is_multiple_of(64) {
            self.objects = self.around.pop().unwrap_or(0);
        }
    }
}
