//! Tests of the rig itself: it starts, it comes back, and nothing of it is left when it is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking and say why they are skipped"
)]

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const MIRROR: &str = "http://10.41.0.1:5000/v2";
const MOVING: &str = "docker.io/library/moving:1.0.0";

#[test]
fn a_killed_rig_leaves_nothing_behind_and_boots_again_with_its_data() {
    let Some(rig) = Rig::fresh("killed") else { return };
    let before = outside(&rig);
    rig.up(&[]);
    rig.ok(&["exec", "--", "kubectl", "create", "deployment", "web", "--image=web:1.4.2"]);
    rig.ok(&["exec", "--", "kubectl", "expose", "deployment", "web", "--port=80", "--target-port=8080"]);
    rig.available("web");
    let inside = Namespaces::of(&rig);

    kill(&rig.supervisor());

    eventually("every process of the rig ends", || inside.processes().is_empty());
    assert_eq!(outside(&rig), before, "something outside was changed");
    assert_eq!(rig.status()["up"], false);

    // The rig does not need the process that started it, which may be killed half-way.
    let mut starter = rig.spawn(&["up"]);
    eventually("the supervisor runs", || rig.status()["up"] == true);
    starter.kill().unwrap();
    starter.wait().unwrap();
    rig.up(&[]);
    rig.available("web");
    let address =
        rig.ok(&["exec", "--", "kubectl", "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually("the pod of before the kill serves", || {
        rig.run(&["exec", "--", "busybox", "wget", "-q", "-O", "-", &format!("http://{address}/")]).stdout
            == b"web 1.4.2\n"
    });

    let inside = Namespaces::of(&rig);
    rig.ok(&["down"]);
    assert_eq!(inside.processes(), Vec::<PathBuf>::new());
    assert_eq!(cgroups(&rig), Vec::<PathBuf>::new());
    assert_eq!(outside(&rig), before);
    rig.ok(&["down", "--purge"]);
    assert!(!rig.folder().exists());
}

