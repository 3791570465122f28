//! The processes of a machine: their command lines, and the conditions that each of them waits for.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::component::Component;
use super::config;
use super::node::{ADDRESS, API_PORT, Node, PODS, SERVICES};
use super::probe::Probe;
use super::registries;
use super::state::State;
use crate::packages;

const CONTAINERD: &str = "/run/containerd/containerd.sock";
const KINE: &str = "/run/kine.sock";

/// Returns the components of one machine in a rig with this number of nodes.
pub(crate) fn of(state: &State, node: Node, nodes: u8) -> Result<Vec<Component>> {
    let mut components = Vec::new();
    if node.is_first() {
        components.push(dnsmasq(state)?);
        components.extend(registries::components(state)?);
        components.extend(control_plane(state));
        for other in Node::all(nodes).skip(1) {
            components.push(machine(state, other)?);
        }
    }
    components.extend(worker(state, node));
    Ok(components)
}

fn dnsmasq(state: &State) -> Result<Component> {
    let args =
        vec!["--keep-in-foreground".to_owned(), flag("conf-file", state.etc("dnsmasq.conf").display())];
    let dns = Probe::Tcp(SocketAddr::from((ADDRESS, 53)));
    Ok(Component::new("dnsmasq", packages::program("dnsmasq")?, args).serving(dns))
}

fn control_plane(state: &State) -> Vec<Component> {
    let bin = state.bin();
    let pki = |file: &str| state.pki(file).display().to_string();
    let kubeconfig = |name: &str| state.etc(&format!("{name}.kubeconfig")).display().to_string();
    let kine = vec![
        flag(
            "endpoint",
            "sqlite:///var/lib/kine/state.db?_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate",
        ),
        flag("listen-address", format!("unix://{KINE}")),
        flag("metrics-bind-address", "0"),
    ];
    let api = vec![
        flag("advertise-address", ADDRESS),
        flag("secure-port", API_PORT),
        flag("etcd-servers", format!("unix://{KINE}")),
        flag("service-cluster-ip-range", SERVICES),
        flag("allow-privileged", "true"),
        flag("authorization-mode", "Node,RBAC"),
        flag("enable-admission-plugins", "NodeRestriction"),
        flag("client-ca-file", pki("ca.crt")),
        flag("tls-cert-file", pki("kube-apiserver.crt")),
        flag("tls-private-key-file", pki("kube-apiserver.key")),
        flag("kubelet-certificate-authority", pki("ca.crt")),
        flag("kubelet-client-certificate", pki("kube-apiserver-kubelet.crt")),
        flag("kubelet-client-key", pki("kube-apiserver-kubelet.key")),
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
        flag("service-account-key-file", pki("service-account.pub")),
        flag("service-account-signing-key-file", pki("service-account.key")),
        flag("audit-policy-file", state.etc("audit-policy.yaml").display()),
        flag("audit-log-path", state.log("audit").display()),
        flag("tracing-config-file", state.etc("tracing.yaml").display()),
    ];
    let manager = vec![
        flag("kubeconfig", kubeconfig("kube-controller-manager")),
        flag("use-service-account-credentials", "true"),
        flag("service-account-private-key-file", pki("service-account.key")),
        flag("root-ca-file", pki("ca.crt")),
        flag("leader-elect", "false"),
        flag("bind-address", "127.0.0.1"),
        flag("flex-volume-plugin-dir", config::VOLUME_PLUGINS),
        // An API server that was away for a minute must not take every replica out of its Service.
        flag("node-monitor-grace-period", "90s"),
        // The default limits are for large clusters. Here they would make every start 3 s longer.
        flag("kube-api-qps", "500"),
        flag("kube-api-burst", "500"),
    ];
    let scheduler = vec![
        flag("kubeconfig", kubeconfig("kube-scheduler")),
        flag("leader-elect", "false"),
        flag("bind-address", "127.0.0.1"),
    ];
    let store = Probe::Unix(PathBuf::from(KINE));
    vec![
        Component::new("kine", bin.join("kine"), kine).serving(store.clone()),
        Component::new("kube-apiserver", bin.join("kube-apiserver"), api).after(store).serving(Probe::Api),
        Component::new("kube-controller-manager", bin.join("kube-controller-manager"), manager)
            .after(Probe::Api),
        Component::new("kube-scheduler", bin.join("kube-scheduler"), scheduler).after(Probe::Api),
    ]
}

fn worker(state: &State, node: Node) -> Vec<Component> {
    let (bin, name) = (state.bin(), node.name());
    let runtime = Probe::Unix(PathBuf::from(CONTAINERD));
    let containerd = vec![flag("config", state.node_etc(&name, "containerd.toml").display())];
    let kubelet = vec![
        flag("config", state.node_etc(&name, "kubelet.yaml").display()),
        flag("kubeconfig", state.etc(&format!("kubelet-{name}.kubeconfig")).display()),
        flag("hostname-override", &name),
        flag("node-ip", node.address()),
    ];
    let proxy = vec![
        flag("kubeconfig", state.etc("kube-proxy.kubeconfig").display()),
        flag("hostname-override", &name),
        flag("proxy-mode", "nftables"),
        flag("cluster-cidr", PODS),
        // This limit belongs to the whole machine, so the rig does not set it.
        flag("conntrack-max-per-core", "0"),
    ];
    let serving = Probe::Tcp(SocketAddr::from((node.address(), 10250)));
    vec![
        Component::new("containerd", bin.join("containerd"), containerd).serving(runtime.clone()),
        Component::new("kubelet", bin.join("kubelet"), kubelet)
            .after(runtime)
            .after(Probe::Api)
            .serving(serving),
        Component::new("kube-proxy", bin.join("kube-proxy"), proxy).after(Probe::Api),
    ]
}

/// Returns the component for a further machine: namespaces inside those of the first machine, on a network that exists.
fn machine(state: &State, node: Node) -> Result<Component> {
    let mut args = vec![format!("--net=/run/netns/{}", node.name()), "unshare".to_owned()];
    args.extend(["--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"].map(str::to_owned));
    args.push(std::env::current_exe()?.display().to_string());
    args.extend(["supervise".to_owned(), state.root().display().to_string(), node.number().to_string()]);
    let mut machine = Component::new(&node.name(), packages::program("nsenter")?, args);
    machine.machine = true;
    Ok(machine)
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
