//! The canary: a review that proves that the API server reaches tagpin's webhook. The leader sends it and a
//! replica answers it. It is a `PodTemplate` that is created by dry-run only, so it never exists.

/// Name of the canary object.
pub const NAME: &str = "tagpin-canary";
/// The annotation that holds the nonce. Any replica may be asked, so the request itself brings the text that
/// the answer repeats.
pub const ANNOTATION: &str = "tagpin.dev/canary";
/// Length of a nonce in characters: 64 bits in hexadecimal digits.
const DIGITS: usize = 16;

/// Returns the warning that answers a canary; none if the text is not a nonce, so that nothing else is ever
/// repeated.
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
