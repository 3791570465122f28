//! tagpin as a process: `tagpin serve` with an API server of fixed lists, the chart's baseline, and a registry on this
//! machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tagpin_domain::policy::Mode;
use tagpin_kube::store::Store;
use tagpin_leader::baseline::Baseline;
use tagpin_testing::path;
use tempfile::TempDir;

use crate::hanging::{Loopback, Manner};
use crate::serving::{Serving, Start};

/// The time at which a key for marks was made, and the key.
const KEY: (&str, &str) = ("1700000000", "0123456789abcdef0123456789abcdef");

/// A replica that is ready, and its registry.
pub(crate) struct Replica {
    pub(crate) serving: Serving,
    pub(crate) registry: Loopback,
    _configuration: TempDir,
}

impl Replica {
    /// Starts this binary. The binary and its arguments are added to this command.
    pub(crate) async fn start(mut command: Command, binary: &Path) -> Self {
        let registry = Loopback::start(Manner::Answers).await;
        let configuration = TempDir::new().unwrap();
        let file = configuration.path().join("registries.yaml");
        let entries = ["registry.example.com", "docker.io"].map(|host| {
            json!({
                "match": host,
                "allowPrivate": true,
                "resolveFrom": "mirrors-only",
                "mirrors": [{ "url": format!("http://{}", registry.address) }],
            })
        });
        fs::write(&file, json!({ "registries": entries }).to_string()).unwrap();

        let baseline = Baseline {
            mode: Mode::Enforce,
            pin: true,
            namespace_selector: Default::default(),
            exceptions: vec![],
        };
        let mut policy = baseline.document();
        policy["metadata"]["uid"] = "baseline".into();
        policy["metadata"]["generation"] = 1.into();
        policy["metadata"]["resourceVersion"] = "1".into();
        let namespace = json!({ "metadata": { "name": "shop", "uid": "shop", "resourceVersion": "1" } });
        let account = json!({
            "metadata": { "name": "checkout", "namespace": "shop", "uid": "checkout", "resourceVersion": "1" },
        });
        let lists = [
            (path(Store::ClusterImagePolicies), vec![policy]),
            (path(Store::Namespaces), vec![namespace]),
            (path(Store::ServiceAccounts), vec![account]),
        ];
        let arguments = [format!("--registries={}", file.display())];
        let start = Start { lists: &lists, entries: &[KEY], arguments: &arguments, ..Start::default() };
        command.arg(binary);
        let serving = Serving::run(command, start, "info").await;
        serving.readiness_is("ok").await;
        Self { serving, registry, _configuration: configuration }
    }
}