#[test]
fn two_rigs_run_side_by_side_and_one_outlives_the_other() {
    let (Some(one), Some(other)) = (Rig::fresh("one"), Rig::fresh("other")) else { return };
    let mut second = other.spawn(&["up"]);
    one.up(&[]);
    assert!(second.wait().unwrap().success());

    for rig in [&one, &other] {
        rig.ok(&["exec", "--", "kubectl", "create", "namespace", rig.name]);
        rig.ok(&["exec", "--", "kubectl", "run", "web", "--image=web:1.4.2"]);
        rig.ok(&["exec", "--", "kubectl", "wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    }
    assert!(!one.run(&["exec", "--", "kubectl", "get", "namespace", "other"]).status.success());
    one.ok(&["down"]);
    assert_eq!(other.status()["ready"], true);
    let web = other.ok(&["exec", "--", "kubectl", "get", "pod", "web", "-o", "jsonpath={.status.podIP}"]);
    let page = other.ok(&["exec", "--", "busybox", "wget", "-q", "-O", "-", &format!("http://{web}:8080/")]);
    assert_eq!(page, "web 1.4.2");
}

#[test]
fn components_stop_and_start_and_tags_move_and_vanish() {
    let Some(rig) = Rig::fresh("parts") else { return };
    rig.up(&[]);

    let mut cat = rig.command(&["exec", "--", "sh", "-c", "cat; exit 7"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through").unwrap();
    let cat = cat.wait_with_output().unwrap();
    assert_eq!((cat.status.code(), cat.stdout.as_slice()), (Some(7), b"through".as_slice()));

    assert!(rig.serves(&format!("{MIRROR}/")));
    rig.ok(&["stop", "registry-mirror"]);
    assert!(!rig.serves(&format!("{MIRROR}/")));
    rig.ok(&["start", "registry-mirror"]);
    assert!(rig.serves(&format!("{MIRROR}/")));

    rig.ok(&["stop", "kube-apiserver"]);
    assert!(!rig.run(&["exec", "--", "kubectl", "get", "nodes"]).status.success());
    assert_eq!(rig.status()["ready"], false);
    rig.ok(&["start", "kube-apiserver"]);
    rig.ok(&["exec", "--", "kubectl", "get", "nodes"]);

    rig.ok(&["stop", "kubelet"]);
    assert_eq!(rig.component("kubelet")["state"], "stopped");
    rig.ok(&["start", "kubelet"]);
    let unknown = rig.run(&["stop", "kubelt"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("kubelet"), "{unknown:?}");

    rig.ok(&["exec", "--", "sh", "-c", "kill -9 $(pidof kube-scheduler)"]);
    eventually("what ends by itself is started again", || {
        let scheduler = rig.component("kube-scheduler");
        scheduler["restarts"] == 1 && scheduler["state"] == "running"
    });

    let first = rig.ok(&["digest", MOVING]);
    let second = rig.ok(&["push-tag", MOVING, "--content", "moving v2"]);
    assert_ne!(first, second);
    assert_eq!(rig.ok(&["digest", MOVING]), second);
    assert!(rig.serves(&format!("{MIRROR}/library/moving/manifests/1.0.0")));
    rig.ok(&["delete-tag", MOVING]);
    assert!(!rig.serves(&format!("{MIRROR}/library/moving/manifests/1.0.0")));
    assert!(rig.serves(&format!("{MIRROR}/library/moving/manifests/{second}")), "the manifest stays");
    rig.ok(&["push"]);
    assert_eq!(rig.ok(&["digest", MOVING]), first);
}

#[test]
fn a_second_node_joins_and_can_be_lost() {
    let Some(rig) = Rig::fresh("nodes") else { return };
    let before = outside(&rig);
    rig.up(&["--nodes", "2"]);
    rig.apply(
        r#"{ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "web" }, "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [
                { "name": "web", "image": "web:1.4.2" }, { "name": "tool", "image": "tool:1.0.0" } ] } } } }"#,
    );
    rig.ok(&["exec", "--", "kubectl", "rollout", "status", "daemonset/web", "--timeout=60s"]);
    let get = "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{\"\\n\"}{end}";
    let pods = rig.ok(&["exec", "--", "kubectl", "get", "pods", "-o", get]);
    let pods: Vec<Vec<&str>> = pods.lines().map(|line| line.split(' ').collect()).collect();
    let mut nodes: Vec<&str> = pods.iter().map(|pod| pod[1]).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["rig", "rig-2"]);
    for from in &pods {
        for to in &pods {
            let url = format!("http://{}:8080/", to[2]);
            let wget =
                ["exec", "--", "kubectl", "exec", from[0], "-c", "tool", "--", "wget", "-q", "-O", "-", &url];
            assert_eq!(rig.ok(&wget), "web 1.4.2", "from {} to {}", from[1], to[1]);
        }
    }

    rig.ok(&["stop", "rig-2/kubelet"]);
    assert_eq!(rig.component("rig-2/kubelet")["state"], "stopped");
    assert_eq!(rig.component("kubelet")["state"], "running");
    let lost = pods.iter().find(|pod| pod[1] == "rig-2").unwrap();
    let page = format!("http://{}:8080/", lost[2]);
    assert!(rig.serves(&page), "containers outlive their kubelet");
    rig.ok(&["stop", "rig-2"]);
    assert!(!rig.serves(&page), "no container outlives its machine");
    rig.ok(&["start", "rig-2"]);
    eventually("the node boots and its pod serves again", || {
        rig.serves(&page) || {
            let pod = ["exec", "--", "kubectl", "get", "pod", lost[0], "-o", "jsonpath={.status.podIP}"];
            rig.serves(&format!("http://{}:8080/", rig.ok(&pod)))
        }
    });

    let inside = Namespaces::of(&rig);
    rig.ok(&["down"]);
    assert_eq!(inside.processes(), Vec::<PathBuf>::new());
    assert_eq!(cgroups(&rig), Vec::<PathBuf>::new());
    assert_eq!(outside(&rig), before);
}

