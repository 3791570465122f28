//! Reading JSON without copying it: borrowed strings, and lists and maps of which little is kept. It knows no field.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A string of the request: borrowed where JSON has it as it is, owned where it is escaped (Go writes `<` as `\u003c`).
/// An `Option<Cow<str>>` of serde would always be owned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// What is kept of a list's elements or a map's entries, so that a hostile one takes no memory.
pub(crate) trait Keep<'de>: Default {
    /// An element, or an entry as key and value.
    type Item;

    /// Takes the element at this position; an error when there are more than anybody needs.
    fn keep(&mut self, index: usize, item: Self::Item) -> Result<(), &'static str>;

    /// Nothing more is wanted: the rest is read and dropped.
    fn is_full(&self) -> bool {
        false
    }
}

/// A list, read into what is kept of it.
#[derive(Debug)]
pub(crate) struct List<K>(pub(crate) K);

impl<'de, K> Deserialize<'de> for List<K>
where
    K: Keep<'de>,
    K::Item: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<K>(PhantomData<K>);
        impl<'de, K> Visitor<'de> for Read<K>
        where
            K: Keep<'de>,
            K::Item: Deserialize<'de>,
        {
            type Value = List<K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<K>, A::Error> {
                let mut kept = K::default();
                let mut index = 0;
                while !kept.is_full() {
                    let Some(item) = list.next_element()? else { return Ok(List(kept)) };
                    kept.keep(index, item).map_err(A::Error::custom)?;
                    index += 1;
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(kept))
            }
        }
        deserializer.deserialize_seq(Read(PhantomData))
    }
}

/// A map from strings to strings, read into what is kept of it.
#[derive(Debug)]
pub(crate) struct Entries<K>(pub(crate) K);

impl<'de, K: Keep<'de, Item = (Text<'de>, Text<'de>)>> Deserialize<'de> for Entries<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<K>(PhantomData<K>);
        impl<'de, K: Keep<'de, Item = (Text<'de>, Text<'de>)>> Visitor<'de> for Read<K> {
            type Value = Entries<K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<K>, A::Error> {
                let mut kept = K::default();
                let mut index = 0;
                while let Some(entry) = map.next_entry()? {
                    kept.keep(index, entry).map_err(A::Error::custom)?;
                    index += 1;
                }
                Ok(Entries(kept))
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn strings_are_borrowed_unless_they_are_escaped() {
        let read = |text| serde_json::from_str::<Option<Text<'_>>>(text).unwrap().unwrap();
        assert!(matches!(read(r#""nginx:1.29""#).0, Cow::Borrowed("nginx:1.29")));
        assert!(matches!(read(r#""a\u003cb""#).0, Cow::Owned(text) if text == "a<b"));
    }

    #[derive(Debug, Default)]
    struct FirstTwo(Vec<(usize, u8)>);

    impl Keep<'_> for FirstTwo {
        type Item = u8;

        fn keep(&mut self, index: usize, item: u8) -> Result<(), &'static str> {
            if item == 0 {
                return Err("zero");
            }
            self.0.push((index, item));
            Ok(())
        }

        fn is_full(&self) -> bool {
            self.0.len() == 2
        }
    }

    #[test]
    fn what_is_not_kept_of_a_list_is_still_read() {
        let read = serde_json::from_str::<(List<FirstTwo>, u8)>;
        assert_eq!(read(r#"[[5, 6, {"a": [0]}, null], 7]"#).unwrap().0.0.0, [(0, 5), (1, 6)]);
        assert_eq!(read("[[5], 7]").unwrap().0.0.0, [(0, 5)]);
        assert!(read("[[5, 6, {], 7]").is_err());
        assert!(read("[[0], 7]").unwrap_err().to_string().starts_with("zero"));
    }
}
