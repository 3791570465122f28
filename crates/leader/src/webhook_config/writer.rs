//! Writes of webhook configurations. The wanted document is applied, a closed entry is opened by a forced apply, and an
//! entry is removed by a JSON patch of one version. Leaving an entry out of an apply would not remove it if another
//! manager owned it too.

use hyper::Request;
use hyper::header::CONTENT_TYPE;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Serialize;
use tracing::{info, warn};

use crate::call::{CallError, call};
use crate::webhook_config::documents::{Configuration, Wanted};
use crate::webhook_config::entries::{opening, removal};
use tagpin_kube::item::Whole;

/// Field manager of the wanted document.
const MANAGER: &str = "tagpin-webhooks";
/// Field manager of opened failure policies. An apply under [`MANAGER`] would give up every field that it leaves out.
const OPENER: &str = "tagpin-disarm";
/// Maximum number of attempts at a removal in one pass, each on the newest version.
const ATTEMPTS: u32 = 3;
/// Status codes of a write of a version that is not the newest: a conflict, or a `test` that failed.
const OUTDATED: [u16; 2] = [409, 422];

/// Brings this configuration to the wanted state. Returns true if something was written.
pub(crate) async fn bring<K: Configuration>(
    client: &Client,
    live: &K,
    wanted: &Wanted,
) -> Result<bool, CallError> {
    if live.matches(wanted) {
        return Ok(false);
    }
    let brought = match without_surplus(client, live, wanted).await {
        Ok(Some(left)) if !left.matches(wanted) => {
            let document = K::document(wanted, left.meta().uid.clone());
            apply::<K>(client, MANAGER, &document).await.map(drop)
        }
        outcome => outcome.map(drop),
    };
    log::<K, _>("wrote the webhook configuration", &brought);
    brought.map(|()| true)
}

/// Opens every closed entry of tagpin in this configuration. Returns true if something was written.
pub(crate) async fn open<K: Configuration>(client: &Client, live: &K) -> Result<bool, CallError> {
    let Some(document) = opening(live, None) else { return Ok(false) };
    let opened = apply::<K>(client, OPENER, &document).await;
    log::<K, _>("opened the webhook configuration", &opened);
    opened.map(|_| true)
}

/// Opens and removes the entries of tagpin that are not wanted. Returns the configuration that the API server
/// then holds; none if it was deleted.
async fn without_surplus<K: Configuration>(
    client: &Client,
    live: &K,
    wanted: &Wanted,
) -> Result<Option<K>, CallError> {
    let document = K::document(wanted, live.meta().uid.clone());
    let mut live = live.clone();
    let mut attempts = 0;
    loop {
        if let Some(opening) = opening(&live, Some(&document)) {
            live = apply(client, OPENER, &opening).await?;
        }
        let Some(patch) = removal(&live, &document) else { return Ok(Some(live)) };
        attempts += 1;
        let query = format!("fieldManager={MANAGER}");
        match send(client, &query, "application/json-patch+json", patch.to_string().into_bytes()).await {
            Ok(left) => return Ok(Some(left)),
            Err(error)
                if attempts < ATTEMPTS && error.code().is_some_and(|code| OUTDATED.contains(&code)) =>
            {
                match read(client).await? {
                    Some(newer) => live = newer,
                    None => return Ok(None),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Applies this document by force.
async fn apply<K: Configuration>(
    client: &Client,
    manager: &str,
    document: &impl Serialize,
) -> Result<K, CallError> {
    let document = serde_json::to_vec(document).map_err(kube::Error::SerdeError)?;
    send(client, &format!("fieldManager={manager}&force=true"), "application/apply-patch+yaml", document)
        .await
}

/// Sends a patch. Returns the resulting configuration without its managed fields, because one of them that
/// cannot be read must not keep an entry closed.
async fn send<K: Configuration>(
    client: &Client,
    query: &str,
    content_type: &str,
    patch: Vec<u8>,
) -> Result<K, CallError> {
    let url = format!("{}/{}?{query}", K::url_path(&(), None), K::NAME);
    let request = Request::patch(url).header(CONTENT_TYPE, content_type);
    let request = request.body(patch).map_err(kube::core::request::Error::BuildRequest);
    let Whole(made) = call(client.request(request.map_err(kube::Error::BuildRequest)?)).await?;
    Ok(made)
}

/// Reads the configuration by a list, because there is no right to get it.
async fn read<K: Configuration>(client: &Client) -> Result<Option<K>, CallError> {
    let params = ListParams::default().fields(&format!("metadata.name={}", K::NAME));
    let found = call(Api::<Whole<K>>::all(client.clone()).list(&params)).await?;
    Ok(found.items.into_iter().next().map(|Whole(live)| live))
}

fn log<K: Configuration, T>(done: &'static str, outcome: &Result<T, CallError>) {
    match outcome {
        Ok(_) => info!(configuration = K::NAME, "{done}"),
        Err(error) => {
            warn!(configuration = K::NAME, %error, "cannot write the webhook configuration");
        }
    }
}
