//! An API server over HTTP for commands that run as processes: it returns the objects that it was given, by path.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An API server; it stops when it is dropped.
pub(crate) struct ApiServer {
    address: SocketAddr,
    objects: Arc<Mutex<Vec<(String, Value)>>>,
    _task: JoinSet<()>,
}

impl ApiServer {
    /// Starts a server with these objects; every other path is not found.
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

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the objects.
    pub(crate) fn replace(&self, objects: Vec<(String, Value)>) {
        *self.objects.lock().unwrap() = objects;
    }

    /// Writes a kubeconfig for this server into this folder, and returns its path.
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
