//! Reads files of the operator, and reports each mistake with its file, line and key. It knows no key of any file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_path_to_error::{Deserializer, Track};
use serde_saphyr::{Error as YamlError, Location, Spanned};

/// The reason why the configuration of registries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// A file contains a mistake.
    #[error("{0}")]
    Mistake(Mistake),
}

/// A mistake and its place.
#[derive(Debug)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1, if they are known.
    pub position: Option<(u64, u64)>,
    /// The key: `registries[0].tls.caFile`.
    pub key: String,
    /// The problem, and what to write instead.
    pub problem: String,
}

/// Maximum size of a file in bytes. The largest that people have are bundles of authorities, of 1 MiB at most.
const LIMIT: u64 = 4 * 1024 * 1024;

/// A text with its position.
pub(super) type Written = Spanned<String>;

impl Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        match self.key.as_str() {
            "" | "." => write!(f, " {}", self.problem),
            key => write!(f, " {key}: {}", self.problem),
        }
    }
}

/// Files of another machine, by their absolute paths.
pub type Elsewhere = BTreeMap<PathBuf, Vec<u8>>;

/// Reads files, and keeps a fingerprint of their names and content.
#[derive(Debug, Default)]
pub(super) struct Files {
    seen: RefCell<DefaultHasher>,
    /// The only files that exist, if they are not on this machine.
    elsewhere: Option<Elsewhere>,
}

impl Files {
    /// Creates a reader of these files, which reads none of this machine.
    pub(super) fn elsewhere(files: Elsewhere) -> Self {
        Self { elsewhere: Some(files), ..Self::default() }
    }

    /// Returns the content of a file: a regular one of at most [`LIMIT`] bytes.
    pub(super) fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let read = match &self.elsewhere {
            None => read_bounded(file),
            Some(files) => files.get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()),
        };
        let mut seen = self.seen.borrow_mut();
        file.hash(&mut *seen);
        read.as_ref().map_err(io::Error::kind).hash(&mut *seen);
        read
    }

    /// Returns the content of a file that the configuration needs.
    pub(super) fn read_named(&self, file: &Path) -> Result<Vec<u8>, ConfigError> {
        self.read(file).map_err(|cause| ConfigError::Read { file: file.to_owned(), cause })
    }

    /// Returns the entries of a folder, sorted by name.
    pub(super) fn folder(&self, folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        let list = || match &self.elsewhere {
            None => std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>(),
            Some(files) => {
                let inside = files.keys().filter_map(|file| file.strip_prefix(folder).ok()?.iter().next());
                let names: BTreeSet<_> = inside.collect();
                if names.is_empty() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                Ok(names.into_iter().map(|name| folder.join(name)).collect())
            }
        };
        let mut found = list().map_err(|cause| ConfigError::Read { file: folder.to_owned(), cause })?;
        found.sort();
        found.hash(&mut *self.seen.borrow_mut());
        Ok(found)
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        match &self.elsewhere {
            None => path.is_dir(),
            Some(files) => files.keys().any(|file| file != path && file.starts_with(path)),
        }
    }

    pub(super) fn has(&self, file: &Path) -> bool {
        self.elsewhere.as_ref().map_or_else(|| file.exists(), |files| files.contains_key(file))
    }

    /// Returns a number that is equal for equal files with equal content.
    pub(super) fn fingerprint(&self) -> u64 {
        self.seen.borrow().finish()
    }
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe waits for its writer, and reading a device may never end.
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(file)?.take(LIMIT + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= LIMIT) {
        return Ok(content);
    }
    Err(io::Error::other(format!("the file is larger than {} MiB", LIMIT / 1024 / 1024)))
}

/// Parses one YAML document of tagpin, in which a boolean is `true` or `false`; an empty document gives the default.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(file: &Path, bytes: &[u8]) -> Result<T, ConfigError> {
    parse_with(file, bytes, true)
}

/// Parses one YAML document of the nodes, which take `yes` and `on` for booleans too.
pub(super) fn parse_of_nodes<T: for<'de> Deserialize<'de>>(
    file: &Path,
    bytes: &[u8],
) -> Result<T, ConfigError> {
    parse_with(file, bytes, false)
}

fn parse_with<T: for<'de> Deserialize<'de>>(
    file: &Path,
    bytes: &[u8],
    strict_booleans: bool,
) -> Result<T, ConfigError> {
    let mut track = Track::new();
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: strict_booleans };
    let parsed = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |yaml| {
        T::deserialize(Deserializer::new(yaml, &mut track))
    });
    parsed.map_err(|error| {
        // The tracker sees a text with a position as a value inside a wrapper.
        let key = track.path().to_string().replace(".value", "").replace(".?", "");
        mistake(file, error.location(), key, problem(&error))
    })
}

/// Creates the error for a mistake at this place.
pub(super) fn mistake(
    file: &Path,
    location: Option<Location>,
    key: impl Into<String>,
    problem: impl Into<String>,
) -> ConfigError {
    let position = location.filter(|at| at.line() > 0).map(|at| (at.line(), at.column()));
    ConfigError::Mistake(Mistake {
        file: file.to_owned(),
        position,
        key: key.into(),
        problem: problem.into(),
    })
}

/// Creates the error for a mistake at this place of a text, counted in bytes.
pub(super) fn mistake_at(
    file: &Path,
    text: &str,
    span: Option<Range<usize>>,
    key: &str,
    problem: impl Into<String>,
) -> ConfigError {
    let position = span.and_then(|span| {
        let before = text.get(..span.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((u64::try_from(line).ok()?, u64::try_from(column).ok()?))
    });
    ConfigError::Mistake(Mistake {
        file: file.to_owned(),
        position,
        key: key.to_owned(),
        problem: problem.into(),
    })
}

/// Returns the path that a configuration file names, relative to the folder of that file.
pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn problem(error: &YamlError) -> String {
    match error.without_snippet() {
        YamlError::SerdeUnknownField { expected, .. } => {
            format!("unknown key; allowed here: {}", expected.join(", "))
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            format!("{variant:?} is not one of: {}", expected.join(", "))
        }
        YamlError::SerdeMissingField { field, .. } => format!("the key {field} is missing"),
        YamlError::DuplicateMappingKey { .. } => "this key is given twice".to_owned(),
        YamlError::MultipleDocuments { .. } => "the file has several YAML documents; write one".to_owned(),
        other => {
            let text = other.to_string();
            // The position is reported once, before the key.
            text.split_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned()
        }
    }
}
