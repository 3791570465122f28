//! The registry's host in a reference: its grammar, the spellings that programs read differently, and the one
//! spelling that policies see.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::{ReferenceError, ReferenceErrorKind, err};

/// Maximum length of a host in bytes; longer names do not resolve (RFC 1035).
const LIMIT: usize = 253;
/// Ends of the hosts of Amazon ECR, after the region.
const AMAZON: [&str; 5] =
    ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "on.aws", "on.amazonwebservices.com.cn"];

/// Checks `host [":" port]`: a name or an address in the one usual spelling, and a port that exists.
pub(super) fn check(domain: &str) -> Result<(), ReferenceError> {
    use ReferenceErrorKind as Kind;
    let (host, port) = split_port(domain);
    if let Some(port) = port
        && (port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err())
    {
        return Err(err(Kind::Domain, domain.len() - port.len()));
    }
    if host.len() > LIMIT {
        return Err(err(Kind::Domain, LIMIT));
    }
    if let Some(rest) = host.strip_prefix('[') {
        let inside = rest.strip_suffix(']').ok_or(err(Kind::Domain, 0))?;
        if inside.is_empty() || !inside.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return Err(err(Kind::Domain, 1));
        }
        return inside.parse::<Ipv6Addr>().map(|_| ()).map_err(|_| err(Kind::AmbiguousAddress, 1));
    }
    check_labels(host).map_err(|at| err(Kind::Domain, at))?;
    if reads_as_address(host) && host.parse::<Ipv4Addr>().is_err() {
        return Err(err(Kind::AmbiguousAddress, 0));
    }
    Ok(())
}

/// Checks `label *("." label)`, where a label is letters, digits and, between them, `-`. The error is the
/// offset of the first label that does not match.
fn check_labels(host: &str) -> Result<(), usize> {
    let (mut label, mut before) = (0, b'.');
    for (at, byte) in host.bytes().enumerate() {
        match byte {
            b'.' if before.is_ascii_alphanumeric() => label = at + 1,
            b'-' if before != b'.' => {}
            _ if byte.is_ascii_alphanumeric() => {}
            _ => return Err(label),
        }
        before = byte;
    }
    if before.is_ascii_alphanumeric() { Ok(()) } else { Err(label) }
}

/// Returns a checked domain in the spelling that policies see.
pub(super) fn policy_name(domain: &str) -> String {
    let (host, port) = split_port(domain);
    let mut host = host.to_ascii_lowercase();
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = inside.and_then(|inside| inside.parse::<Ipv6Addr>().ok()) {
        host = format!("[{address}]");
    }
    if let Some((account, region, partition)) = ecr(&host) {
        host = format!("{account}.dkr.ecr.{region}.{partition}");
    }
    match port.and_then(|port| port.parse::<u16>().ok()) {
        None | Some(443) => host,
        Some(port) => format!("{host}:{port}"),
    }
}

/// Splits a domain into its host and, if one is written, its port.
pub(super) fn split_port(domain: &str) -> (&str, Option<&str>) {
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    }
}

/// Returns the account, the region and the domain of the partition of an additional name of an ECR registry (dual
/// stack and FIPS).
fn ecr(host: &str) -> Option<(&str, &str, &'static str)> {
    const WORLD: &str = "amazonaws.com";
    const CHINA: &str = "amazonaws.com.cn";
    [
        (".dkr-ecr.", ".on.aws", WORLD),
        (".dkr-ecr-fips.", ".on.aws", WORLD),
        (".dkr.ecr-fips.", ".amazonaws.com", WORLD),
        (".dkr-ecr.", ".on.amazonwebservices.com.cn", CHINA),
        (".dkr-ecr-fips.", ".on.amazonwebservices.com.cn", CHINA),
    ]
    .into_iter()
    .find_map(|(middle, end, partition)| {
        let (account, region) = host.strip_suffix(end)?.split_once(middle)?;
        Some((account, region, partition))
    })
}

/// Returns the account and the region of a registry of Amazon ECR. Both consist of letters, digits and dashes.
pub(super) fn ecr_account(domain: &str) -> Option<(&str, &str)> {
    let (host, None) = split_port(domain) else { return None };
    let (account, rest) = host.split_once(".dkr")?;
    let rest = rest.strip_prefix(".ecr").or_else(|| rest.strip_prefix("-ecr"))?;
    let (region, suffix) = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?.split_once('.')?;
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let is_region = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (is_account && is_region && AMAZON.contains(&suffix)).then_some((account, region))
}

/// Returns true if a WHATWG URL parser takes the host for an IPv4 address ("ends in a number checker"). Such
/// a parser reads `127.1`, `2130706433` and `0x7f000001` as addresses, and other programs read them as names.
fn reads_as_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}
