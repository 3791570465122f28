//! Tests of `cargo xtask` on a machine that lacks something: no service is started on it, and a plain sentence says
//! what to install.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking and say why they are skipped"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The folders in which Debian looks for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The programs that the test hides from the machine: those of two services, and one of an ordinary package.
const LACKED: [&str; 4] = ["docker-registry", "prometheus", "promtool", "pigz"];

/// Script of apt-get on a machine with systemd, where an installation starts and enables the services of the package.
const APT: &str = r#"
for last; do :; done
case "$1" in
download) cp "$FOLDER/$last.deb" "./${last}_1.0_all.deb" ;;
install)
    for package; do
        case "$package" in
        docker-registry | prometheus)
            for program in "$package" promtool; do cp /bin/true "$FOLDER/bin/$program"; done
            systemctl enable --now "$package.service" ;;
        pigz) cp /bin/true "$FOLDER/bin/pigz" ;;
        esac
    done ;;
esac
"#;

#[test]
fn the_services_of_packages_are_neither_installed_nor_started() {
    if !is_root() {
        drop(writeln!(std::io::stderr(), "skipped: hiding programs needs root"));
        return;
    }
    let machine = Machine::new();
    machine.stub("apt-get", APT);
    machine.stub("dpkg", "");
    machine.stub("systemctl", "");
    machine.package("docker-registry", &["docker-registry"]);
    machine.package("prometheus", &["prometheus", "promtool"]);

    ok(machine.lacking(&["packages"]));
    let log = machine.log();
    assert!(!log.contains("systemctl"), "a service was touched:\n{log}");
    assert!(!log.contains("postinst"), "a script of a package ran:\n{log}");
    let install = log.lines().find(|line| line.starts_with("apt-get install")).unwrap();
    assert!(install.ends_with(" pigz"), "only what starts nothing is installed: {install}");

    for program in ["docker-registry", "prometheus", "promtool"] {
        let said = ok(machine.lacking(&["part", program]));
        let file = Path::new(said.lines().last().unwrap()).join(program);
        assert!(file.starts_with(machine.cache()), "{}", file.display());
        assert_eq!(ok(Command::new(file).output().unwrap()), format!("this is {program}"));
    }
    assert_eq!(machine.log(), log, "what is there is not fetched again");
}

#[test]
fn a_go_that_is_missing_or_too_old_is_told_with_what_to_install() {
    let machine = Machine::new();
    let part = |path: &str| {
        let mut part = machine.xtask(&["part", "kine"]);
        let output = part.env("PATH", path).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let sentence = "install Go 1.26 or newer (https://go.dev/dl)";
    let bin = machine.folder().join("bin").display().to_string();
    let missing = part(&bin);
    assert!(missing.contains(sentence), "{missing}");

    machine.stub(
        "go",
        r#"if [ "$1" = env ]; then echo go1.19.8; else echo "go.mod:7: unknown directive: tool" >&2; exit 1; fi"#,
    );
    let old = part(&format!("{bin}:{PATH}"));
    assert!(old.contains(sentence) && old.contains("go1.19.8"), "{old}");
    assert!(!old.contains("unknown directive"), "{old}");
}

#[test]
fn what_needs_root_says_so() {
    let machine = Machine::new();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    // Other users may not look into the folder that cargo builds in.
    let program = machine.folder().join("xtask");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &program).unwrap();
    let home = machine.folder().join("rigs");
    fs::create_dir_all(home.join("default")).unwrap();
    [machine.folder(), &program, &home, &home.join("default")].into_iter().for_each(open);
    for words in [&["up"][..], &["down"], &["down", "--purge"], &["push"], &["exec", "--", "true"]] {
        let mut rig = if is_root() {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
            setpriv
        } else {
            Command::new(&program)
        };
        rig.args(["rig", "--home"]).arg(&home).args(words).env("TAGPIN_CACHE", machine.cache());
        let output = rig.current_dir("/").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("a rig needs root"), "{words:?}: {said}");
    }
}

/// A machine whose programs are stubs and whose cache is empty.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::new().unwrap());
        fs::create_dir(machine.folder().join("bin")).unwrap();
        machine
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn cache(&self) -> PathBuf {
        self.folder().join("cache")
    }

    /// Returns the calls of stubs, one per line.
    fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap()
    }

    /// Adds a program that writes down how it is called, and then runs `script`.
    fn stub(&self, name: &str, script: &str) {
        let log = r#"FOLDER="$(dirname "$(dirname "$0")")"; echo "${0##*/} $*" >>"$FOLDER/log""#;
        executable(&self.folder().join("bin").join(name), &format!("#!/bin/sh\n{log}\n{script}\n"));
    }

    /// Makes a Debian package with a service, a script that runs at its installation, and these programs.
    fn package(&self, name: &str, programs: &[&str]) {
        let root = self.folder().join(format!("{name}-root"));
        let control = format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: tests <tests@example.com>\nDescription: of a test\n"
        );
        for folder in ["DEBIAN", "usr/bin", "lib/systemd/system"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("DEBIAN/control"), control).unwrap();
        let log = self.folder().join("log").display().to_string();
        executable(&root.join("DEBIAN/postinst"), &format!("#!/bin/sh\necho postinst >>{log}\n"));
        fs::write(root.join("lib/systemd/system").join(format!("{name}.service")), "[Service]\n").unwrap();
        for program in programs {
            executable(&root.join("usr/bin").join(program), &format!("#!/bin/sh\necho this is {program}\n"));
        }
        let archive = self.folder().join(format!("{name}.deb"));
        ok(Command::new("dpkg-deb").arg("--build").args([&root, &archive]).output().unwrap());
    }

    fn xtask(&self, words: &[&str]) -> Command {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(words).env("TAGPIN_CACHE", self.cache());
        xtask
    }

    /// Runs `cargo xtask WORDS` on a machine that lacks some programs and has the stubs.
    fn lacking(&self, words: &[&str]) -> Output {
        // A device in the place of a program hides it. The mount ends with the namespace.
        let hide = r#"
            for name in $LACKED; do
                for folder in $(echo "$PATH" | tr : ' '); do
                    if [ -f "$folder/$name" ]; then mount --bind /dev/null "$folder/$name" || exit; fi
                done
            done
            PATH="$BIN:$PATH" exec "$@""#;
        let mut lacking = Command::new("unshare");
        lacking.args(["--mount", "--", "sh", "-c", hide, "sh", env!("CARGO_BIN_EXE_xtask")]).args(words);
        lacking.env("TAGPIN_CACHE", self.cache()).env("PATH", PATH).env("LACKED", LACKED.join(" "));
        lacking.env("BIN", self.folder().join("bin")).output().unwrap()
    }
}

fn executable(file: &Path, script: &str) {
    fs::write(file, script).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[track_caller]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
