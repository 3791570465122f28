//! A real Prometheus scrapes the replicas and the API server, and every panel of the dashboard shows data.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::manifests::{deployment, pod};
use crate::support::replicas::none_is_leaving;
use crate::support::{Answer, LIMIT, Namespace, kubectl, rig, undisturbed, wait_for};

const ADDRESS: &str = "127.0.0.1:19090";

/// A Prometheus with its data in a temporary folder; it is killed when this is dropped.
struct Prometheus {
    process: Child,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these addresses every second.
    fn start(replicas: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig =
            kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]).succeeded();
        let kubeconfig: Value = serde_json::from_str(&kubeconfig).unwrap();
        let file = |name: &str, base64: &Value| {
            use base64::Engine as _;
            let content = base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap()).unwrap();
            fs::write(folder.path().join(name), content).unwrap();
            name.to_owned()
        };
        let (cluster, user) = (&kubeconfig["clusters"][0]["cluster"], &kubeconfig["users"][0]["user"]);
        let server = cluster["server"].as_str().unwrap().strip_prefix("https://").unwrap();
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "scrape_configs": [
                { "job_name": "tagpin", "static_configs": [{ "targets": replicas }] },
                {
                    "job_name": "apiserver",
                    "scheme": "https",
                    "static_configs": [{ "targets": [server] }],
                    "tls_config": {
                        "ca_file": file("ca.crt", &cluster["certificate-authority-data"]),
                        "cert_file": file("client.crt", &user["client-certificate-data"]),
                        "key_file": file("client.key", &user["client-key-data"]),
                    },
                },
            ],
        });
        // The file may be JSON, because JSON is YAML.
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, configuration.to_string()).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// Returns the series of this query; none while Prometheus does not answer.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let client = Command::new("promtool")
            .args(["query", "instant", "--format=json", &format!("http://{ADDRESS}"), query])
            .output()
            .unwrap();
        let answer = serde_json::from_slice::<Value>(&client.stdout).ok()?;
        answer.as_array().cloned()
    }

    /// Returns true if this query gives a number that a panel can draw.
    fn shows(&self, query: &str) -> bool {
        self.query(query).unwrap_or_default().iter().any(|series| series["value"][1] != "NaN")
    }

    /// Returns the number of reviews that all replicas together have answered.
    fn reviews(&self) -> Option<String> {
        let series = self.query("sum(tagpin_admission_requests_total)")?;
        Some(series.first()?["value"][1].as_str()?.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("--- the last lines of prometheus, newest first ---\n{}", end.join("\n"));
        }
    }
}

/// Returns the panels' titles and queries, over a period that covers the requests of the test.
fn queries() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tagpin/dashboards/tagpin.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.into_iter().map(|target| {
                let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "2m");
                (panel["title"].as_str().unwrap().to_owned(), query)
            })
        })
        .collect()
}

/// Creates pods and Deployments that are pinned, refused, and looked up at the registry.
fn admissions(namespace: &Namespace, round: &str) {
    let one = |number: u32| {
        let number = format!("{round}-{number}");
        namespace.apply(&pod(&format!("web-{number}"), "web:1.4.2")).succeeded();
        namespace.apply(&deployment(&format!("app-{number}"), "web:1.4.2", 1)).succeeded();
        namespace.apply(&pod(&format!("bad-{number}"), "web:latest")).refused_with("TagForbidden");
        // These tags are not cached, so the registry is asked.
        namespace
            .apply(&pod(&format!("none-{number}"), &format!("web:none-{number}")))
            .refused_with("TagNotFound");
    };
    (0..3).for_each(one);
}

#[test]
fn a_prometheus_that_scrapes_the_replicas_can_draw_every_panel() {
    if rig::here("starts Prometheus where the pods can be reached").is_none() {
        return;
    }
    let _cluster = undisturbed();
    none_is_leaving();
    let ready = "jsonpath={range .items[*]}{.status.podIP}:8080 {end}";
    let Answer { out, .. } = kubectl(&["-n", "tagpin-system", "get", "pods", "-o", ready]);
    let replicas: Vec<String> = out.split_whitespace().map(str::to_owned).collect();
    assert!(replicas.len() >= 2, "{out}");
    let prometheus = Prometheus::start(&replicas);
    let namespace = Namespace::new("observed");
    // A rate needs an earlier sample.
    admissions(&namespace, "first");
    wait_for("a scrape of every target", LIMIT, || {
        let up = prometheus.query("up == 1")?;
        (up.len() == replicas.len() + 1).then_some(())
    });
    let before = wait_for("the counts of the first round", LIMIT, || prometheus.reviews());
    admissions(&namespace, "second");
    wait_for("the counts of the second round", LIMIT, || (prometheus.reviews()? != before).then_some(()));
    for (panel, query) in queries() {
        wait_for(&format!("data in `{panel}`: {query}"), Duration::from_secs(30), || {
            prometheus.shows(&query).then_some(())
        });
    }
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let names = prometheus.query(r#"count by (__name__) ({job="tagpin",__name__=~"tagpin_.*"})"#).unwrap();
    assert!(names.len() > 20, "{names:?}");
    for series in names {
        let name = series["metric"]["__name__"].as_str().unwrap();
        let name =
            ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(text.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
}
