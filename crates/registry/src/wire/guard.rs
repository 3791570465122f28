//! The addresses that requests may reach.
//!
//! Literal addresses are checked before a request, and the addresses of a name just before the connection: a check of
//! names alone can be circumvented by DNS. The caller decides who may reach private addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;
use url::{Host, Url};

use crate::profile::endpoint::Endpoint;
use crate::profile::network::{IpNet, Network};

/// The set of addresses that a request may reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// Addresses of the public internet.
    Public,
    /// Public addresses, and private ones in the operator's own ranges.
    Own(Arc<[IpNet]>),
    /// Public and private addresses without loopback.
    PrivateNetwork,
    /// Public and private addresses and loopback, for hosts that the operator marks with `allowPrivate`. Link-local
    /// addresses and the metadata services of clouds are excluded.
    Private,
    /// All addresses but link-local ones and the metadata services of clouds, for the proxy that the operator names.
    Proxy,
    /// This machine and the metadata services of clouds only, for the credentials that a cloud gives.
    #[cfg_attr(
        not(any(feature = "aws", feature = "gcp", feature = "azure")),
        allow(dead_code, reason = "only clouds are asked there")
    )]
    Metadata,
}

/// Addresses of metadata services: of every cloud, ECS, EKS Pod Identity, both of them over IPv6, Google.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)),
];

/// The error for a host that has no address that may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address must not be contacted")]
pub(super) struct Forbidden {
    /// True if the host has no address that any entry could allow.
    pub(super) never: bool,
}

/// Resolves host names.
#[async_trait]
pub trait Names: Send + Sync {
    /// Returns all addresses of the name.
    ///
    /// # Errors
    /// Returns an error if the name does not resolve.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

impl Reach {
    /// Returns the addresses that a request to the endpoint itself may reach. What is allowed without an entry (the own
    /// ranges, the registries of clouds, the mirrors of the nodes) holds for no host that the endpoint leads to.
    pub(super) fn of_endpoint(endpoint: &Endpoint, url: &Url, network: &Network) -> Self {
        let own = || network.own.clone().filter(|_| url.scheme() == "https");
        match (endpoint.allow_private, endpoint.in_private_network) {
            (true, _) => Self::Private,
            (false, true) => Self::PrivateNetwork,
            (false, false) => own().map_or(Self::Public, Self::Own),
        }
    }

    /// Keeps the addresses that may be reached.
    ///
    /// # Errors
    /// Returns an error if none is left.
    pub(super) fn filter(&self, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Forbidden> {
        let never = addresses.iter().all(|address| class(*address) == Class::Never);
        let permitted: Vec<_> = addresses.into_iter().filter(|address| self.permits(*address)).collect();
        if permitted.is_empty() { Err(Forbidden { never }) } else { Ok(permitted) }
    }

    /// Checks a URL whose host is a literal address, which no resolver sees.
    ///
    /// # Errors
    /// Returns an error if the address may not be reached.
    pub(super) fn check_literal(&self, url: &Url) -> Result<(), Forbidden> {
        let Some(address) = literal(url) else {
            return if url.has_host() { Ok(()) } else { Err(Forbidden { never: true }) };
        };
        if self.permits(address) { Ok(()) } else { Err(Forbidden { never: class(address) == Class::Never }) }
    }

    /// Returns true if the address may be reached.
    #[must_use]
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        match self {
            Self::Public => class(address) == Class::Public,
            Self::Own(_) => class(address) == Class::Public || self.is_own(address),
            Self::PrivateNetwork => class(address) != Class::Never && !is_loopback(address),
            Self::Private | Self::Proxy => class(address) != Class::Never,
            Self::Metadata => address.is_loopback() || METADATA.contains(&address),
        }
    }
}

impl Reach {
    /// Returns true if the address is in the operator's own ranges.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        let Self::Own(own) = self else { return false };
        let private = class(address) == Class::Private && !is_loopback(address);
        private && own.iter().any(|net| net.contains(address))
    }

