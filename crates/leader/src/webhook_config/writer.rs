//! Writes of webhook configurations. The wanted document is applied, a closed entry is opened by a forced apply, and an
//! entry is removed by a JSON patch of one version. Leaving an entry out of an apply would not remove it if another
//! manager owned it too.

use hyper::Request;
use hyper::header::CONTENT_TYPE;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::call::{CallError, call};
use crate::webhook_config::documents::{Configuration, Wanted};
use crate::webhook_config::entries::{opening, removal};
use tagpin_kube::item::Whole;

/// Field manager of the wanted document.
const MANAGER: &str = "tagpin-webhooks";
/// Field manager of opened failure policies. An apply under [`MANAGER`] would give up every field that it leaves out.
const OPENER: &str = "tagpin-disarm";
/// Maximum number of names of others in a message.
const NAMED: usize = 3;
/// Maximum number of characters of such a name.
const NAME_LIMIT: usize = 64;
/// Maximum number of attempts at a removal in one pass, each on the newest version.
const ATTEMPTS: u32 = 3;
/// Status codes of a write of a version that is not the newest: a conflict, or a `test` that failed.
const OUTDATED: [u16; 2] = [409, 422];

/// Brings this configuration to the wanted state. Returns the versions that the writes made; none if nothing was
/// written.
pub(crate) async fn bring<K: Configuration>(
    client: &Client,
    live: &K,
    wanted: &Wanted,
) -> Result<Vec<String>, CallError> {
    let mut made = Vec::new();
    if live.matches(wanted) {
        return Ok(made);
    }
    let brought = match without_surplus(client, live, &K::document(wanted, live), &mut made).await {
        Ok(Some(left)) if !left.matches(wanted) => {
            let document = K::document(wanted, &left);
            let applied = apply::<K>(client, MANAGER, &document).await;
            applied.map(|held| made.extend(held.meta().resource_version.clone()))
        }
        outcome => outcome.map(drop),
    };
    log::<K, _>("wrote the webhook configuration", &brought);
    // A configuration that was deleted meanwhile has no version.
    brought.map(|()| if made.is_empty() { vec![String::new()] } else { made })
}

/// Asks who changed this configuration last, apart from tagpin. Only the names are read.
pub(crate) async fn changed_by<K: Configuration>(client: &Client) -> Result<Vec<String>, CallError> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Object>,
    }
    #[derive(Deserialize)]
    struct Object {
        metadata: Managed,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Managed {
        #[serde(default)]
        managed_fields: Vec<Manager>,
    }
    #[derive(Deserialize)]
    struct Manager {
        #[serde(default)]
        manager: String,
        #[serde(default)]
        time: String,
    }
    let url = format!("{}?fieldSelector=metadata.name%3D{}", K::url_path(&(), None), K::NAME);
    let request = Request::get(url).body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
    let found: List = call(client.request(request.map_err(kube::Error::BuildRequest)?)).await?;
    let managers = found.items.into_iter().flat_map(|object| object.metadata.managed_fields);
    let others: Vec<_> = managers.filter(|by| ![MANAGER, OPENER].contains(&by.manager.as_str())).collect();
    // Times of one format are in the order of their text.
    let newest = others.iter().map(|by| by.time.clone()).max();
    let latest = others.into_iter().filter(|by| Some(&by.time) == newest.as_ref());
    let mut names: Vec<_> = latest.map(|by| shown(&by.manager)).collect();
    names.sort();
    names.dedup();
    names.truncate(NAMED);
    Ok(names)
}

/// Returns a name that somebody else chose, as one short word for a message.
fn shown(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(NAME_LIMIT).collect()
}

/// Opens every closed entry of tagpin in this configuration. Returns true if something was written.
pub(crate) async fn open<K: Configuration>(client: &Client, live: &K) -> Result<bool, CallError> {
    let Some(document) = opening(live, None) else { return Ok(false) };
    let opened = apply::<K>(client, OPENER, &document).await;
    log::<K, _>("opened the webhook configuration", &opened);
    opened.map(|_| true)
}

/// Opens and removes every entry of tagpin in this configuration.
pub(crate) async fn empty<K: Configuration + Default>(client: &Client, live: &K) -> Result<(), CallError> {
    let emptied = without_surplus(client, live, &K::default(), &mut Vec::new()).await;
    log::<K, _>("emptied the webhook configuration", &emptied);
    emptied.map(drop)
}

/// Opens and removes the entries of tagpin that are not in this document. Returns the configuration that the API
/// server then holds; none if it was deleted.
async fn without_surplus<K: Configuration>(
    client: &Client,
    live: &K,
    document: &K,
    made: &mut Vec<String>,
) -> Result<Option<K>, CallError> {
    let mut live = live.clone();
    let mut attempts = 0;
    loop {
        if let Some(opening) = opening(&live, Some(document)) {
            live = apply(client, OPENER, &opening).await?;
            made.extend(live.meta().resource_version.clone());
        }
        let Some(patch) = removal(&live, document) else { return Ok(Some(live)) };
        attempts += 1;
        let query = format!("fieldManager={MANAGER}");
        match send(client, &query, "application/json-patch+json", patch.to_string().into_bytes()).await {
            Ok(left) => {
                made.extend(K::meta(&left).resource_version.clone());
                return Ok(Some(left));
            }
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
pub(crate) async fn read<K: Configuration>(client: &Client) -> Result<Option<K>, CallError> {
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
