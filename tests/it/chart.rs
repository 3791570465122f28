//! The Helm chart, rendered by Helm: the default objects, and the effect of every value.

mod matrix;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::{env, fs};

use serde_json::{Value, json};
use tagpin::settings::Baseline;
use tagpin_objects::rights::{RIGHTS, Scope};
use tagpin_registry::{Profiles, Registries};

use crate::parts::part;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tagpin");

/// Path of Helm: `TAGPIN_HELM`, or the Helm that the rig is built with.
static HELM: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(helm) = env::var_os("TAGPIN_HELM") {
        return helm.into();
    }
    part("helm").join("helm")
});

fn template(namespace: &str, values: &str) -> Output {
    let mut helm = Command::new(&*HELM)
        .args(["template", "tagpin", CHART, "--namespace", namespace, "--values", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    helm.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    helm.wait_with_output().unwrap()
}

/// Returns the objects of a release with these values and an image.repository, which has no default.
pub(crate) fn render(values: &str) -> Objects {
    let output =
        template("tagpin-system", &format!("image: {{repository: registry.example.com/tagpin}}\n{values}"));
    assert!(output.status.success(), "{values}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Objects(serde_saphyr::from_multiple(&text).unwrap())
}

/// Returns the error message with which Helm refuses these values.
fn refusal(namespace: &str, values: &str) -> String {
    let output = template(namespace, values);
    assert!(!output.status.success(), "{values} is accepted");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    /// Returns the value at `pointer` in the object `Kind/name` or `Kind/namespace/name`.
    fn at(&self, object: &str, pointer: &str) -> Option<&Value> {
        let mut words = object.split('/');
        let (kind, last) = (words.next().unwrap(), words.next_back().unwrap());
        let namespace = words.next();
        let found = self.0.iter().find(|o| {
            o["kind"] == kind
                && o["metadata"]["name"] == last
                && namespace.is_none_or(|namespace| o["metadata"]["namespace"] == namespace)
        });
        found.and_then(|object| object.pointer(pointer))
    }

    fn has(&self, object: &str) -> bool {
        self.at(object, "").is_some()
    }

    /// Returns true if the value at `pointer` is this one, or has it as an element or as a part of its text.
    fn shows(&self, object: &str, pointer: &str, wanted: &Value) -> bool {
        match (self.at(object, pointer), wanted) {
            (Some(Value::Array(elements)), Value::String(_)) => elements.contains(wanted),
            (Some(Value::String(text)), Value::String(part)) => text.contains(part),
            (found, _) => found == Some(wanted),
        }
    }
}

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";
const ARGS: &str = "/spec/template/spec/containers/0/args";
const DEPLOYMENT: &str = "Deployment/tagpin";
const RULES: &str = "PrometheusRule/tagpin";
const MONITOR: &str = "PodMonitor/tagpin";

/// A value of the chart, a setting of it, and the place where the rendered objects show the setting.
struct Effect {
    value: &'static str,
    set: &'static str,
    object: &'static str,
    at: String,
    shows: Value,
}

fn effect(
    value: &'static str,
    set: &'static str,
    object: &'static str,
    at: impl Into<String>,
    shows: impl Into<Value>,
) -> Effect {
    Effect { value, set, object, at: at.into(), shows: shows.into() }
}

/// Returns at least one effect for each value; [`every_value_has_an_effect`] checks this.
fn effects() -> Vec<Effect> {
    let arg = |value, set, arg: &str| effect(value, set, DEPLOYMENT, ARGS, arg);
    let pod =
        |value, set, at: &str, shows: Value| effect(value, set, DEPLOYMENT, format!("{POD}{at}"), shows);
    let container = |value, set, at: &str, shows: Value| {
        effect(value, set, DEPLOYMENT, format!("{CONTAINER}{at}"), shows)
    };
    let data = |value, set, key: &str, shows: &str| {
        effect(value, set, "ConfigMap/tagpin", format!("/data/{key}"), shows)
    };
    vec![
        effect("replicas", "replicas: 3", DEPLOYMENT, "/spec/replicas", 3),
        container("image.repository", "", "/image", json!("registry.example.com/tagpin:")),
        container("image.tag", "image: {repository: r, tag: v9}", "/image", json!("r:v9")),
        container("image.digest", DIGEST, "/image", json!("@sha256:aaaa")),
        container(
            "image.pullPolicy",
            "image: {repository: r, pullPolicy: Always}",
            "/imagePullPolicy",
            json!("Always"),
        ),
        pod(
            "image.pullSecrets",
            "image: {repository: r, pullSecrets: [p]}",
            "/imagePullSecrets",
            json!([{"name": "p"}]),
        ),
        data("baseline.enabled", "baseline: {enabled: false}", "baseline.yaml", "enabled: false"),
        data("baseline.mode", "baseline: {mode: Warn}", "baseline.yaml", "mode: Warn"),
        data("baseline.pin", "baseline: {pin: false}", "baseline.yaml", "pin: false"),
        data(
            "baseline.namespaceSelector",
            "baseline: {namespaceSelector: {matchLabels: {a: b}}}",
            "baseline.yaml",
            "matchLabels:\n    a: b",
        ),
        data(
            "baseline.exceptions",
            "baseline: {exceptions: [{name: runner, reason: it ends this week, users: [anna], expires: \"2027-01-31T00:00:00Z\"}]}",
            "baseline.yaml",
            "  users:\n  - anna",
        ),
        arg("excludedNamespaces", "excludedNamespaces: [a, b]", "--excluded-namespaces=a,b"),
        arg(
            "controllerIdentities",
            "controllerIdentities: [\"system:x\"]",
            "--controller-identities=system:x",
        ),
        arg("pullSecrets.mode", "pullSecrets: {mode: cluster}", "--pull-secrets=cluster"),
        arg("pullSecrets.namespaces", SHOP, "--pull-secret-namespaces=shop"),
        effect(
            "pullSecrets.namespaces",
            SHOP,
            "Role/shop/tagpin-pull-secrets",
            "/rules/0/verbs",
            json!(["get"]),
        ),
        effect(
            "pullSecrets.namespaces",
            SHOP,
            "RoleBinding/shop/tagpin-pull-secrets",
            "/roleRef/name",
            "tagpin-pull-secrets",
        ),
        data("registries", "registries: [{match: a.example}]", "registries.yaml", "match: a.example"),
        effect(
            "registries",
            SECRET_REF,
            "Role/infra/tagpin-registry-hub",
            "/rules/0/resourceNames",
            json!(["hub"]),
        ),
        effect(
            "registries",
            SECRET_REF,
            "RoleBinding/infra/tagpin-registry-hub",
            "/subjects/0/namespace",
            "tagpin-system",
        ),
        data("registryDefaults.tagTTL", "registryDefaults: {tagTTL: 5m}", "registries.yaml", "tagTTL: 5m"),
        data(
            "registryDefaults.privateNetworks",
            "registryDefaults: {privateNetworks: [10.20.0.0/16]}",
            "registries.yaml",
            "- 10.20.0.0/16",
        ),
        data(
            "registryDefaults.proxy",
            "registryDefaults: {proxy: 'http://proxy.example.com:3128'}",
            "registries.yaml",
            "proxy: http://proxy.example.com:3128",
        ),
        data(
            "registryDefaults.noProxy",
            "registryDefaults: {proxy: 'http://p:1', noProxy: [.corp]}",
            "registries.yaml",
            "- .corp",
        ),
        data(
            "registryDefaults.tls.caFile",
            "registryDefaults: {tls: {caFile: /etc/tagpin/ca/a.pem}}",
            "registries.yaml",
            "caFile: /etc/tagpin/ca/a.pem",
        ),
        data(
            "registryDefaults.proxySecret",
            "registryDefaults: {proxy: 'http://p:1', proxySecret: {name: proxy, key: login}}",
            "registries.yaml",
            "proxyCredentialsFile: /etc/tagpin/proxy/credentials",
        ),
        pod(
            "registryDefaults.proxySecret",
            "registryDefaults: {proxy: 'http://p:1', proxySecret: {name: proxy, key: login}}",
            "/volumes/1/secret",
            json!({"secretName": "proxy", "items": [{"key": "login", "path": "credentials"}]}),
        ),
        data("registriesFile.format", K3S_CONTENT, "registries.yaml", "format: k3s"),
        data("registriesFile.hosts", CERTS_D, "hosts-3530c4415dd8.toml", "[host."),
        data("registriesFile.hosts", CERTS_D, "registries.yaml", "path: /etc/tagpin/certs.d"),
        data("registriesFile.format", CERTS_D, "registries.yaml", "format: certs.d"),
        pod(
            "registriesFile.hosts",
            CERTS_D,
            "/volumes/1/configMap/items/0/path",
            json!("docker.io/hosts.toml"),
        ),
        container("registriesFile.hosts", CERTS_D, "/volumeMounts/1/mountPath", json!("/etc/tagpin/certs.d")),
        data("registriesFile.content", K3S_CONTENT, "k3s-registries.yaml", "mirrors: {}"),
        data(
            "registriesFile.content",
            K3S_CONTENT,
            "registries.yaml",
            "path: /etc/tagpin/k3s/registries.yaml",
        ),
        pod("registriesFile.content", K3S_CONTENT, "/volumes/1/configMap/name", json!("tagpin")),
        pod(
            "registriesFile.secret",
            K3S_SECRET,
            "/volumes/1/secret",
            json!({"secretName": "nodes", "items": [{"key": "r", "path": "registries.yaml"}]}),
        ),
        data("registriesFile.secret", K3S_SECRET, "registries.yaml", "path: /etc/tagpin/k3s/registries.yaml"),
        pod("registriesFile.configMap", K3S_MAP, "/volumes/1/configMap/name", json!("nodes")),
        pod(
            "registriesFile.configMap",
            K3S_MAP,
            "/volumes/1/configMap/items",
            json!([{"key": "r", "path": "registries.yaml"}]),
        ),
        container("registriesFile.configMap", K3S_MAP, "/volumeMounts/1/mountPath", json!("/etc/tagpin/k3s")),
        data("extraCAs", CA_CONTENT, "ca-corp.pem", "-----BEGIN CERTIFICATE-----"),
        pod(
            "extraCAs",
            CA_CONTENT,
            "/volumes/1/projected/sources/0/configMap/items/0/path",
            json!("corp.pem"),
        ),
        pod(
            "extraCAs",
            "extraCAs: [{name: c, configMap: {name: m, key: k}}]",
            "/volumes/1/projected/sources/0/configMap/name",
            json!("m"),
        ),
        pod(
            "extraCAs",
            "extraCAs: [{name: c, secret: {name: s, key: k}}]",
            "/volumes/1/projected/sources/0/secret/name",
            json!("s"),
        ),
        container("extraCAs", CA_CONTENT, "/volumeMounts/1/mountPath", json!("/etc/tagpin/ca")),
        effect(
            "serviceAccount.annotations",
            "serviceAccount: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::123456789012:role/tagpin'}}",
            "ServiceAccount/tagpin",
            "/metadata/annotations/eks.amazonaws.com~1role-arn",
            "arn:aws:iam::123456789012:role/tagpin",
        ),
        container(
            "env",
            "env: [{name: AWS_ACCESS_KEY_ID, value: x}]",
            "/env/4/name",
            json!("AWS_ACCESS_KEY_ID"),
        ),
        arg("tracing.endpoint", COLLECTOR, "--otlp-endpoint=http://$(NODE_IP):4318"),
        container(
            "tracing.endpoint",
            COLLECTOR,
            "/env/4/valueFrom/fieldRef/fieldPath",
            json!("status.hostIP"),
        ),
        arg("log.filter", "log: {filter: debug}", "--log=debug"),
        arg("log.format", "log: {format: text}", "--log-format=text"),
        arg("webhook.clientCA", CLIENT_CA, "--client-ca=/etc/tagpin/client-ca/ca.crt"),
        data("webhook.clientCA", CLIENT_CA, "client-ca.crt", "-----BEGIN CERTIFICATE-----"),
        container("webhook.clientCA", CLIENT_CA, "/volumeMounts/1/mountPath", json!("/etc/tagpin/client-ca")),
        pod("webhook.clientCA", CLIENT_CA, "/volumes/1/configMap/items/0/path", json!("ca.crt")),
        pod(
            "webhook.clientCA",
            "webhook: {clientCA: {configMap: {name: m, key: k}}}",
            "/volumes/1/configMap/items",
            json!([{"key": "k", "path": "ca.crt"}]),
        ),
        pod(
            "webhook.clientCA",
            "webhook: {clientCA: {secret: {name: s, key: k}}}",
            "/volumes/1/secret",
            json!({"secretName": "s", "items": [{"key": "k", "path": "ca.crt"}]}),
        ),
        arg("webhook.port", "webhook: {port: 9443}", "--webhook-port=9443"),
        container("webhook.port", "webhook: {port: 9443}", "/ports/0/containerPort", json!(9443)),
        effect(
            "webhook.port",
            "webhook: {port: 9443}",
            "NetworkPolicy/tagpin",
            "/spec/ingress/0/ports/0/port",
            9443,
        ),
        arg("admin.port", "admin: {port: 9090}", "--admin-port=9090"),
        container("admin.port", "admin: {port: 9090}", "/ports/1/containerPort", json!(9090)),
        effect(
            "admin.port",
            "admin: {port: 9090}",
            "NetworkPolicy/tagpin",
            "/spec/ingress/1/ports/0/port",
            9090,
        ),
        arg("drainSeconds", "drainSeconds: 20", "--drain-seconds=20"),
        pod("drainSeconds", "drainSeconds: 20", "/terminationGracePeriodSeconds", json!(35)),
        arg("certificate.lifetime", "certificate: {lifetime: 720h}", "--certificate-lifetime=720h"),
        arg(
            "certificate.authorityLifetime",
            "certificate: {authorityLifetime: 9000h}",
            "--authority-lifetime=9000h",
        ),
        container(
            "resources.requests.cpu",
            "resources: {requests: {cpu: 1}}",
            "/resources/requests/cpu",
            json!(1),
        ),
        container(
            "resources.requests.memory",
            "resources: {requests: {memory: 1Gi}}",
            "/resources/requests/memory",
            json!("1Gi"),
        ),
        container(
            "resources.limits.memory",
            "resources: {limits: {memory: 2Gi}}",
            "/resources/limits/memory",
            json!("2Gi"),
        ),
        effect(
            "networkPolicy.metricsFrom",
            SCRAPER,
            "NetworkPolicy/tagpin",
            "/spec/ingress/1/from/1",
            json!({"namespaceSelector": {}}),
        ),
        effect(
            "dashboard.enabled",
            "dashboard: {enabled: true}",
            "ConfigMap/tagpin-dashboard",
            "/metadata/labels/grafana_dashboard",
            "1",
        ),
        effect("alerts.enabled", "alerts: {enabled: true}", RULES, "/spec/groups/0/name", "tagpin"),
        effect(
            "alerts.labels",
            "alerts: {enabled: true, labels: {release: prometheus}}",
            RULES,
            "/metadata/labels/release",
            "prometheus",
        ),
        effect(
            "alerts.runbookURL",
            "alerts: {enabled: true, runbookURL: 'https://docs.example.com/runbook'}",
            RULES,
            "/spec/groups/0/rules/0/annotations/runbook_url",
            "https://docs.example.com/runbook#tagpindown",
        ),
        effect(
            "podMonitor.enabled",
            "podMonitor: {enabled: true}",
            MONITOR,
            "/spec/podMetricsEndpoints/0/port",
            "admin",
        ),
        effect(
            "podMonitor.enabled",
            "podMonitor: {enabled: true}",
            MONITOR,
            "/spec/podMetricsEndpoints/0/path",
            "/metrics",
        ),
        effect(
            "podMonitor.enabled",
            "podMonitor: {enabled: true}",
            MONITOR,
            "/spec/selector/matchLabels",
            json!({"app.kubernetes.io/name": "tagpin", "app.kubernetes.io/instance": "tagpin"}),
        ),
        effect(
            "podMonitor.labels",
            "podMonitor: {enabled: true, labels: {release: prometheus}}",
            MONITOR,
            "/metadata/labels/release",
            "prometheus",
        ),
        effect(
            "podMonitor.interval",
            "podMonitor: {enabled: true, interval: 15s}",
            MONITOR,
            "/spec/podMetricsEndpoints/0/interval",
            "15s",
        ),
        pod("priorityClassName", "priorityClassName: high", "/priorityClassName", json!("high")),
        pod("affinity", "affinity: {nodeAffinity: {}}", "/affinity", json!({"nodeAffinity": {}})),
        pod(
            "securityContext.runAsNonRoot",
            "securityContext: {runAsNonRoot: false}",
            "/securityContext/runAsNonRoot",
            json!(false),
        ),
        pod(
            "securityContext.runAsUser",
            "securityContext: {runAsUser: null}",
            "/securityContext",
            json!({"runAsNonRoot": true, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        pod(
            "securityContext.runAsGroup",
            "securityContext: {runAsGroup: null}",
            "/securityContext",
            json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        pod(
            "securityContext.seccompProfile.type",
            "securityContext: {seccompProfile: {type: Unconfined}}",
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
        ),
        pod("hostNetwork", "hostNetwork: true\nwebhook: {port: 10270}", "/hostNetwork", json!(true)),
        pod(
            "hostAliases",
            "hostAliases: [{ip: 10.0.0.7, hostnames: [registry.corp]}]",
            "/hostAliases/0",
            json!({"ip": "10.0.0.7", "hostnames": ["registry.corp"]}),
        ),
        pod("dnsConfig", "dnsConfig: {searches: [corp]}", "/dnsConfig", json!({"searches": ["corp"]})),
        pod("nodeSelector", "nodeSelector: {disk: ssd}", "/nodeSelector", json!({"disk": "ssd"})),
        pod(
            "tolerations",
            "tolerations: [{operator: Exists}]",
            "/tolerations",
            json!([{"operator": "Exists"}]),
        ),
        pod(
            "topologySpreadConstraints",
            "topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]",
            "/topologySpreadConstraints",
            json!([{
                "maxSkew": 2,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {
                    "app.kubernetes.io/name": "tagpin", "app.kubernetes.io/instance": "tagpin" }},
                "matchLabelKeys": ["pod-template-hash"],
            }]),
        ),
        effect("podLabels", "podLabels: {team: a}", DEPLOYMENT, "/spec/template/metadata/labels/team", "a"),
        effect(
            "podAnnotations",
            "podAnnotations: {note: b}",
            DEPLOYMENT,
            "/spec/template/metadata/annotations/note",
            "b",
        ),
    ]
}

const COLLECTOR: &str = "tracing: {endpoint: 'http://$(NODE_IP):4318'}";
const DIGEST: &str = "\
image: {repository: r, digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}";
const SHOP: &str = "pullSecrets: {mode: namespaces, namespaces: [shop]}";
const SECRET_REF: &str =
    "registries: [{match: a.example, credentials: {secretRef: {namespace: infra, name: hub}}}]";
const K3S_CONTENT: &str = "registriesFile: {content: 'mirrors: {}'}";
const CERTS_D: &str = "registriesFile: {format: certs.d, hosts: {docker.io: '[host.\"https://m.example\"]'}}";
const K3S_SECRET: &str = "registriesFile: {secret: {name: nodes, key: r}}";
const K3S_MAP: &str = "registriesFile: {configMap: {name: nodes, key: r}}";
const CA_CONTENT: &str = "extraCAs: [{name: corp, content: '-----BEGIN CERTIFICATE-----'}]";
const CLIENT_CA: &str = "webhook: {clientCA: {content: '-----BEGIN CERTIFICATE-----'}}";
const SCRAPER: &str = "networkPolicy: {metricsFrom: [{namespaceSelector: {}}]}";

#[test]
fn every_value_has_an_effect() {
    let default = render("");
    for Effect { value, set, object, at, shows } in effects() {
        assert!(
            render(set).shows(object, &at, &shows),
            "{value}: `{set}` does not show {shows} at {object} {at}"
        );
        if !set.is_empty() {
            assert!(!default.shows(object, &at, &shows), "{value}: {object} {at} shows {shows} by default");
        }
    }
}

#[test]
fn each_value_is_in_the_table_of_effects() {
    // These values switch whole objects on and off, and have their own tests below.
    let mut tested: BTreeSet<String> = ["crds.enabled", "networkPolicy.enabled"].map(String::from).into();
    tested.extend(effects().iter().map(|effect| effect.value.to_owned()));
    assert_eq!(tested, leaves());
}

/// Returns the dotted names of all values in `values.yaml`.
fn leaves() -> BTreeSet<String> {
    fn walk(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, field) in fields {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&name, field, found);
                }
            }
            _ => drop(found.insert(prefix.to_owned())),
        }
    }
    let text = fs::read_to_string(format!("{CHART}/values.yaml")).unwrap();
    let mut found = BTreeSet::new();
    walk("", &serde_saphyr::from_str(&text).unwrap(), &mut found);
    found
}

#[test]
fn the_schema_refuses_unknown_keys_at_every_depth() {
    fn walk(at: &str, schema: &Value) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], false, "{at} takes unknown keys");
            properties.iter().for_each(|(name, field)| walk(&format!("{at}.{name}"), field));
        }
        walk_items(at, schema);
    }
    fn walk_items(at: &str, schema: &Value) {
        if schema["items"].is_object() {
            walk(&format!("{at}[]"), &schema["items"]);
        }
        for variant in schema["anyOf"].as_array().into_iter().flatten() {
            walk(at, variant);
        }
    }
    let text = fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    walk("", &serde_json::from_str(&text).unwrap());
    assert!(refusal("x", "replicaz: 1").contains("additional properties 'replicaz' not allowed"));
    assert!(
        refusal("x", "registries: [{match: a, tls: {insecure: true}}]").contains("'insecure' not allowed")
    );
}