#[test]
fn what_a_rig_writes_is_in_its_folder() {
    let Some(rig) = Rig::covered("covered") else { return };
    let before = outside(&rig);
    rig.up(&[]);
    rig.ok(&["exec", "--", "kubectl", "run", "web", "--image=web:1.4.2"]);
    rig.ok(&["exec", "--", "kubectl", "wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    rig.ok(&["exec", "--", "kubectl", "exec", "web", "--", "true"]);
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tagpin");
    let helm = ["exec", "--", "helm", "install", "tagpin", chart.to_str().unwrap(), "--create-namespace"];
    rig.ok(&[&helm[..], &["--namespace=tagpin-system", "--set=image.repository=tagpin"]].concat());

    let root = Path::new("/proc").join(rig.supervisor()).join("root");
    let layers = root.join(rig.cover().strip_prefix("/").unwrap());
    let mut written: Vec<String> = Vec::new();
    for folder in Rig::COVERED {
        let files = below(&layers.join(folder).join("upper"));
        written.extend(files.into_iter().map(|file| format!("{folder}/{file}")));
    }
    written.retain(|file| !Rig::HIDDEN.iter().any(|hidden| hidden.starts_with(&format!("{file}/"))));
    // Go counts its own calls in this folder. A rig that is built calls Go only to ask for its version.
    let home = below(&rig.developers_home()).into_iter().map(|file| format!("~/{file}"));
    written
        .extend(home.filter(|file| !format!("{file}/").starts_with("~/.config/go/") && file != "~/.config"));
    assert_eq!(written, Vec::<String>::new());

    let config = rig.folder().join("etc/rig/containerd.toml");
    let config =
        rig.ok(&["exec", "--", "containerd", "--config", config.to_str().unwrap(), "config", "dump"]);
    let runtime = config.split("[plugins.").find(|part| part.starts_with("'io.containerd.cri.v1.runtime']"));
    assert!(runtime.unwrap().contains("disable_apparmor = true"), "{config}");

    rig.ok(&["down"]);
    assert_eq!(cgroups(&rig), Vec::<PathBuf>::new());
    assert_eq!(outside(&rig), before);
}

/// A rig for one test. It is deleted with its data when the test ends, however the test ends.
struct Rig {
    name: &'static str,
    /// True if a layer catches everything that is written outside of the rig's folder, so that the test can look at it.
    covered: bool,
}

impl Rig {
    /// Returns a new rig, or none if this machine cannot run one.
    fn fresh(name: &'static str) -> Option<Self> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            drop(writeln!(std::io::stderr(), "skipped: a rig needs root"));
            return None;
        }
        let rig = Self { name, covered: false };
        rig.ok(&["down", "--purge"]);
        Some(rig)
    }

    /// Folders of the machine that a rig could write to; neither its own nor the cache is below one.
    const COVERED: [&str; 4] = ["etc", "opt", "usr", "var"];

    /// The folders that nodes of Kubernetes use by default. A machine may have them already, and a covered rig does not
    /// see them.
    const HIDDEN: [&str; 6] = [
        "etc/cni",
        "etc/kubernetes",
        "opt/cni",
        "opt/containerd",
        "usr/libexec/kubernetes",
        "var/lib/containers",
    ];

    /// Returns a new rig that finds the machine's folders under an empty layer, and an empty home.
    fn covered(name: &'static str) -> Option<Self> {
        let rig = Self { covered: true, ..Self::fresh(name)? };
        for folder in [rig.developers_home(), rig.cover()] {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
        }
        Some(rig)
    }

    /// Returns the folder with the layers of a covered rig, which is mounted for this rig alone.
    fn cover(&self) -> PathBuf {
        Self::home().join(format!("{}-layers", self.name))
    }

    /// Returns the home of the user who starts a covered rig.
    fn developers_home(&self) -> PathBuf {
        Self::home().join(format!("{}-home", self.name))
    }

    /// Returns a command that starts `xtask` with a layer over each folder of the machine.
    fn cover_up(&self) -> Command {
        let mounts = r#"
            mount -t tmpfs tmpfs "$COVER" || exit
            for hidden in $HIDDEN; do
                # In the upper layer such a device stands for what is deleted.
                file="$COVER/${hidden%%/*}/upper/${hidden#*/}"
                mkdir -p "$(dirname "$file")" && mknod "$file" c 0 0 || exit
            done
            for folder in $COVERED; do
                mkdir -p "$COVER/$folder/upper" "$COVER/$folder/work"
                layers="lowerdir=/$folder,upperdir=$COVER/$folder/upper,workdir=$COVER/$folder/work"
                mount -t overlay -o "$layers" overlay "/$folder" || exit
            done
            exec "$@""#;
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--", "sh", "-c", mounts, "sh", env!("CARGO_BIN_EXE_xtask")]);
        unshare.env("COVER", self.cover()).env("COVERED", Self::COVERED.join(" "));
        unshare.env("HIDDEN", Self::HIDDEN.join(" "));
        // The cache stays at its place.
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or(env::var_os("HOME").map(|home| Path::new(&home).join(".cache"))).unwrap();
        unshare.env("TAGPIN_CACHE", env::var_os("TAGPIN_CACHE").map_or(cache.join("tagpin"), PathBuf::from));
        unshare.env("HOME", self.developers_home()).env_remove("XDG_CACHE_HOME");
        unshare
    }

    fn home() -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("rigs")
    }

    fn folder(&self) -> PathBuf {
        Self::home().join(self.name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let program = || Command::new(env!("CARGO_BIN_EXE_xtask"));
        let mut command = if self.covered { self.cover_up() } else { program() };
        command.args(["rig", "--name", self.name, "--home"]).arg(Self::home()).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command that has to succeed, and returns its output.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn up(&self, more: &[&str]) {
        self.ok(&[&["up"], more].concat());
        assert_eq!(self.status()["ready"], true);
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--output", "json"])).unwrap()
    }

    fn component(&self, name: &str) -> Value {
        let status = self.status();
        let all = status["components"].as_array().unwrap();
        all.iter().find(|component| component["name"] == name).unwrap().clone()
    }

    fn supervisor(&self) -> String {
        self.status()["supervisor"].to_string()
    }

    fn apply(&self, object: &str) {
        let mut apply = self.command(&["exec", "--", "kubectl", "apply", "-f", "-"]);
        let mut apply = apply.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        apply.stdin.take().unwrap().write_all(object.as_bytes()).unwrap();
        assert!(apply.wait().unwrap().success());
    }

    fn available(&self, deployment: &str) {
        let deployment = format!("deployment/{deployment}");
        self.ok(&[
            "exec",
            "--",
            "kubectl",
            "wait",
            "--for=condition=Available",
            &deployment,
            "--timeout=60s",
        ]);
    }

    /// Returns true if a URL answers with success inside the rig within a second.
    fn serves(&self, url: &str) -> bool {
        let wget = ["exec", "--", "timeout", "1", "busybox", "wget", "-q", "-O", "/dev/null"];
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        self.run(&[&wget[..], &["--header", accept, url]].concat()).status.success()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--purge"]);
    }
}

/// The namespaces of a rig, by which the processes that are still in them are found.
struct Namespaces {
    links: Vec<PathBuf>,
}

impl Namespaces {
    fn of(rig: &Rig) -> Self {
        let process = Path::new("/proc").join(rig.supervisor());
        let link = |kind: &str| fs::read_link(process.join("ns").join(kind)).unwrap();
        Self { links: ["pid", "net", "mnt", "ipc", "uts"].map(link).into() }
    }

    fn processes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let inside = |process: &PathBuf| {
            let links = fs::read_dir(process.join("ns")).ok();
            links
                .into_iter()
                .flatten()
                .flatten()
                .any(|link| fs::read_link(link.path()).is_ok_and(|link| self.links.contains(&link)))
        };
        entries.filter(inside).collect()
    }
}

/// The ports of the programs of a rig, and of the services in Debian's packages.
const PORTS: [u16; 12] = [53, 443, 5000, 5001, 6443, 9090, 10248, 10249, 10250, 10256, 10257, 10259];

/// Returns the sockets of this machine that listen on one of these ports.
fn listeners() -> Vec<String> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap();
            if fields[3] == "0A" && PORTS.contains(&port) {
                found.push(format!("{table} {port}"));
            }
        }
    }
    found.sort();
    found
}

