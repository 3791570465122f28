//! The configuration of registries as the pods see it: it is read from the ConfigMaps and Secrets that the Deployment
//! mounts, and checked as `tagpin serve` checks it at start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret, Volume, VolumeMount};
use kube::{Api, Client};

use crate::cli::doctor::findings::{Answer, Configuration};
use crate::cli::doctor::question::ask;
use tagpin_registry::{Elsewhere, Registries};

/// Flag of `tagpin serve` that names the file.
const FLAG: &str = "--registries=";

/// Checks the configuration that this Deployment names.
pub(crate) async fn check(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
) -> Answer<Option<Configuration>> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.iter().flat_map(|pod| &pod.containers);
    let named = containers.into_iter().find_map(|container| {
        let file = container.args.iter().flatten().find_map(|arg| arg.strip_prefix(FLAG))?;
        Some((file.to_owned(), container.volume_mounts.as_deref().unwrap_or_default()))
    });
    let Some((file, mounts)) = named else { return Ok(None) };
    let volumes = pod.and_then(|pod| pod.volumes.as_deref()).unwrap_or_default();
    let mut volumes_seen = Volumes { client, namespace, files: Elsewhere::new(), unseen: Vec::new() };
    for mount in mounts {
        if let Some(volume) = volumes.iter().find(|volume| volume.name == mount.name) {
            volumes_seen.mount(mount, volume).await?;
        }
    }
    let checked = Registries::load_elsewhere(Path::new(&file), volumes_seen.files);
    let entries = checked.iter().flat_map(Registries::patterns).map(str::to_owned).collect();
    let checked = checked.map(|registries| registries.warnings().to_vec()).map_err(|error| error.to_string());
    Ok(Some(Configuration { checked, entries, unseen: volumes_seen.unseen }))
}

/// The files in the volumes of a pod.
struct Volumes<'a> {
    client: &'a Client,
    namespace: &'a str,
    files: Elsewhere,
    /// Mount paths of volumes that cannot be read from outside of the pod.
    unseen: Vec<String>,
}

impl Volumes<'_> {
    async fn mount(&mut self, mount: &VolumeMount, volume: &Volume) -> Answer<()> {
        let place = Path::new(&mount.mount_path);
        if let Some(source) = &volume.config_map {
            let content = self.config_map(&source.name).await?;
            self.put(place, content, source.items.as_deref());
        } else if let Some(source) = &volume.secret {
            let content = self.secret(source.secret_name.as_deref().unwrap_or_default()).await?;
            self.put(place, content, source.items.as_deref());
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                if let Some(source) = &source.config_map {
                    let content = self.config_map(&source.name).await?;
                    self.put(place, content, source.items.as_deref());
                } else if let Some(source) = &source.secret {
                    let content = self.secret(&source.name).await?;
                    self.put(place, content, source.items.as_deref());
                }
            }
        } else {
            self.unseen.push(mount.mount_path.clone());
        }
        Ok(())
    }

    /// Returns the content of a ConfigMap. A ConfigMap that does not exist counts as empty, so that its files are
    /// missing.
    async fn config_map(&self, name: &str) -> Answer<BTreeMap<String, Vec<u8>>> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace);
        let found = ask(&format!("get the ConfigMap {name}"), api.get_opt(name)).await?.unwrap_or_default();
        let texts = found.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
        let bytes = found.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
        Ok(texts.chain(bytes).collect())
    }

    async fn secret(&self, name: &str) -> Answer<BTreeMap<String, Vec<u8>>> {
        let api = Api::<Secret>::namespaced(self.client.clone(), self.namespace);
        let found = ask(&format!("get the Secret {name}"), api.get_opt(name)).await?.unwrap_or_default();
        Ok(found.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect())
    }

    /// Adds a file for every key. With `items`, adds files for the keys that they name, at the paths that they give.
    fn put(&mut self, place: &Path, mut content: BTreeMap<String, Vec<u8>>, items: Option<&[KeyToPath]>) {
        match items {
            None => self.files.extend(content.into_iter().map(|(key, bytes)| (place.join(key), bytes))),
            Some(items) => {
                let at = |item: &KeyToPath| Some((PathBuf::from(&item.path), content.remove(&item.key)?));
                let files: Vec<_> = items.iter().filter_map(at).collect();
                self.files.extend(files.into_iter().map(|(path, bytes)| (place.join(path), bytes)));
            }
        }
    }
}
