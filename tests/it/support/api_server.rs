//! An API server over HTTP for commands that run as processes: it gives what it was given, by path.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// It ends when this goes.
pub(crate) struct ApiServer {
    address: SocketAddr,
    objects: Arc<Mutex<Vec<(String, Value)>>>,
    _task: JoinSet<()>,
}

impl ApiServer {
    /// One with these objects; what else it is asked for is not there.
    pub(crate) async fn start(objects: Vec<(String, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Arc::new(Mutex::new(objects));
        let given = Arc::clone(&objects);
        let answer = move |uri: Uri| {
            let given = given.lock().unwrap();
            let found = given.iter().find(|(path, _)| path == uri.path());
            let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound" });
            let answer = match found {
                Some((_, object)) => (StatusCode::OK, object.to_string()),
                None => (StatusCode::NOT_FOUND, missing.to_string()),
            };
            std::future::ready(answer)
        };
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { address, objects, _task: task }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives these from now on.
    pub(crate) fn replace(&self, objects: Vec<(String, Value)>) {
        *self.objects.lock().unwrap() = objects;
    }

    /// A file in this folder by which it is found.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let file = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": self.url() } }],
            "users": [{ "name": "c", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
        });
        std::fs::write(&file, text.to_string()).unwrap();
        file
    }
}
