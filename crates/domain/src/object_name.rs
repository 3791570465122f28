//! Names of Kubernetes objects, as far as they become part of a path of the API.

/// Maximum length of a name in bytes.
const LONGEST: usize = 253;

/// Returns true if an object can have this name: lower-case letters, digits, `-` and inner dots.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let length = 1..=LONGEST;
    let inner_dots = !name.starts_with('.') && !name.ends_with('.');
    length.contains(&name.len()) && name.bytes().all(allowed) && inner_dots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_part_of_a_path() {
        let longest = "a".repeat(LONGEST);
        for name in ["web", "web-5d4f", "registry.example.dev", "0", &longest] {
            assert!(is_object_name(name), "{name}");
        }
        let longer = "a".repeat(LONGEST + 1);
        for name in ["", ".", "..", ".web", "web.", "a/b", "Web", "web?", "web%2f", "wéb", &longer] {
            assert!(!is_object_name(name), "{name}");
        }
    }
}
