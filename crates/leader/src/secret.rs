//! Writes a Secret of the release. The Deployment owns it, so that it is deleted with the Deployment.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::call::{CallError, call};
use crate::owner;
use tagpin_objects::release;

/// A Secret to write.
pub(crate) struct Document<'a> {
    pub(crate) name: &'a str,
    /// The type of a new Secret: `kubernetes.io/tls`, or `Opaque`.
    pub(crate) kind: &'a str,
    pub(crate) data: BTreeMap<String, ByteString>,
}

/// Replaces the Secret that was seen, or creates one. Returns false without writing if the Deployment does
/// not exist any more.
pub(crate) async fn write(
    client: &Client,
    namespace: &str,
    seen: Option<&Secret>,
    document: Document<'_>,
) -> Result<bool, CallError> {
    let Some(owner) = owner::deployment(client, namespace).await? else { return Ok(false) };
    let owners = Some(vec![owner]);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Document { name, kind, data } = document;
    match seen {
        // The write carries the version that was seen, so that it fails if somebody else wrote first.
        Some(seen) => {
            let mut secret = seen.clone();
            secret.data = Some(data);
            secret.metadata.owner_references = owners;
            call(secrets.replace(name, &PostParams::default(), &secret)).await?;
        }
        None => {
            let labels = [release::APPLICATION_LABEL, release::MANAGER_LABEL];
            let labels = labels.map(|label| (label.to_owned(), release::NAME.to_owned()));
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.into()),
                owner_references: owners,
                ..ObjectMeta::default()
            };
            let secret =
                Secret { metadata, type_: Some(kind.to_owned()), data: Some(data), ..Secret::default() };
            call(secrets.create(&PostParams::default(), &secret)).await?;
        }
    }
    Ok(true)
}
