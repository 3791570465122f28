//! Names of Kubernetes objects.

/// Maximum length of a name, in bytes.
const LENGTH: usize = 253;

/// Returns true if an object can have this name: lower-case letters, digits, dashes and dots (RFC 1123).
///
/// Only such a name may become part of a path of the API.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |name: &str| name.starts_with('.') || name.ends_with('.');
    !name.is_empty() && name.len() <= LENGTH && name.bytes().all(allowed) && !edge(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_place_in_a_path_is_no_name() {
        for name in ["regcred", "a", "my.secret-1", &"a".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", "A", "a b", "a%2f", "a.", ".a", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }
}
