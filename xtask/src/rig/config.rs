//! The configuration files of the components, which are written anew at every start.

use std::fs;

use anyhow::Result;
use serde_json::json;

use super::node::{ADDRESS, API_PORT, Node};
use super::registries::{self, HIDING_HOST, PRIVATE_HOST};
use super::state::{State, write};
use crate::{command, packages};

/// Folder for volume plugins. A component that looks for plugins creates it; by default that is a folder of the
/// developer's.
pub(crate) const VOLUME_PLUGINS: &str = "/var/lib/kubelet/volume-plugins";

/// Writes the configuration of every component.
pub(crate) fn write_all(state: &State, nodes: u8) -> Result<()> {
    resolver(state)?;
    kubeconfigs(state, nodes)?;
    write(&state.etc("audit-policy.yaml"), AUDIT_POLICY.as_bytes())?;
    write(&state.etc("tracing.yaml"), TRACING.as_bytes())?;
    registries::write_config(state)?;
    for node in Node::all(nodes) {
        fs::create_dir_all(state.manifests(&node.name()))?;
        let file = |name: &str| state.node_etc(&node.name(), name);
        write(&file("containerd.toml"), containerd(state, node)?.as_bytes())?;
        write(&file("cni/10-rig.conflist"), &serde_json::to_vec_pretty(&cni(node))?)?;
        write(&file("kubelet.yaml"), &serde_json::to_vec_pretty(&kubelet(state, node))?)?;
    }
    Ok(())
}

/// Writes the configuration of DNS. It has the rig's own names only. Any other name does not exist, rather than time
/// out.
fn resolver(state: &State) -> Result<()> {
    // Pods with `dnsPolicy: Default` inherit this file, so it names no loopback address.
    write(&state.etc("resolv.conf"), format!("nameserver {ADDRESS}\n").as_bytes())?;
    let dnsmasq = format!(
        "listen-address={ADDRESS}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\nlog-facility=-\npid-file=\n\
         host-record={PRIVATE_HOST},{ADDRESS}\nhost-record={HIDING_HOST},{ADDRESS}\naddress=/#/\n"
    );
    write(&state.etc("dnsmasq.conf"), dnsmasq.as_bytes())
}

fn kubeconfigs(state: &State, nodes: u8) -> Result<()> {
    let kubeconfig = |client: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "rig", "cluster": {
                "server": format!("https://{ADDRESS}:{API_PORT}"),
                "certificate-authority": state.pki("ca.crt"),
            }}],
            "users": [{ "name": client, "user": {
                "client-certificate": state.pki(&format!("{client}.crt")),
                "client-key": state.pki(&format!("{client}.key")),
            }}],
            "contexts": [{ "name": "rig", "context": { "cluster": "rig", "user": client } }],
            "current-context": "rig",
        })
    };
    let mut clients: Vec<String> =
        ["kube-controller-manager", "kube-scheduler", "kube-proxy"].map(str::to_owned).to_vec();
    clients.extend(Node::all(nodes).map(|node| format!("kubelet-{}", node.name())));
    for client in clients {
        let file = state.etc(&format!("{client}.kubeconfig"));
        write(&file, &serde_json::to_vec_pretty(&kubeconfig(&client))?)?;
    }
    write(&state.kubeconfig(), &serde_json::to_vec_pretty(&kubeconfig("admin"))?)
}

fn containerd(state: &State, node: Node) -> Result<String> {
    let name = node.name();
    Ok(format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "/run/containerd/containerd.sock"

# Its default, /opt/containerd, would be the developer's.
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{hosts}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE runc may not lower a score: it would die with "can't get final child's PID".
  restrict_oom_score_adj = true
  # A profile is loaded into the kernel for the whole machine, and stays there.
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"#,
        snapshotter = snapshotter(state)?,
        pause = registries::PAUSE,
        hosts = state.etc("hosts").display(),
        cni = state.node_etc(&name, "cni").display(),
        runc = packages::program("runc")?.display(),
    ))
}

/// Returns the name of the snapshotter, which makes root file systems out of layers. The kernel refuses an overlay on
/// an overlay, so layers are copied if the rig's folder is in a container's own file system.
fn snapshotter(state: &State) -> Result<&'static str> {
    let kind = command::output("stat", ["--file-system".as_ref(), "--format=%T".as_ref(), state.root()])?;
    Ok(if kind.trim() == "overlayfs" { "native" } else { "overlayfs" })
}

/// Returns the configuration of pod networks. Pods are routed and not bridged, so Services between pods of one node
/// need no bridge netfilter.
fn cni(node: Node) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "rig",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": node.pods() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                // Address leases end with the machine, as the network namespaces do.
                "dataDir": "/run/cni-leases",
            },
        }],
    })
}

fn kubelet(state: &State, node: Node) -> serde_json::Value {
    let name = node.name();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": state.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": state.pki(&format!("kubelet-{name}-serving.crt")),
        "tlsPrivateKeyFile": state.pki(&format!("kubelet-{name}-serving.key")),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "staticPodPath": state.manifests(&name),
        "volumePluginDir": VOLUME_PLUGINS,
        "resolvConf": state.etc("resolv.conf"),
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{name}", state.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        // The disk is the developer's, so no pod is evicted and no image is collected because it is full.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "volumeStatsAggPeriod": "-1s",
    })
}

/// Configuration of tracing: no request is traced until a test writes another rate.
const TRACING: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: TracingConfiguration
samplingRatePerMillion: 0
";

/// Audit policy: tests read from the audit log what webhooks answered about pods and workloads, and which replica of
/// tagpin wrote or listed what.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
    resources:
      - group: ''
        resources: [pods, pods/ephemeralcontainers, replicationcontrollers, podtemplates]
      - group: apps
        resources: [deployments, statefulsets, daemonsets, replicasets]
      - group: batch
        resources: [jobs, cronjobs]
  - level: Metadata
    users: ['system:serviceaccount:tagpin-system:tagpin']
    verbs: [create, update, patch, delete, list]
  - level: None
";
