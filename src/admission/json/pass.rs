//! Passing over what nobody reads. Each function is given what is left of a text, and says what is left behind its part
//! of it, or from where on it is not what it should be. Most of a review is passed over.

/// What is left behind what was passed over, or from where on it is wrong.
pub(super) type Left<'a> = Result<&'a [u8], &'a [u8]>;

/// Passes over any value that begins here, behind white space or not.
pub(super) fn value(mut left: &[u8]) -> Left<'_> {
    let mut open = Open::default();
    loop {
        left = match left {
            [b'"', left @ ..] => string(left)?,
            [bracket @ (b'{' | b'['), inner @ ..] => {
                let is_object = *bracket == b'{';
                match white_space(inner) {
                    [b'}', left @ ..] if is_object => left,
                    [b']', left @ ..] if !is_object => left,
                    inner => {
                        open.push(is_object);
                        left = if is_object { key(inner)? } else { inner };
                        continue;
                    }
                }
            }
            [b't', ..] => word(left, "true")?,
            [b'f', ..] => word(left, "false")?,
            [b'n', ..] => word(left, "null")?,
            [b' ' | b'\n' | b'\r' | b'\t', after @ ..] => {
                left = after;
                continue;
            }
            _ => number(left)?,
        };
        // A value has ended, and maybe what it is in.
        loop {
            let Some(in_object) = open.innermost() else { return Ok(left) };
            left = match left {
                [b',', after @ ..] => {
                    left = if in_object { key(after)? } else { after };
                    break;
                }
                [b'}', after @ ..] if in_object => {
                    open.pop();
                    after
                }
                [b']', after @ ..] if !in_object => {
                    open.pop();
                    after
                }
                [b' ' | b'\n' | b'\r' | b'\t', after @ ..] => after,
                _ => return Err(left),
            };
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

/// Passes over a key and its colon.
#[inline]
fn key(left: &[u8]) -> Left<'_> {
    byte(string(byte(left, b'"')?)?, b':')
}

/// Passes over this one byte, behind white space or not.
#[inline]
pub(super) fn byte(left: &[u8], wanted: u8) -> Left<'_> {
    match left {
        [byte, left @ ..] if *byte == wanted => Ok(left),
        _ => match white_space(left) {
            [byte, left @ ..] if *byte == wanted => Ok(left),
            left => Err(left),
        },
    }
}

/// The API server writes none.
#[inline]
pub(super) fn white_space(mut left: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\r' | b'\t', after @ ..] = left {
        left = after;
    }
    left
}

/// Passes over a string, from behind its first quote.
#[inline]
pub(super) fn string(left: &[u8]) -> Left<'_> {
    match plain(left) {
        [b'"', left @ ..] => Ok(left),
        left => escapes(left),
    }
}

#[cold]
#[inline(never)]
fn escapes(mut left: &[u8]) -> Left<'_> {
    loop {
        left = match left {
            [b'"', left @ ..] => return Ok(left),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', left @ ..] => left,
            [b'\\', b'u', a, b, c, d, left @ ..]
                if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                left
            }
            [] | [b'\\' | 0..=0x1f, ..] => return Err(left),
            _ => plain(left),
        };
    }
}

pub(super) fn word<'a>(left: &'a [u8], word: &str) -> Left<'a> {
    left.strip_prefix(word.as_bytes()).ok_or(left)
}

fn number(left: &[u8]) -> Left<'_> {
    let whole = left.strip_prefix(b"-").unwrap_or(left);
    let left = if let [b'0', left @ ..] = whole { left } else { digits(whole)? };
    let left = if let [b'.', left @ ..] = left { digits(left)? } else { left };
    match left {
        [b'e' | b'E', b'+' | b'-', left @ ..] | [b'e' | b'E', left @ ..] => digits(left),
        _ => Ok(left),
    }
}

fn digits(left: &[u8]) -> Left<'_> {
    let digits = left.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { Err(left) } else { Ok(left.get(digits..).unwrap_or_default()) }
}

/// What begins with the first quote, escape or control character: eight bytes are looked at at once.
#[inline]
pub(super) fn plain(mut left: &[u8]) -> &[u8] {
    while let Some((word, after)) = left.split_first_chunk() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return left.get(special.trailing_zeros() as usize / 8..).unwrap_or_default();
        }
        left = after;
    }
    plain_to_end(left)
}

/// The same among the last few bytes, where no string of a review ends.
#[cold]
#[inline(never)]
fn plain_to_end(left: &[u8]) -> &[u8] {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let plain = left.iter().position(is_special).unwrap_or(left.len());
    left.get(plain..).unwrap_or_default()
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