#[test]
fn pods_are_restricted() {
    let objects = render("");
    let pod = objects.at(DEPLOYMENT, POD).unwrap();
    assert_eq!(pod["dnsPolicy"], "Default");
    let user = json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(pod["securityContext"], user);
    let container = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    assert_eq!(pod["containers"][0]["securityContext"], container);
}

#[test]
fn in_the_network_of_nodes_each_node_has_one_pod() {
    let selector = json!({"app.kubernetes.io/name": "tagpin", "app.kubernetes.io/instance": "tagpin"});
    let apart = json!({"labelSelector": {"matchLabels": selector}, "topologyKey": "kubernetes.io/hostname"});
    let values = "hostNetwork: true\nwebhook: {port: 10270}\n";
    let own = "affinity: {nodeAffinity: {a: 1}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}}";
    for (affinity, expected) in [
        ("", json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}})),
        (
            own,
            json!({
                "nodeAffinity": {"a": 1},
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}, apart],
                },
            }),
        ),
    ] {
        let objects = render(&format!("{values}{affinity}"));
        assert_eq!(objects.at(DEPLOYMENT, POD).unwrap()["affinity"], expected);
        let rollout = objects.at(DEPLOYMENT, "/spec/strategy/rollingUpdate").unwrap();
        assert_eq!(*rollout, json!({"maxUnavailable": 1, "maxSurge": 0}));
        assert_eq!(objects.at(DEPLOYMENT, POD).unwrap()["dnsPolicy"], "Default");
        assert!(
            !env_names(&objects).contains(&"POD_IPS".to_owned()),
            "it is the node that has the addresses"
        );
    }
    assert!(env_names(&render("")).contains(&"POD_IPS".to_owned()));
}

