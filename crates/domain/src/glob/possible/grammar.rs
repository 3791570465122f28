//! The texts that globs are matched with, byte by byte.

/// A set of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// The names of images, as [`ImageRef::policy_name`](crate::image::ImageRef::policy_name) returns them.
    Names,
    /// Tags.
    Tags,
}

/// The bytes of names.
const OF_NAMES: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789./:-_[]";
/// The bytes of tags.
const OF_TAGS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789.-_ABCDEFGHIJKLMNOPQRSTUVWXYZ";

impl Texts {
    /// Returns every byte that occurs in these texts.
    pub(super) fn alphabet(self) -> impl Iterator<Item = u8> {
        let bytes = match self {
            Self::Names => OF_NAMES,
            Self::Tags => OF_TAGS,
        };
        bytes.iter().copied()
    }
}

/// A place in the grammar of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Syntax {
    /// Before the first byte.
    Start,
    /// In a tag.
    Tag,
    /// After a letter or digit of a host.
    Host,
    /// After a dash of a host.
    HostDash,
    /// After a dot of a host.
    HostDot,
    /// In the brackets of an IPv6 address.
    Address,
    /// After the brackets.
    AddressEnd,
    /// After the colon before a port.
    Colon,
    /// In a port, after this number of digits.
    Port(u8),
    /// At the beginning of a part of the path.
    Part,
    /// After a letter or digit of the path.
    Word,
    /// After a dot between two words.
    Dot,
    /// After an underscore between two words.
    Underscore,
    /// After two underscores between two words.
    Underscores,
    /// After dashes between two words.
    Dashes,
}

impl Syntax {
    /// Returns the place after a byte; none if no text goes on so.
    pub(super) fn after(self, texts: Texts, byte: u8) -> Option<Self> {
        let word = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        Some(match (texts, self, byte) {
            (Texts::Tags, Self::Start, b'.' | b'-') => return None,
            (Texts::Tags, ..) => Self::Tag,
            (_, Self::Start, b'[') => Self::Address,
            (_, Self::Start | Self::Host | Self::HostDash | Self::HostDot, _) if word => Self::Host,
            (_, Self::Host, b'.') => Self::HostDot,
            (_, Self::Host | Self::HostDash, b'-') => Self::HostDash,
            (_, Self::Host | Self::AddressEnd, b':') => Self::Colon,
            (_, Self::Host | Self::AddressEnd | Self::Port(_), b'/') => Self::Part,
            (_, Self::Address, b']') => Self::AddressEnd,
            (_, Self::Address, _) if byte == b':' || (word && byte.is_ascii_hexdigit()) => Self::Address,
            (_, Self::Colon, b'1'..=b'9') => Self::Port(1),
            (_, Self::Port(digits @ 1..=4), _) if byte.is_ascii_digit() => Self::Port(digits + 1),
            (
                _,
                Self::Part | Self::Word | Self::Dot | Self::Underscore | Self::Underscores | Self::Dashes,
                _,
            ) if word => Self::Word,
            (_, Self::Word, b'/') => Self::Part,
            (_, Self::Word, b'.') => Self::Dot,
            (_, Self::Word, b'_') => Self::Underscore,
            (_, Self::Underscore, b'_') => Self::Underscores,
            (_, Self::Word | Self::Dashes, b'-') => Self::Dashes,
            _ => return None,
        })
    }

    /// Returns true if a text may end here.
    pub(super) fn is_whole(self, texts: Texts) -> bool {
        match texts {
            Texts::Names => self == Self::Word,
            Texts::Tags => self == Self::Tag,
        }
    }
}