    /// Checks a URL that a proxy is asked for. The proxy resolves its name, so the name itself must not be one that
    /// means this machine, a cluster or the metadata service of a cloud.
    ///
    /// # Errors
    /// Returns an error if the name or the literal address may not be reached.
    pub(super) fn check_through_proxy(&self, url: &Url) -> Result<(), Forbidden> {
        self.check_literal(url)?;
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        let name = name.trim_end_matches('.');
        let is_below =
            |zone: &str| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if ["metadata.google.internal", "metadata.azure.internal", "instance-data.ec2.internal", "metadata"]
            .into_iter()
            .any(is_below)
        {
            return Err(Forbidden { never: true });
        }
        let inside = !name.contains('.')
            || ["localhost", "svc", "cluster.local", "internal", "local"].into_iter().any(is_below);
        match self {
            Self::Private | Self::PrivateNetwork => Ok(()),
            _ if inside => Err(Forbidden { never: false }),
            _ => Ok(()),
        }
    }

    /// Returns true if the host of the URL is a literal address in the operator's own ranges.
    pub(super) fn is_own_literal(&self, url: &Url) -> bool {
        literal(url).is_some_and(|address| self.is_own(address))
    }
}

/// Returns true if the host of the endpoint is a literal private address that nobody has allowed.
pub(crate) fn is_closed(endpoint: &Endpoint, network: &Network) -> bool {
    let reach = Reach::of_endpoint(endpoint, endpoint.root(), network);
    reach.check_literal(endpoint.root()).is_err_and(|forbidden| !forbidden.never)
}

/// Returns the host of a URL, if it is a literal address.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Returns true for an address of this machine, in each spelling.
fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || inside(v6).is_some_and(|v4| v4.iter().any(Ipv4Addr::is_loopback))
        }
    }
}

/// Checks that a range can be one of the operator's own: all of it is private, and none of it is loopback.
///
/// # Errors
/// Returns what is wrong with the range.
pub(crate) fn check_own(net: &IpNet) -> Result<(), &'static str> {
    let (first, last) = net.ends();
    let shortest = if first.is_ipv4() { 8 } else { 32 };
    if net.prefix() < shortest {
        return Err("is too large: write the ranges that are in use, at most a /8 of IPv4 or a /32 of IPv6");
    }
    let private = |address: IpAddr| {
        let written_as_v4 = matches!(address, IpAddr::V6(v6) if inside(v6).is_some());
        class(address) == Class::Private && !is_loopback(address) && !written_as_v4
    };
    match private(first) && private(last) {
        true => Ok(()),
        false => Err(
            "is not a range of private addresses: loopback, link-local and public addresses cannot be named",
        ),
    }
}

/// The class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Public,
    Private,
    Never,
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

/// Classifies by the IANA special-purpose address registry (RFC 6890), and by the metadata addresses outside of
/// 169.254/16.
fn class_v4(address: Ipv4Addr) -> Class {
    const ALIBABA_METADATA: [u8; 4] = [100, 100, 100, 200];
    const AZURE_WIRESERVER: [u8; 4] = [168, 63, 129, 16];
    match address.octets() {
        ALIBABA_METADATA | AZURE_WIRESERVER => Class::Never,
        // "This network"; link-local; IETF protocol assignments (with Oracle's metadata); 6to4 relays;
        // multicast, reserved and broadcast.
        [0, ..] | [169, 254, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [224..=255, ..] => Class::Never,
        [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        // Benchmarking and documentation addresses are not on the internet, so they are somebody's own.
        [198, 18 | 19, ..] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Private,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);
    const AWS_POD_IDENTITY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23);
    const GOOGLE_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254);
    if address == Ipv6Addr::LOCALHOST {
        return Class::Private;
    }
    if [AWS_METADATA, AWS_POD_IDENTITY, GOOGLE_METADATA].contains(&address) {
        return Class::Never;
    }
    if let Some(all) = inside(address) {
        return all.into_iter().map(class_v4).max().unwrap_or(Class::Never);
    }
    match address.segments() {
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Private,
        [0x2000..=0x3fff, ..] => Class::Public,
        // Unspecified, link-local, site-local, multicast and unassigned addresses.
        _ => Class::Never,
    }
}

/// Returns the IPv4 addresses in an IPv6 address that contains any, all of which count. For an address with one, both
/// are the same.
fn inside(address: Ipv6Addr) -> Option<[Ipv4Addr; 2]> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let (one, other) = match address.segments() {
        // Mapped, compatible, translated (RFC 2765), NAT64, 6to4, Teredo.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            (v4(high, low), v4(high, low))
        }
        [0x64, 0xff9b, 0 | 1, .., high, low] | [0x2002, high, low, ..] => (v4(high, low), v4(high, low)),
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            (v4(server_high, server_low), v4(!high, !low))
        }
        _ => return None,
    };
    Some([one, other])
}

#[cfg(test)]
mod tests;
