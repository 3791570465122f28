//! Tags in the rig's registries. They are pushed as anyone pushes, but read and deleted in the registry's files,
//! because the distribution API cannot delete a tag and leave its manifest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::entry::inside;
use super::images;
use super::registries::Registry;
use super::state::State;
use crate::command;

/// A tag in one of the rig's registries: `host/repository:tag`.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    registry: Registry,
    repository: String,
    tag: String,
}

impl std::str::FromStr for Tag {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let hosts = Registry::ALL.map(Registry::host);
        let parsed = Registry::ALL.into_iter().find_map(|registry| {
            let (repository, tag) =
                text.strip_prefix(registry.host())?.strip_prefix('/')?.rsplit_once(':')?;
            Some(Self { registry, repository: repository.to_owned(), tag: tag.to_owned() })
        });
        let tag = parsed.with_context(|| {
            format!("`{text}` is not HOST/REPOSITORY:TAG with HOST one of {}", hosts.join(", "))
        })?;
        // The parts become names of folders below.
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.starts_with('_');
        if !tag.repository.split('/').all(plain) || !plain(&tag.tag) || tag.tag.contains('/') {
            bail!("`{text}` is not a reference that a registry takes");
        }
        Ok(tag)
    }
}

impl Tag {
    /// Returns the digest that the tag leads to, if the tag exists.
    pub(crate) fn digest(&self, state: &State) -> Option<String> {
        let link = fs::read_to_string(self.folder(state).join("current/link")).ok()?;
        Some(link.trim().to_owned())
    }

    /// Makes the tag lead to the image of an OCI layout.
    pub(crate) fn push(&self, state: &State, layout: &Path) -> Result<()> {
        let mut words = vec!["skopeo".to_owned(), "--insecure-policy".to_owned()];
        words.extend(["copy", "--quiet", "--all", "--preserve-digests"].map(str::to_owned));
        let host = match self.registry {
            Registry::Mirror => {
                words.push("--dest-tls-verify=false".to_owned());
                self.registry.address().to_string()
            }
            Registry::Private => {
                let read = |file: &str| fs::read_to_string(state.private_registry(file));
                words.push(format!("--dest-creds={}:{}", read("username")?, read("password")?));
                words.push(format!("--dest-cert-dir={}", state.private_registry("").display()));
                self.registry.host().to_owned()
            }
        };
        words.push(format!("oci:{}:image", layout.display()));
        words.push(format!("docker://{host}/{}:{}", self.repository, self.tag));
        command::output_of(&mut inside(state, &words)?).map(drop)
    }

    /// Deletes the tag; the manifest stays and can be pulled by its digest.
    pub(crate) fn delete(&self, state: &State) -> Result<()> {
        let folder = self.folder(state);
        fs::remove_dir_all(&folder).with_context(|| format!("no such tag ({})", folder.display()))
    }

    fn folder(&self, state: &State) -> PathBuf {
        let repositories = self.registry.data(state).join("docker/registry/v2/repositories");
        repositories.join(&self.repository).join("_manifests/tags").join(&self.tag)
    }
}

/// Pushes the test images whose tags are missing, with `reset` also those whose tags lead elsewhere. Returns the number
/// of pushed tags.
pub(crate) fn push_images(state: &State, reset: bool) -> Result<usize> {
    let mut due = Vec::new();
    for image in images::all() {
        let tags = image.references.iter().map(|text| text.parse()).collect::<Result<Vec<Tag>>>()?;
        if reset || tags.iter().any(|tag| tag.digest(state).is_none()) {
            due.push((image, tags));
        }
    }
    if due.is_empty() {
        return Ok(0);
    }
    let workshop = images::Workshop::open(state)?;
    let mut pushed = 0;
    for (image, tags) in due {
        let (layout, digest) = workshop.build(&image)?;
        for tag in tags {
            let now = tag.digest(state);
            if now.is_none() || reset && now.as_ref() != Some(&digest) {
                tag.push(state, &layout)?;
                pushed += 1;
            }
        }
    }
    Ok(pushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_a_registry_of_the_rig_a_repository_and_a_tag() {
        let tag: Tag = "private.registry.test/team/api:1.0.0".parse().unwrap();
        assert_eq!(
            (tag.registry, tag.repository.as_str(), tag.tag.as_str()),
            (Registry::Private, "team/api", "1.0.0")
        );
    }

    #[test]
    fn a_tag_never_leads_out_of_its_registrys_folder() {
        for text in [
            "web:1",
            "docker.io/web",
            "quay.io/a/web:1",
            "docker.io/../web:1",
            "docker.io/a//b:1",
            "docker.io/web:../1",
            "docker.io/web:",
            "docker.io/_manifests:1",
        ] {
            assert!(text.parse::<Tag>().is_err(), "{text}");
        }
    }
}
