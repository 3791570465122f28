//! A content digest with one validating constructor, after go-digest and the OCI image specification ("Digests").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A digest `algorithm:hex`, with an algorithm that container runtimes accept and lower-case hex of the exact
/// length. Clones share one text, because every review passes digests on many times.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

/// The reason why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `:` between algorithm and hex.
    #[error("a digest is written algorithm:hex, as sha256: and 64 hexadecimal digits")]
    Format,
    /// The algorithm is not sha256, sha384 or sha512.
    #[error("the digest's algorithm is not sha256, sha384 or sha512")]
    Algorithm,
    /// The hex is too short or too long for its algorithm.
    #[error("the digest has the wrong length for its algorithm")]
    Length,
    /// The hex has characters other than `0-9a-f`.
    #[error("the digest has characters other than 0-9 and a-f (lower case only)")]
    Hex,
}

impl Digest {
    /// Parses a digest: `sha256:…`.
    ///
    /// # Errors
    /// Fails if a container runtime would not accept the text.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return Err(DigestError::Algorithm),
        };
        if hex.len() != length {
            return Err(DigestError::Length);
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Hex);
        }
        Ok(Self(text.into()))
    }

    /// Returns the text: `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_back_and_nothing_else_is_one() {
        for (algorithm, length) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
            let text = format!("{algorithm}:{}", "0a".repeat(length / 2));
            assert_eq!(text.parse::<Digest>().map(|digest| digest.to_string()), Ok(text.clone()));
            assert_eq!(Digest::parse(&text.to_uppercase()), Err(DigestError::Algorithm));
            assert_eq!(Digest::parse(&format!("{text}0")), Err(DigestError::Length));
            assert_eq!(Digest::parse(&text.replace("0a", "0A")), Err(DigestError::Hex));
            assert_eq!(Digest::parse(&text.replacen("0a", "0\n", 1)), Err(DigestError::Hex));
        }
        assert_eq!(Digest::parse("sha256"), Err(DigestError::Format));
        // Bytes are counted, and a character of two bytes is not a digit.
        assert_eq!(Digest::parse(&format!("sha256:{}", "é".repeat(32))), Err(DigestError::Hex));
    }
}
