//! The commands of README.md as they are written there, each with the place that runs it.

/// The place where the commands of a block are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Without a cluster, in `xtask/tests/readme.rs`.
    Offline,
    /// On a rig, in `tests/cluster/readme.rs`.
    Rig,
    /// On a rig; without one as far as it needs no cluster.
    Both,
    /// In no test, for this reason.
    Nowhere(&'static str),
}

/// Each block with commands, by the words that it starts with.
const PLACES: &[(&str, Place)] = &[
    ("$ kubectl create deployment web --image=web:latest", Place::Rig),
    (
        "make demo",
        Place::Nowhere(
            "it starts a cluster, and a second rig does not fit into a rig; `make test` runs this",
        ),
    ),
    (
        "make image",
        Place::Nowhere("it takes ten minutes; the same image from the profile of the tests is pushed below"),
    ),
    ("skopeo copy", Place::Both),
    ("install target/image", Place::Offline),
    ("apiVersion: tagpin.dev/v1alpha1", Place::Rig),
    ("kubectl --namespace tagpin-system exec", Place::Rig),
    ("$ tagpin doctor", Place::Nowhere("it shows a broken installation; tests/cluster/doctor.rs breaks one")),
    ("kubectl label namespace shop tagpin.dev/fail-closed=true", Place::Rig),
    ("kubectl label namespace shop tagpin.dev/break-glass=true", Place::Rig),
    (
        "apiVersion: apiserver.config.k8s.io/v1",
        Place::Nowhere("it is a file of the API server; tests/it/tls.rs shows the certificate"),
    ),
    (
        "apiVersion: v1\nkind: Config",
        Place::Nowhere("it is a file of the API server; tests/it/tls.rs shows the certificate"),
    ),
    ("kubectl delete validatingwebhookconfiguration", Place::Rig),
    ("helm uninstall", Place::Rig),
    ("kubectl delete crd", Place::Rig),
    ("source <(tagpin completions bash)", Place::Offline),
];

/// A fenced block of README.md.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The name of the block in the table.
    pub(crate) key: &'static str,
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Block {
    /// The block's text with these words replaced; each must be there.
    #[track_caller]
    pub(crate) fn with(&self, substitutions: &[(&str, &str)]) -> String {
        substitutions.iter().fold(self.text.clone(), |text, (written, here)| {
            assert!(text.contains(written), "README.md does not say {written:?} any more:\n{text}");
            text.replace(written, here)
        })
    }
}

/// The blocks of the README.md in this folder, in their order.
///
/// # Panics
///
/// When a block is not in the table, or a row of the table is no block.
#[track_caller]
pub(crate) fn all(root: &str) -> Vec<Block> {
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let mut blocks = Vec::new();
    // What is between two fences is every second part; its first line names the language.
    for part in readme.split("\n```").skip(1).step_by(2) {
        let (language, text) = part.split_once('\n').unwrap();
        let commands = match language {
            "sh" | "yaml" => true,
            // A dialogue holds what is typed behind a prompt.
            "text" => text.starts_with("$ "),
            other => panic!("README.md has a block of {other:?}"),
        };
        if commands {
            let mut rows = PLACES.iter().filter(|(key, _)| text.starts_with(key));
            let row = rows.next();
            let &(key, place) =
                row.unwrap_or_else(|| panic!("say in tests/readme where this is run:\n{text}"));
            assert!(rows.next().is_none(), "two rows of the table are about {key}");
            blocks.push(Block { key, place, text: format!("{text}\n") });
        }
    }
    let keys: Vec<&str> = blocks.iter().map(|block| block.key).collect();
    let table: Vec<&str> = PLACES.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, table, "the blocks of README.md, and the rows of the table in tests/readme");
    blocks
}
