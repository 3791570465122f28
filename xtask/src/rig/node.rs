//! The machines of a rig: their names, addresses and ranges, by number.

use std::net::Ipv4Addr;

/// One machine: the first is control plane and node, the others are nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    number: u8,
}

/// The address of the first machine, where the API server, the DNS and the registries listen.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 1);
/// The range of Services, as in k3s.
pub(crate) const SERVICES: &str = "10.43.0.0/16";
/// The first address of the range of Services, which belongs to the API server's own Service.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);
/// The range of pods, as in k3s.
pub(crate) const PODS: &str = "10.42.0.0/16";
/// The port of the API server.
pub(crate) const API_PORT: u16 = 6443;

impl Node {
    /// The machine that carries the control plane.
    pub(crate) const FIRST: Self = Self { number: 1 };

    pub(crate) fn numbered(number: u8) -> Self {
        Self { number }
    }

    /// Returns all machines of a rig with this number of nodes.
    pub(crate) fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self::numbered)
    }

    pub(crate) fn number(self) -> u8 {
        self.number
    }

    pub(crate) fn is_first(self) -> bool {
        self == Self::FIRST
    }

    /// Returns the name of the machine in Kubernetes, which is its host name too.
    pub(crate) fn name(self) -> String {
        if self.is_first() { "rig".to_owned() } else { format!("rig-{}", self.number) }
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 41, 0, self.number)
    }

    /// Returns the part of the pod range that is on this machine.
    pub(crate) fn pods(self) -> String {
        format!("10.42.{}.0/24", self.number - 1)
    }
}
