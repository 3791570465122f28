//! Decides whether a webhook configuration may be filled. A configuration that comes back after break glass has a new
//! UID. It stays empty until somebody installs another release or rearms it, because a tool that restores deleted
//! objects would otherwise undo break glass. It makes no calls.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use tagpin_kube::Observed;

/// Annotation of the Lease with [`Filled`].
const FILLED: &str = "tagpin.dev/filled";
/// Annotation of the Lease with the UID of a configuration that may be filled.
const REARM: &str = "tagpin.dev/rearm";
/// Annotation of the Deployment that differs between releases: a hash of the chart's version, values and revision.
const RELEASE: &str = "tagpin.dev/release";

/// The configurations that were filled last, and the release that they were filled for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filled {
    mutating: String,
    validating: String,
    #[serde(flatten)]
    release: Release,
}

/// A release of tagpin. An upgrade and a new installation make another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    /// UID of the Deployment.
    deployment: String,
    release: String,
}

/// The UIDs of the configurations that exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uids<'a> {
    pub(crate) mutating: Option<&'a str>,
    pub(crate) validating: Option<&'a str>,
}

/// The configurations that came back after break glass and have to stay empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) mutating: bool,
    pub(crate) validating: bool,
}

impl Release {
    /// Returns the release that this Deployment belongs to.
    pub(crate) fn of(deployment: &Observed<Deployment>) -> Self {
        let Observed::Present(live) = deployment else { return Self::default() };
        Self {
            deployment: live.metadata.uid.clone().unwrap_or_default(),
            release: live.annotations().get(RELEASE).cloned().unwrap_or_default(),
        }
    }
}

impl Filled {
    /// Reads the annotations of the Lease; none if they do not say, and then everything may be filled.
    pub(crate) fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(FILLED)?).ok()
    }

    /// Returns the memory after both configurations were filled; none if one of them does not exist.
    pub(crate) fn after(live: Uids<'_>, release: Release) -> Option<Self> {
        Some(Self { mutating: live.mutating?.to_owned(), validating: live.validating?.to_owned(), release })
    }

    /// Adds this memory to the annotations of the Lease.
    pub(crate) fn write(&self, annotations: &mut BTreeMap<String, String>) {
        if let Ok(text) = serde_json::to_string(self) {
            annotations.insert(FILLED.to_owned(), text);
        }
    }
}

impl Broken {
    /// Returns the configurations that are not the remembered ones, although the release is.
    pub(crate) fn among(
        live: Uids<'_>,
        remembered: Option<&Filled>,
        release: &Release,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let Some(filled) = remembered.filter(|filled| filled.release == *release) else {
            return Self::default();
        };
        let is_new = |uid: Option<&str>, before: &str| uid.is_some_and(|uid| uid != before);
        let broken = Self {
            mutating: is_new(live.mutating, &filled.mutating),
            validating: is_new(live.validating, &filled.validating),
        };
        let rearmed = annotations.get(REARM).map(String::as_str);
        if rearmed.is_some() && rearmed == broken.uid(live) { Self::default() } else { broken }
    }

    /// Returns true if a configuration has to stay empty.
    pub(crate) const fn any(&self) -> bool {
        self.mutating || self.validating
    }

    /// Returns the command after which these configurations are filled again.
    pub(crate) fn rearming(&self, live: Uids<'_>, namespace: &str) -> String {
        let uid = self.uid(live).unwrap_or_default();
        format!("kubectl -n {namespace} annotate lease tagpin --overwrite {REARM}={uid}")
    }

    /// Returns the UID that stands for all configurations that came back.
    fn uid<'a>(&self, live: Uids<'a>) -> Option<&'a str> {
        if self.validating { live.validating } else { live.mutating.filter(|_| self.mutating) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(deployment: &str, release: &str) -> Release {
        Release { deployment: deployment.to_owned(), release: release.to_owned() }
    }

    fn uids<'a>(mutating: &'a str, validating: &'a str) -> Uids<'a> {
        let some = |uid: &'a str| Some(uid).filter(|uid| !uid.is_empty());
        Uids { mutating: some(mutating), validating: some(validating) }
    }

    #[test]
    fn only_what_came_back_with_the_same_release_stays_empty() {
        let filled = Filled::after(uids("m", "v"), release("d", "r")).unwrap();
        for (live, now, rearm, broken) in [
            (uids("m", "v"), release("d", "r"), "", (false, false)),
            (uids("m2", "v2"), release("d", "r"), "", (true, true)),
            (uids("m", "v2"), release("d", "r"), "", (false, true)),
            (uids("m2", ""), release("d", "r"), "", (true, false)),
            (uids("", ""), release("d", "r"), "", (false, false)),
            (uids("m2", "v2"), release("d", "r2"), "", (false, false)),
            (uids("m2", "v2"), release("d2", "r"), "", (false, false)),
            (uids("m2", "v2"), release("d", "r"), "v2", (false, false)),
            (uids("m2", "v"), release("d", "r"), "m2", (false, false)),
            (uids("m2", "v2"), release("d", "r"), "v", (true, true)),
            (uids("m2", "v2"), release("d", "r"), "true", (true, true)),
        ] {
            let annotations = BTreeMap::from([(REARM.to_owned(), rearm.to_owned())]);
            let found = Broken::among(live, Some(&filled), &now, &annotations);
            assert_eq!((found.mutating, found.validating), broken, "{live:?} {now:?} {rearm}");
            // Without a memory everything is filled.
            assert!(!Broken::among(live, None, &now, &annotations).any(), "{live:?}");
        }
    }

    #[test]
    fn the_memory_survives_in_the_annotations() {
        let filled = Filled::after(uids("m", "v"), release("d", "r")).unwrap();
        let mut annotations = BTreeMap::new();
        filled.write(&mut annotations);
        let text = r#"{"mutating":"m","validating":"v","deployment":"d","release":"r"}"#;
        assert_eq!(annotations.get(FILLED).map(String::as_str), Some(text));
        assert_eq!(Filled::read(&annotations), Some(filled));
        annotations.insert(FILLED.to_owned(), "{".to_owned());
        assert_eq!(Filled::read(&annotations), None);
        assert_eq!(Filled::after(uids("m", ""), release("d", "r")), None);
    }

    #[test]
    fn the_command_names_the_configuration() {
        let broken = Broken { mutating: true, validating: true };
        let command = "kubectl -n tagpin-system annotate lease tagpin --overwrite tagpin.dev/rearm=v2";
        assert_eq!(broken.rearming(uids("m2", "v2"), "tagpin-system"), command);
    }
}
