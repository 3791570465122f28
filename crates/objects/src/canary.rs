//! The review that proves that the API server reaches our webhook: what the leader sends and what a replica answers.
//! It is a `PodTemplate` that is created by dry-run only, so it never exists.

/// The name of the object.
pub const NAME: &str = "tagpin-canary";
/// The annotation that holds the nonce; any replica may be asked, so the question brings what the answer repeats.
pub const ANNOTATION: &str = "tagpin.dev/canary";
/// Characters of a nonce: 64 bits in hexadecimal digits.
const DIGITS: usize = 16;

/// The warning that answers a canary; none when this is no nonce, and then nothing of it is repeated.
#[must_use]
pub fn warning(nonce: &str) -> Option<String> {
    let is_nonce = nonce.len() == DIGITS && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_nonce.then(|| format!("tagpin answered canary {nonce}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nonce_is_repeated() {
        assert_eq!(warning("0123456789abcdef").as_deref(), Some("tagpin answered canary 0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcde\n", "0123456789abcdeg"] {
            assert_eq!(warning(other), None, "{other}");
        }
    }
}