/// Returns the names of all files and folders below a folder, sorted.
fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            // A character device marks a file that a layer hides.
            if path.symlink_metadata().unwrap().file_type().is_char_device() {
                continue;
            }
            found.push(path.strip_prefix(folder).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns everything outside of the rig that a rig could change: interfaces, mounts, packet filters, kernel settings,
/// profiles, units, listeners.
fn outside(rig: &Rig) -> Vec<String> {
    let mut seen = Vec::new();
    let mut interfaces: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    interfaces.sort();
    seen.push(interfaces.join(" "));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = rig.folder().display().to_string();
    seen.extend(mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned));
    let rules = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    seen.push(String::from_utf8(rules.stdout).unwrap());
    for setting in
        ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys"]
    {
        seen.push(fs::read_to_string(Path::new("/proc/sys").join(setting)).unwrap());
    }
    // This file exists only where the kernel has AppArmor.
    seen.extend(fs::read_to_string("/sys/kernel/security/apparmor/profiles"));
    let units = Command::new("systemctl").args(["--root=/", "list-unit-files", "--no-legend"]).output();
    seen.extend(units.map(|units| String::from_utf8(units.stdout).unwrap()));
    seen.extend(listeners());
    seen
}

/// Returns the cgroups of this rig that exist.
fn cgroups(rig: &Rig) -> Vec<PathBuf> {
    let line = fs::read_to_string(rig.folder().join("etc/rig/kubelet.yaml")).unwrap();
    let kubelet: Value = serde_json::from_str(&line).unwrap();
    let root = kubelet["cgroupRoot"].as_str().unwrap().split('/').nth(1).unwrap().to_owned();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|hierarchy| hierarchy.join(&root));
    places.filter(|place| place.exists()).collect()
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