fn env_names(objects: &Objects) -> Vec<String> {
    let env = objects.at(DEPLOYMENT, &format!("{CONTAINER}/env")).unwrap().as_array().unwrap();
    env.iter().map(|variable| variable["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_rollout_surges_and_a_drain_has_time() {
    let objects = render("");
    let strategy = objects.at(DEPLOYMENT, "/spec/strategy").unwrap();
    assert_eq!(
        *strategy,
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
    );
    let container = objects.at(DEPLOYMENT, CONTAINER).unwrap();
    assert_eq!(objects.at(DEPLOYMENT, POD).unwrap()["terminationGracePeriodSeconds"], 30);
    assert_eq!(
        container.get("lifecycle"),
        None,
        "a replica drains from the first moment, so that connections are told"
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "admin", "{probe}");
    }
    assert_eq!(objects.at("PodDisruptionBudget/tagpin", "/spec/maxUnavailable"), Some(&json!(1)));
}

#[test]
fn webhook_configurations_come_empty_and_can_be_neither_made_nor_deleted_by_us() {
    let objects = render("");
    for (object, name) in [
        ("MutatingWebhookConfiguration/zz-tagpin", "mutatingwebhookconfigurations"),
        ("ValidatingWebhookConfiguration/tagpin", "validatingwebhookconfigurations"),
    ] {
        assert!(objects.has(object));
        assert_eq!(objects.at(object, "/webhooks"), None);
        let rules = objects.at("ClusterRole/tagpin", "/rules").unwrap().as_array().unwrap();
        let rules: Vec<_> =
            rules.iter().filter(|r| r["resources"].as_array().unwrap().contains(&name.into())).collect();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0]["verbs"], json!(["list", "watch", "patch"]));
        assert_eq!(rules[0]["resourceNames"].as_array().unwrap().len(), 1);
    }
}

