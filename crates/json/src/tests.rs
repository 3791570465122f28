use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn passes(text: &str) -> bool {
    Reader::whole(text, Reader::pass).is_ok()
}

/// Returns true if every value of the text can be read.
fn reads(text: &str) -> bool {
    fn value(reader: &mut Reader<'_>) -> Read<()> {
        match reader.peek() {
            Some(b'"') => reader.text().map(drop),
            Some(b'{') => reader.object(&mut |reader, _| value(reader)),
            Some(b'[') => reader.list(&mut |reader, _| value(reader)),
            Some(b't' | b'f') => reader.boolean().map(drop),
            _ => reader.pass(),
        }
    }
    Reader::whole(text, value).is_ok()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[test]
fn strings_are_borrowed_unless_they_are_escaped() {
    let read = |text| Reader::whole(text, Reader::text).unwrap();
    assert!(matches!(read(r#""nginx:1.29""#).0, Cow::Borrowed("nginx:1.29")));
    assert!(matches!(read(r#""é and more than eight""#).0, Cow::Borrowed("é and more than eight")));
    assert!(matches!(read(r#""a\u003cb\ud83d\ude00""#).0, Cow::Owned(text) if text == "a<b😀"));
    for no in [r#""\ud800""#, r#"1a""#, r#" a""#, r#""a"#] {
        assert!(Reader::whole(no, Reader::text).is_err(), "{no}");
    }
    assert!(Reader::whole(" \n\"a\" ", Reader::text).is_ok());
}

#[test]
fn what_is_json_and_what_is_not() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let yes = [
        "{}",
        "[]",
        " [ 1 , -0.5e+7 , 10 ] ",
        r#"{"a":{"b":[{},[],"",null,true,false]},"c":0}"#,
        "\"\\u00e9\\n\"",
        &deep(200),
    ];
    for text in yes {
        assert!(passes(text) && reads(text) && is_json(text), "{text}");
    }
    let no = [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        "{a:1}",
        r#"{a":1}"#,
        r#"{'a":1}"#,
        "[1 2]",
        "[1}",
        r#"{"a":1]"#,
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "tru",
        "nul",
        "truefalse",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\u{1}\"",
        "\"abcdefgh\u{1f}\"",
        "{} {}",
        "[]]",
        "\u{feff}{}",
        "\u{c}{}",
        "{\u{b}}",
    ];
    for text in no {
        assert!(!passes(text) && !reads(text) && !is_json(text), "{text:.40}");
    }
    // Skipping takes no stack, however deep the text is nested.
    assert!(passes(&deep(100_000)) && !passes(&deep(100_000).replacen("]", "}", 1)));
    let mixed = r#"{"a":["#.repeat(1000) + &"]}".repeat(1000);
    assert!(passes(&mixed) && !passes(&mixed.replacen("]}", "}]", 1)));
}

#[test]
fn where_reading_stopped_is_said() {
    let stopped = |text| Reader::whole(text, Reader::pass).unwrap_err();
    assert_eq!(stopped("[1,\n 2,,"), Malformed { line: 2, column: 3 });
    assert_eq!(stopped(""), Malformed { line: 1, column: 0 });
    assert_eq!(stopped("{\"a\" 1}"), Malformed { line: 1, column: 5 });
}

#[test]
fn what_is_passed_over_is_kept_as_it_is_written() {
    let mut kept = Vec::new();
    let text = r#"{"a": {"b" : [1]} ,"c":"d"}"#;
    Reader::whole(text, |reader| {
        reader.object(&mut |reader, key| {
            kept.push((key.to_owned(), reader.raw()?.get()));
            Ok(())
        })
    })
    .unwrap();
    assert_eq!(kept, [("a".to_owned(), r#"{"b" : [1]}"#), ("c".to_owned(), r#""d""#)]);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".{0,12}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_read_and_with_one_byte_changed_it_is_judged_as_by_serde(
        value in json(), pretty in any::<bool>(), at in any::<prop::sample::Index>(), new in any::<char>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert!(passes(&text) && reads(&text), "{text}");
        let mut characters: Vec<char> = text.chars().collect();
        *at.get_mut(&mut characters) = new;
        let text: String = characters.into_iter().collect();
        prop_assert_eq!(passes(&text), is_json(&text), "{}", text);
        // Reading a string also decodes it, and `serde_json` refuses half of a surrogate pair.
        prop_assert!(passes(&text) || !reads(&text), "{text}");
    }

    #[test]
    fn strings_are_written_as_serde_reads_them(text in any::<String>()) {
        let mut json = String::new();
        write_text(&mut json, &text);
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn special_characters_are_found_wherever_they_are(before in "[ -!#-\\[\\]-~é]{0,140}", special in "[\"\\\\\\x00-\\x1f]", after in ".{0,20}") {
        let text = format!("{before}{special}{after}");
        prop_assert_eq!(Bytes::of(&text).special(0), before.len());
    }
}
