//! Platforms of images and machines: operating system, architecture and variant, and the rule for which
//! images a machine runs.

use std::fmt;
use std::str::FromStr;

/// A platform such as `linux/arm64/v8`, in the words of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// The error for a text that is not a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a platform is written OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, as linux/arm64 or linux/arm/v7")]
pub struct NotAPlatform;

impl Platform {
    /// Returns the platform of these parts, in the specification's words: `x86_64` is `amd64`, and `arm64/v8`
    /// is `arm64`.
    ///
    /// # Errors
    /// Fails if a part is empty, longer than 32 characters, or has characters that names of platforms do not
    /// have.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, NotAPlatform> {
        let plain = |text: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let fits = !text.is_empty() && text.len() <= 32 && text.bytes().all(byte);
            if fits { Ok(text.to_ascii_lowercase()) } else { Err(NotAPlatform) }
        };
        let os = plain(os)?;
        let variant = variant.filter(|variant| !variant.is_empty()).map(plain).transpose()?;
        let architecture = plain(architecture)?;
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64", _) => ("amd64", variant),
            ("aarch64", None | Some("v8")) | ("arm64", Some("v8")) => ("arm64", None),
            ("armhf", None) | ("arm", None) => ("arm", Some("v7".to_owned())),
            ("armel", None) => ("arm", Some("v6".to_owned())),
            (other, _) => (other, variant),
        };
        Ok(Self { os, architecture: architecture.to_owned(), variant })
    }

    /// Returns true if a machine of this platform runs an image for the other one: the same, or arm of an
    /// earlier version.
    #[must_use]
    pub fn runs(&self, image: &Self) -> bool {
        let same = self.os == image.os && self.architecture == image.architecture;
        let older = |ours: &str, theirs: &str| {
            let number = |text: &str| text.strip_prefix('v')?.parse::<u8>().ok();
            self.architecture == "arm" && number(theirs).zip(number(ours)).is_some_and(|(a, b)| a <= b)
        };
        same && match (self.variant.as_deref(), image.variant.as_deref()) {
            // Every machine of the architecture runs an image that is for no particular variant.
            (_, None) => true,
            (Some(ours), Some(theirs)) => ours == theirs || older(ours, theirs),
            (None, Some(_)) => false,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = NotAPlatform;

    fn from_str(text: &str) -> Result<Self, NotAPlatform> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None) => Self::new(os, architecture, variant),
            _ => Err(NotAPlatform),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn one_platform_has_one_name() {
        for (written, name) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(platform(written).to_string(), name, "{written}");
        }
        for wrong in ["", "linux", "linux/", "linux/a/b/c", "/arm64", "linux/a b", "linux/\u{1b}[31m"] {
            assert_eq!(wrong.parse::<Platform>(), Err(NotAPlatform), "{wrong}");
        }
    }

    #[test]
    fn a_machine_runs_what_is_for_it_or_for_its_elders() {
        for (machine, image, runs) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v7", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm64", "linux/arm/v7", false),
            ("linux/amd64/v3", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/amd64/v3", "linux/amd64/v2", false),
        ] {
            assert_eq!(platform(machine).runs(&platform(image)), runs, "{machine} runs {image}");
        }
    }
}