/// The leader fills configurations that came back after break glass only for another release.
#[test]
fn a_release_is_told_from_another_by_its_values() {
    let release = |values: &str| {
        let rendered = render(values);
        let found = rendered.at(DEPLOYMENT, "/metadata/annotations/tagpin.dev~1release");
        found.and_then(Value::as_str).map(str::to_owned).unwrap()
    };
    assert_eq!(release("replicas: 3"), release("replicas: 3"));
    assert_ne!(release("replicas: 3"), release("replicas: 2"));
    assert_eq!(release("").len(), 64);
}

/// Returns the rules of all roles that allow reading Secrets, except tagpin's own certificate, keys and tokens.
fn readers_of_secrets(objects: &Objects) -> Vec<&Value> {
    let roles = objects.0.iter().filter(|o| o["kind"] == "Role" || o["kind"] == "ClusterRole");
    let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
    rules
        .filter(|rule| rule["resources"].as_array().unwrap().contains(&"secrets".into()))
        .filter(|rule| rule["verbs"] != json!(["create"]))
        .filter(|rule| {
            let ours =
                ["tagpin-webhook-tls", "tagpin-pin-keys", "tagpin-webhook-door"].map(|name| json!([name]));
            !ours.contains(&rule["resourceNames"])
        })
        .collect()
}

