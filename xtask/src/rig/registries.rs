//! The registries of a rig: their processes, and the configuration by which nodes and tagpin find them.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::component::Component;
use super::node::ADDRESS;
use super::probe::Probe;
use super::state::{State, write};
use crate::{command, packages};

/// The host of the registry with TLS, basic authentication, a name of its own and a CA of its own.
pub(crate) const PRIVATE_HOST: &str = "private.registry.test";
/// The host of a gateway before the private registry, which answers 404 to those who have no password.
pub(crate) const HIDING_HOST: &str = "hiding.registry.test";
const HIDING_PORT: u16 = 8443;
/// The host of images that nodes pull from the mirror instead.
const MIRRORED: &str = "docker.io";
const MIRROR_PORT: u16 = 5000;
/// The image of every pod's sandbox.
pub(crate) const PAUSE: &str = "docker.io/rig/pause:1";
/// The user who may pull from the private registry.
const USER: &str = "rig";

/// A registry of the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    /// Plain HTTP, anonymous; nodes ask it for `docker.io`
    Mirror,
    /// `private.registry.test`: TLS, basic authentication
    Private,
}

impl Registry {
    pub(crate) const ALL: [Self; 2] = [Self::Mirror, Self::Private];

    /// Returns the name of the registry's component.
    pub(crate) fn component(self) -> &'static str {
        match self {
            Self::Mirror => "registry-mirror",
            Self::Private => "registry-private",
        }
    }

    /// Returns the host that image references name.
    pub(crate) fn host(self) -> &'static str {
        match self {
            Self::Mirror => MIRRORED,
            Self::Private => PRIVATE_HOST,
        }
    }

    /// Returns the address that the registry listens on.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Self::Mirror => SocketAddr::from((ADDRESS, MIRROR_PORT)),
            Self::Private => SocketAddr::from((ADDRESS, 443)),
        }
    }

    /// Returns the folder with the registry's data, seen from outside.
    pub(crate) fn data(self, state: &State) -> PathBuf {
        state.var("rig").join("lib").join(self.component())
    }
}

/// Returns the processes of both registries, and of the gateway that hides one of them.
pub(crate) fn components(state: &State) -> Result<Vec<Component>> {
    let program = packages::program("docker-registry")?;
    let component = |registry: Registry| {
        let config = state.etc(&format!("{}.yaml", registry.component()));
        let args = vec!["serve".to_owned(), config.display().to_string()];
        Component::new(registry.component(), program.clone(), args).serving(Probe::Tcp(registry.address()))
    };
    let mut components: Vec<Component> = Registry::ALL.map(component).into();
    components.push(hiding(state));
    Ok(components)
}

/// Returns host and port of the registry that hides what is private.
pub(crate) fn hiding_authority() -> String {
    format!("{HIDING_HOST}:{HIDING_PORT}")
}

fn hiding(state: &State) -> Component {
    let address = SocketAddr::from((ADDRESS, HIDING_PORT));
    let args = [
        ("listen", address.to_string()),
        ("host", hiding_authority()),
        ("certificate", state.pki("hiding-registry.crt").display().to_string()),
        ("key", state.pki("hiding-registry.key").display().to_string()),
        ("upstream", format!("https://{PRIVATE_HOST}")),
        ("authority", state.private_registry("ca.crt").display().to_string()),
        ("user", state.private_registry("username").display().to_string()),
        ("password", state.private_registry("password").display().to_string()),
    ];
    let args = args.map(|(name, value)| format!("-{name}={value}")).into();
    Component::new("registry-hiding", state.bin().join("hiding"), args).serving(Probe::Tcp(address))
}

/// Writes the configuration that the registries, containerd and tagpin read.
pub(crate) fn write_config(state: &State) -> Result<()> {
    credentials(state)?;
    for registry in Registry::ALL {
        let config = serde_json::to_vec_pretty(&config(state, registry))?;
        write(&state.etc(&format!("{}.yaml", registry.component())), &config)?;
    }
    let mirror = format!("http://{}", Registry::Mirror.address());
    // The mirror is named as the server too, so that images that it lacks do not exist.
    let hosts =
        format!("server = \"{mirror}\"\n\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    write(&state.etc(&format!("hosts/{MIRRORED}/hosts.toml")), hosts.as_bytes())?;
    let ca = state.private_registry("ca.crt");
    for host in [PRIVATE_HOST.to_owned(), hiding_authority()] {
        let hosts = format!(
            "server = \"https://{host}\"\n\n[host.\"https://{host}\"]\n  \
             capabilities = [\"pull\", \"resolve\"]\n  ca = \"{}\"\n",
            ca.display()
        );
        write(&state.etc(&format!("hosts/{host}/hosts.toml")), hosts.as_bytes())?;
    }
    let k3s = format!("mirrors:\n  {MIRRORED}:\n    endpoint:\n      - {mirror}\n");
    write(&state.registries_yaml(), k3s.as_bytes())
}

/// Creates the user of the private registry, and writes the files that its clients need.
fn credentials(state: &State) -> Result<()> {
    let password = state.private_registry("password");
    if !password.exists() {
        let mut random = [0; 12];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let fresh: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        write(&password, fresh.as_bytes())?;
    }
    let line = command::output("htpasswd", ["-Bbn", USER, &fs::read_to_string(&password)?])?;
    write(&state.etc("registry-private.htpasswd"), line.trim().as_bytes())?;
    write(&state.private_registry("username"), USER.as_bytes())?;
    write(&state.private_registry("ca.crt"), &fs::read(state.pki("private-ca.crt"))?)
}

fn config(state: &State, registry: Registry) -> Value {
    let (tls, auth) = match registry {
        Registry::Mirror => (json!({}), json!({})),
        Registry::Private => (
            json!({
                "certificate": state.pki("private-registry.crt"),
                "key": state.pki("private-registry.key"),
            }),
            json!({ "htpasswd": { "realm": "rig", "path": state.etc("registry-private.htpasswd") } }),
        ),
    };
    json!({
        "version": 0.1,
        "log": { "level": "warn", "accesslog": { "disabled": false } },
        "storage": {
            "filesystem": { "rootdirectory": format!("/var/lib/{}", registry.component()) },
            "delete": { "enabled": true },
        },
        "auth": auth,
        "http": {
            "addr": registry.address().to_string(),
            "secret": "one process, nothing to share",
            "tls": tls,
        },
    })
}
