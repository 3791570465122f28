//! Passing over what nobody reads: where a value ends, and whether it is one. Each function is given a text and where
//! it is there, and says where it ends, or where it stops being what it should be. Most of a review is passed over.

/// Of any value that begins here, behind white space or not.
pub(super) fn value(text: &[u8], mut at: usize) -> Result<usize, usize> {
    let mut open = Open::default();
    loop {
        match text.get(at) {
            Some(b'"') => at = string(text, at + 1)?,
            Some(bracket @ (b'{' | b'[')) => {
                let is_object = *bracket == b'{';
                at = white_space(text, at + 1);
                if text.get(at) == Some(if is_object { &b'}' } else { &b']' }) {
                    at += 1;
                } else {
                    open.push(is_object);
                    if is_object {
                        at = key(text, at)?;
                    }
                    continue;
                }
            }
            Some(b't') => at = word(text, at, "true")?,
            Some(b'f') => at = word(text, at, "false")?,
            Some(b'n') => at = word(text, at, "null")?,
            Some(b' ' | b'\n' | b'\r' | b'\t') => {
                at += 1;
                continue;
            }
            _ => at = number(text, at)?,
        }
        // A value has ended, and maybe what it is in.
        loop {
            let Some(in_object) = open.innermost() else { return Ok(at) };
            match text.get(at) {
                Some(b',') => {
                    at += 1;
                    if in_object {
                        at = key(text, at)?;
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

/// Of a key and its colon.
fn key(text: &[u8], at: usize) -> Result<usize, usize> {
    let at = byte(text, at, b'"')?;
    let at = string(text, at)?;
    byte(text, at, b':')
}

/// Of this one byte, behind white space or not.
#[inline]
fn byte(text: &[u8], at: usize, wanted: u8) -> Result<usize, usize> {
    if text.get(at) == Some(&wanted) {
        return Ok(at + 1);
    }
    let at = white_space(text, at);
    if text.get(at) == Some(&wanted) { Ok(at + 1) } else { Err(at) }
}

#[inline]
pub(super) fn white_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Of a string, from behind its first quote.
pub(super) fn string(text: &[u8], at: usize) -> Result<usize, usize> {
    let end = plain(text, at);
    if text.get(end) == Some(&b'"') { Ok(end + 1) } else { escapes(text, end) }
}

#[cold]
fn escapes(text: &[u8], mut at: usize) -> Result<usize, usize> {
    loop {
        let left = text.get(at..).unwrap_or_default();
        at += match left {
            [b'"', ..] => return Ok(at + 1),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => 6,
            _ => match plain(text, at) - at {
                0 => return Err(at),
                plain => plain,
            },
        };
    }
}

pub(super) fn word(text: &[u8], at: usize, word: &str) -> Result<usize, usize> {
    let is_there = text.get(at..).is_some_and(|left| left.starts_with(word.as_bytes()));
    if is_there { Ok(at + word.len()) } else { Err(at) }
}

fn number(text: &[u8], mut at: usize) -> Result<usize, usize> {
    let next = |at: &mut usize, is: fn(u8) -> bool| {
        let is_it = text.get(*at).is_some_and(|byte| is(*byte));
        *at += usize::from(is_it);
        is_it
    };
    next(&mut at, |byte| byte == b'-');
    if !next(&mut at, |byte| byte == b'0') {
        at = digits(text, at)?;
    }
    if next(&mut at, |byte| byte == b'.') {
        at = digits(text, at)?;
    }
    if next(&mut at, |byte| matches!(byte, b'e' | b'E')) {
        next(&mut at, |byte| matches!(byte, b'+' | b'-'));
        at = digits(text, at)?;
    }
    Ok(at)
}

fn digits(text: &[u8], at: usize) -> Result<usize, usize> {
    let digits = text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { Err(at) } else { Ok(at + digits) }
}

/// Where the first quote, escape or control character is from here on: eight bytes are looked at at once.
#[inline]
pub(super) fn plain(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    plain_to_end(text, at)
}

/// The same among the last few bytes, where no string of a review ends.
#[cold]
#[inline(never)]
fn plain_to_end(text: &[u8], at: usize) -> usize {
    let left = text.get(at..).unwrap_or_default();
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    at + left.iter().position(is_special).unwrap_or(left.len())
}

/// The high bit of each byte that is special; bits above the lowest one that is set say nothing. A byte that is smaller
/// than what is taken off borrows from its high bit; no special byte has that bit itself. With their second bit turned
/// around, the quote and the control characters are those below 33.
const fn special(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let quote_or_control = (word ^ each(2)).wrapping_sub(each(0x21));
    let escape = (word ^ each(b'\\')).wrapping_sub(each(1));
    (quote_or_control | escape) & !word & each(0x80)
}
