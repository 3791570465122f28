//! Compares two versions of an object whose owners were removed, without reading what else it holds.

use tagpin_json::{Raw, Read, Reader, Stopped, once, write_text};

/// Maximum number of owner references, and of finalizers, that are compared.
const COMPARED: usize = 1024;

/// One version of an object.
#[derive(Debug, Default)]
struct Version<'a> {
    owners: Option<Vec<&'a str>>,
    finalizers: Option<Vec<&'a str>>,
    metadata: Option<String>,
    /// Everything that is written outside the metadata.
    rest: String,
}

/// Returns true if an object lost owner references or finalizers, or nothing, and everything else in it stayed the same,
/// byte by byte. The version and the managed fields do not count, because the API server writes them.
#[must_use]
pub fn only_loses_owners(new: Raw<'_>, old: Raw<'_>) -> bool {
    let [Ok(new), Ok(old)] = [new, old].map(|raw| {
        let mut version = Version::default();
        Reader::whole(raw.get(), |reader| version.read(reader)).map(|()| version)
    }) else {
        return false;
    };
    new.metadata == old.metadata
        && new.rest == old.rest
        && is_part(new.owners, old.owners)
        && is_part(new.finalizers, old.finalizers)
}

/// Returns true if every element of the first list is in the second one, in the same order.
fn is_part(list: Option<Vec<&str>>, of: Option<Vec<&str>>) -> bool {
    let mut of = of.unwrap_or_default().into_iter();
    list.unwrap_or_default().into_iter().all(|element| of.any(|other| other == element))
}

impl<'a> Version<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let Self { owners, finalizers, metadata, rest } = self;
        reader.object(&mut |reader, key| match key {
            "metadata" => once(reader, metadata, |metadata, reader| {
                reader.object(&mut |reader, key| match key {
                    "ownerReferences" => once(reader, owners, elements),
                    "finalizers" => once(reader, finalizers, elements),
                    "resourceVersion" | "managedFields" => reader.pass(),
                    _ => write(metadata, key, reader),
                })
            }),
            _ => write(rest, key, reader),
        })
    }
}

/// Writes the next value under its key.
fn write(text: &mut String, key: &str, reader: &mut Reader<'_>) -> Read<()> {
    write_text(text, key);
    text.push(':');
    text.push_str(reader.raw()?.get());
    text.push(',');
    Ok(())
}

/// Reads the elements of a list.
fn elements<'a>(elements: &mut Vec<&'a str>, reader: &mut Reader<'a>) -> Read<()> {
    reader.list(&mut |reader, index| {
        if index >= COMPARED {
            return Err(Stopped);
        }
        elements.push(reader.raw()?.get());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn compared(new: &Value, old: &Value) -> bool {
        let [new, old] = [new, old].map(Value::to_string);
        let raw = |text| Reader::whole(text, Reader::raw).unwrap();
        only_loses_owners(raw(&new), raw(&old))
    }

    fn owner(uid: &str) -> Value {
        json!({ "apiVersion": "apps.kruise.io/v1", "kind": "CloneSet", "name": "db", "uid": uid })
    }

    fn object() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": { "spec": [ 7 ] },
            "metadata": { "name": "db-1", "uid": "u", "resourceVersion": "1", "labels": { "app": "db" },
                "finalizers": [ "a", "b" ], "ownerReferences": [ owner("1"), owner("2"), owner("3") ] },
        })
    }

    #[test]
    fn owners_and_finalizers_may_go() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 7] = [
            ("an owner", |new| new["metadata"]["ownerReferences"] = json!([owner("1"), owner("3")])),
            ("all owners", |new| new["metadata"]["ownerReferences"] = json!([])),
            ("the list of owners", |new| {
                drop(new["metadata"].as_object_mut().unwrap().remove("ownerReferences"))
            }),
            ("a finalizer", |new| new["metadata"]["finalizers"] = json!(["b"])),
            ("the version", |new| new["metadata"]["resourceVersion"] = json!("2")),
            ("the managed fields", |new| new["metadata"]["managedFields"] = json!([{ "manager": "x" }])),
            ("nothing", |_| ()),
        ];
        for (what, change) in changes {
            let mut new = object();
            change(&mut new);
            assert!(compared(&new, &object()), "{what}");
        }
    }

    #[test]
    fn nothing_else_may_change() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 10] = [
            ("data", |new| new["data"]["spec"] = json!([8])),
            ("another field", |new| new["revision"] = json!(2)),
            ("a new field", |new| new["immutable"] = json!(true)),
            ("a label", |new| new["metadata"]["labels"]["app"] = json!("web")),
            ("a new annotation", |new| new["metadata"]["annotations"] = json!({ "a": "b" })),
            ("a new owner", |new| new["metadata"]["ownerReferences"] = json!([owner("4")])),
            ("an owner twice", |new| new["metadata"]["ownerReferences"] = json!([owner("1"), owner("1")])),
            ("a changed owner", |new| new["metadata"]["ownerReferences"][0]["controller"] = json!(true)),
            ("a new finalizer", |new| new["metadata"]["finalizers"] = json!(["c"])),
            ("no metadata", |new| drop(new.as_object_mut().unwrap().remove("metadata"))),
        ];
        for (what, change) in changes {
            let mut new = object();
            change(&mut new);
            assert!(!compared(&new, &object()), "{what}");
        }
    }

    #[test]
    fn what_is_not_an_object_as_the_api_server_writes_it_is_not_compared() {
        let many = |count| {
            let mut object = object();
            object["metadata"]["finalizers"] = json!(vec!["a"; count]);
            object
        };
        assert!(
            compared(&many(COMPARED), &many(COMPARED)) && !compared(&many(COMPARED + 1), &many(COMPARED + 1))
        );
        for text in
            ["", "null", "[]", "{", r#"{"metadata":{},"metadata":{}}"#, r#"{"metadata":{"finalizers":{}}}"#]
        {
            let Ok(raw) = Reader::whole(text, Reader::raw) else { continue };
            assert!(!only_loses_owners(raw, raw), "{text}");
        }
        assert!(!only_loses_owners(Raw::default(), Raw::default()), "a review that was cut");
    }
}
