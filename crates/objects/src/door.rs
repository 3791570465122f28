//! The tokens in the paths of the webhook, by which a replica tells the API server from other callers.

use std::fmt;

/// Path to which pods are sent to be pinned.
pub const MUTATE: &str = "/mutate";
/// Path to which objects are sent to be judged.
pub const VALIDATE: &str = "/validate";
/// Path to which objects of namespaces with break glass are sent.
pub const BREAK_GLASS: &str = "/validate/break-glass";

/// Length of a token in bytes. In a path it has twice as many characters.
pub const LENGTH: usize = 20;

/// A secret part of a path. It is never logged.
#[derive(Clone, Copy)]
pub struct Token([u8; LENGTH]);

/// The tokens that are valid at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// The token in the paths.
    pub current: Token,
    /// The token that follows. Replicas accept it long before it is used, so that no request is early.
    pub next: Token,
}

impl Token {
    /// Returns the token of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Reads a token from a path: 40 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let pairs: &[[u8; 2]; LENGTH] = pairs.try_into().ok().filter(|_| rest.is_empty())?;
        let mut token = [0; LENGTH];
        for (byte, [high, low]) in token.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Self(token))
    }

    /// Returns the path that ends with this token.
    #[must_use]
    pub fn path(self, entrance: &str) -> String {
        let mut path = format!("{entrance}/");
        path.extend(self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(hexadecimal));
        path
    }

    /// Returns the bytes, for the Secret.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

fn hexadecimal(digit: u8) -> Option<char> {
    char::from_digit(digit.into(), 16)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

/// Compares every byte, so that the time tells a caller nothing about the token.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |different, (one, other)| different | (one ^ other)) == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_from_its_path_and_shown_nowhere_else() {
        let token = Token::new(*b"\x00\x01\xfe\xffsixteen of these");
        let path = token.path(VALIDATE);
        assert_eq!(path, "/validate/0001feff7369787465656e206f66207468657365");
        let written = path.strip_prefix("/validate/").unwrap();
        assert_eq!(Token::parse(written), Some(token));
        assert_ne!(Token::parse(&written.replace("65", "64")), Some(token));
        for other in ["", "00", "break-glass", &written.to_uppercase(), &format!("{written}0"), &written[1..]]
        {
            assert_eq!(Token::parse(other), None, "{other}");
        }
        let shown = format!("{:?}", Tokens { current: token, next: token });
        assert_eq!(shown, "Tokens { current: Token, next: Token }");
    }
}
