//! The network around tagpin, as the operator describes it for all registries.

use std::net::IpAddr;
use std::sync::Arc;

use url::Url;

use crate::profile::proxy::{NoProxy, ProxyWay};
use crate::profile::tls::CaBundle;

/// The network around tagpin.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The operator's own ranges of private addresses, in which registries may be asked over https.
    pub own: Option<Arc<[IpNet]>>,
    /// The proxy that leads to registries.
    pub proxy: Option<Arc<ProxyWay>>,
    /// The hosts that are asked without the proxy.
    pub no_proxy: NoProxy,
    /// Certificate authorities that are trusted for all hosts, such as that of a proxy that decrypts.
    pub ca: Option<CaBundle>,
}

impl Network {
    /// Returns the proxy that leads to this URL; none if it is asked directly.
    #[must_use]
    pub fn proxy_for(&self, url: &Url) -> Option<&Arc<ProxyWay>> {
        self.proxy.as_ref().filter(|_| !self.no_proxy.covers(url))
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNet {
    first: IpAddr,
    /// Number of leading bits that the addresses of the range share.
    prefix: u32,
}

/// The reason why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpNetError {
    /// The text has another form.
    #[error("write a range of addresses, such as 10.20.0.0/16")]
    Form,
    /// The address has bits after the prefix.
    #[error("is not the first address of the range: write {0}")]
    NotFirst(String),
}

impl IpNet {
    /// Parses a range in CIDR notation.
    ///
    /// # Errors
    /// Returns an error for another form, and for an address that is not the first one of its range.
    pub fn parse(text: &str) -> Result<Self, IpNetError> {
        let (address, prefix) = text.split_once('/').ok_or(IpNetError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| IpNetError::Form)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u32 = if digits { prefix.parse().map_err(|_| IpNetError::Form)? } else { u32::MAX };
        if prefix > bits(address) {
            return Err(IpNetError::Form);
        }
        let net = Self { first: ends(address, prefix).0, prefix };
        if net.first == address {
            Ok(net)
        } else {
            Err(IpNetError::NotFirst(format!("{}/{prefix}", net.first)))
        }
    }

    /// Returns true if the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits(address) == bits(self.first) && ends(address, self.prefix).0 == self.first
    }

    /// Returns the first and the last address.
    pub(crate) fn ends(&self) -> (IpAddr, IpAddr) {
        ends(self.first, self.prefix)
    }

    /// Returns the number of leading bits that the addresses share.
    pub(crate) const fn prefix(&self) -> u32 {
        self.prefix
    }
}

const fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Returns the first and the last address of the range of this prefix that holds the address.
fn ends(address: IpAddr, prefix: u32) -> (IpAddr, IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let v4 = u32::from(v4);
            (IpAddr::V4((v4 & !rest).into()), IpAddr::V4((v4 | rest).into()))
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let v6 = u128::from(v6);
            (IpAddr::V6((v6 & !rest).into()), IpAddr::V6((v6 | rest).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        for (range, inside, outside) in [
            ("10.20.0.0/16", "10.20.255.255", "10.21.0.0"),
            ("192.168.1.128/25", "192.168.1.128", "192.168.1.127"),
            ("10.0.0.7/32", "10.0.0.7", "10.0.0.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd12::/32", "fd12:0:ffff::1", "fd12:1::"),
            ("10.20.0.0/16", "::ffff:10.20.0.1", "::10.20.0.1"),
        ] {
            let net = IpNet::parse(range).unwrap();
            assert!(net.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!net.contains(outside.parse().unwrap()), "{range} {outside}");
        }
    }

    #[test]
    fn a_range_is_written_in_one_way() {
        for text in
            ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "fd00::/129", "a/8", "/8"]
        {
            assert_eq!(IpNet::parse(text), Err(IpNetError::Form), "{text}");
        }
        assert_eq!(IpNet::parse("10.1.2.3/8"), Err(IpNetError::NotFirst("10.0.0.0/8".to_owned())));
    }
}