#[test]
fn pull_secrets_are_readable_only_when_asked_for() {
    assert_eq!(readers_of_secrets(&render("")), Vec::<&Value>::new());
    // Helm's YAML reads an unquoted `off` as a boolean.
    assert_eq!(readers_of_secrets(&render("pullSecrets: {mode: off}")), Vec::<&Value>::new());
    let cluster = render("pullSecrets: {mode: cluster}");
    assert_eq!(readers_of_secrets(&cluster)[0]["verbs"], json!(["get"]));
}

/// Rights, each with scope, group, resource, name of the object, and verb.
type Granted = BTreeSet<(Scope, String, String, Option<String>, String)>;

fn granted(objects: &Objects, role: &str, scope: Scope) -> Granted {
    let words = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut found = Granted::new();
    for rule in objects.at(role, "/rules").unwrap().as_array().unwrap() {
        let names = match rule.get("resourceNames") {
            None => vec![None],
            Some(names) => words(names).into_iter().map(Some).collect(),
        };
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for name in &names {
                    for verb in words(&rule["verbs"]) {
                        found.insert((scope, group.clone(), resource.clone(), name.clone(), verb));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn the_rights_that_doctor_asks_about_are_those_of_the_chart() {
    let objects = render("");
    let mut chart = granted(&objects, "ClusterRole/tagpin", Scope::Cluster);
    chart.extend(granted(&objects, "Role/tagpin-system/tagpin", Scope::Release));
    let listed: Granted = RIGHTS
        .iter()
        .flat_map(|right| right.verbs.iter().map(move |verb| (right, verb)))
        .map(|(right, verb)| {
            let name = right.name.map(str::to_owned);
            (right.scope, right.group.to_owned(), right.resource.to_owned(), name, (*verb).to_owned())
        })
        .collect();
    assert_eq!(listed, chart);
}

#[test]
fn no_right_is_a_wildcard() {
    let objects = render("pullSecrets: {mode: cluster}");
    for role in objects.0.iter().filter(|o| o["kind"] == "Role" || o["kind"] == "ClusterRole") {
        assert!(!role["rules"].to_string().contains('*'), "{role}");
    }
}

#[test]
fn every_right_names_the_file_that_needs_it() {
    for template in ["clusterrole.yaml", "role.yaml"] {
        let text = fs::read_to_string(format!("{CHART}/templates/{template}")).unwrap();
        let mut comment = String::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with('#') {
                comment.push_str(line);
            } else if line.starts_with("- apiGroups") {
                assert!(comment.contains("src/"), "{template}: a rule without the file that needs it");
            } else if !line.starts_with("resource") && !line.starts_with("verbs") {
                // Consecutive rules may share a comment; any other line ends it.
                comment.clear();
            }
        }
    }
}

#[test]
fn the_network_policy_lets_anyone_in_at_the_webhook_and_replicas_at_the_admin_port() {
    let objects = render("");
    let ingress = objects.at("NetworkPolicy/tagpin", "/spec/ingress").unwrap();
    assert_eq!(ingress[0].get("from"), None);
    assert_eq!(ingress[1]["from"].as_array().unwrap().len(), 1);
    assert!(!render("networkPolicy: {enabled: false}").has("NetworkPolicy/tagpin"));
}

#[test]
fn it_is_not_released_into_default() {
    assert!(refusal("default", "image: {repository: r}").contains("tagpin is not released into `default`"));
}

#[test]
fn what_would_not_work_is_refused_with_what_to_do() {
    assert!(refusal("x", "").contains("image.repository is empty: set it"));
    let refused = |values: &str| refusal("x", &format!("image: {{repository: r}}\n{values}"));
    assert!(refused("pullSecrets: {mode: namespaces}").contains("pullSecrets.namespaces names none"));
    assert!(refused("pullSecrets: {namespaces: [a]}").contains("pullSecrets.mode is off"));
    let both = "registriesFile: {content: 'mirrors: {}', configMap: {name: a, key: b}}";
    assert!(refused(both).contains("registriesFile has both"));
    assert!(refused("extraCAs: [{name: a}]").contains("extraCAs"));
    assert!(refused("hostNetwork: true").contains("set another one, such as 10270"));
}

#[test]
fn the_binary_takes_the_arguments_that_the_chart_gives() {
    let values = "\
excludedNamespaces: [a, b]
controllerIdentities: [\"system:x\"]
pullSecrets: {mode: namespaces, namespaces: [shop]}";
    let objects = render(values);
    let args = objects.at(DEPLOYMENT, ARGS).unwrap().as_array().unwrap();
    let names = objects.at(DEPLOYMENT, &format!("{CONTAINER}/env")).unwrap().as_array().unwrap();
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.env_clear().args(args.iter().map(|arg| arg.as_str().unwrap()));
    let output = tagpin
        .envs(names.iter().map(|name| match name["name"].as_str().unwrap() {
            "POD_IPS" => ("POD_IPS", "10.42.0.7,fd00::7"),
            "TAGPIN_MEMORY_LIMIT" => ("TAGPIN_MEMORY_LIMIT", "268435456"),
            name => (name, "x"),
        }))
        .output()
        .unwrap();
    let memory = names.iter().find(|name| name["name"] == "TAGPIN_MEMORY_LIMIT").unwrap();
    assert_eq!(memory["valueFrom"], json!({ "resourceFieldRef": { "resource": "limits.memory" } }));
    // Commands that are run in the pod read the same configuration of registries.
    let registries = names.iter().find(|name| name["name"] == "TAGPIN_REGISTRIES").unwrap();
    let given = format!("--registries={}", registries["value"].as_str().unwrap());
    assert!(args.iter().any(|arg| *arg == given), "{given}: {args:?}");
    // The binary accepts its arguments and then fails to read its files, which exist only in a pod.
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("read /etc/tagpin/configuration/"), "{said}");
}

#[test]
fn the_binary_reads_the_baseline_that_the_chart_writes() {
    let objects = render(
        "baseline: {namespaceSelector: {matchExpressions: [{key: a, operator: Exists}]}, exceptions: [{name: runner, reason: it ends this week, users: [anna], expires: \"2027-01-31T00:00:00Z\"}]}",
    );
    let text = objects.at("ConfigMap/tagpin", "/data/baseline.yaml").unwrap();
    let baseline = Baseline::parse(text.as_str().unwrap()).unwrap();
    assert!(baseline.enabled && baseline.pin);
    assert_eq!(baseline.namespace_selector.match_expressions.unwrap()[0].key, "a");
    assert_eq!(baseline.exceptions[0].common.users, ["anna"]);
}

#[test]
fn the_binary_reads_the_registries_that_the_chart_writes() {
    let values = "\
registriesFile: {content: 'mirrors: {docker.io: {endpoint: [https://mirror.example.com]}}'}
extraCAs: [{name: corp, content: \"CERTIFICATE\"}]
registries:
- match: registry.example.com:5000
  allowPrivate: true
  tls: {caFile: /etc/tagpin/ca/corp.pem, caOnly: true}
  trustedRealms: [token.example.com]
  credentials: {secretRef: {namespace: infra, name: hub}}
- {match: docker.io, resolveFrom: mirrors-only, notFoundIsProof: true}
- {match: '*.dkr.ecr.*.amazonaws.com', credentials: {aws: {roleArn: 'arn:aws:iam::123456789012:role/pull', regions: [eu-west-1]}}}
- {match: '*.pkg.dev', credentials: {gcp: {}}}
- {match: '*.azurecr.io', credentials: {azure: {}}}
- {match: '*.example.org', resolveFrom: mirrors-then-upstream, mirrors: [{url: https://mirror.example.org, capabilities: [pull, resolve], sendPullSecrets: true, rewrite: {'^a/': b/}, notFoundIsProof: true}]}
- {match: airgap.example.com, offline: true}
registryDefaults: {tagTTL: 5m, privateNetworks: [10.20.0.0/16, 'fd12:3456::/32'], proxy: 'http://proxy.example.com:3128', noProxy: [.corp], tls: {caFile: /etc/tagpin/ca/corp.pem}}";
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let objects = render(&values.replace("CERTIFICATE", &pem.replace('\n', "\\n")));
    let data = |key: &str| objects.at("ConfigMap/tagpin", &format!("/data/{key}")).unwrap().as_str().unwrap();
    // Writes the files that the volumes mount, below another root.
    let pod = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(pod.path().join(name), text).unwrap();
    write("corp.pem", data("ca-corp.pem"));
    write("k3s.yaml", data("k3s-registries.yaml"));
    let configuration = data("registries.yaml")
        .replace("/etc/tagpin/ca/corp.pem", "corp.pem")
        .replace("/etc/tagpin/k3s/registries.yaml", "k3s.yaml");
    write("registries.yaml", &configuration);
    let registries = Registries::load(&pod.path().join("registries.yaml")).unwrap();
    assert_eq!(registries.warnings(), Vec::<String>::new());
    assert!(registries.profile("airgap.example.com").offline);
    assert_eq!(registries.profile("docker.io").mirrors.len(), 1);
    assert_eq!(registries.profile("ghcr.io").tag_ttl.as_secs(), 300);
}

#[test]
fn the_rendered_alerts_and_dashboard_are_those_of_the_files() {
    let objects = render("alerts: {enabled: true}\ndashboard: {enabled: true}");
    let read = |name: &str| fs::read_to_string(format!("{CHART}/{name}")).unwrap();
    let rules: Value = serde_saphyr::from_str(&read("alerts/tagpin.yaml")).unwrap();
    assert_eq!(objects.at(RULES, "/spec/groups"), Some(&rules["groups"]));
    let rendered = objects.at("ConfigMap/tagpin-dashboard", "/data/tagpin.json").unwrap().as_str().unwrap();
    let dashboard: Value = serde_json::from_str(rendered).unwrap();
    assert_eq!(dashboard, serde_json::from_str::<Value>(&read("dashboards/tagpin.json")).unwrap());
}

#[test]
fn a_change_of_the_configuration_rolls_the_pods() {
    let checksum = |values| {
        let objects = render(values);
        objects.at(DEPLOYMENT, "/spec/template/metadata/annotations/checksum~1baseline").unwrap().clone()
    };
    assert_ne!(checksum(""), checksum("baseline: {mode: Audit}"));
    // tagpin reads changed registries again without a restart.
    assert_eq!(checksum(""), checksum("registries: [{match: a.example}]"));
}

#[test]
fn the_k3s_example_is_a_release_of_this_chart() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/k3s/helmchart.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
    let chart = documents.iter().find(|document| document["kind"] == "HelmChart").unwrap();
    // The default of the Helm controller uninstalls the release when an upgrade fails.
    assert_eq!(chart["spec"]["failurePolicy"], "abort");
    let namespace = chart["spec"]["targetNamespace"].as_str().unwrap();
    let output = template(namespace, chart["spec"]["valuesContent"].as_str().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
