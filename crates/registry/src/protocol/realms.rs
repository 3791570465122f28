//! Token services that may see the credential of a registry.

use url::{Host, Url};

/// Registries whose token service is on another host: the registry and its token service.
const PAIRS: [(&str, &str); 3] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];
/// Token service of the registries of Scaleway, which have one host for each region.
const SCALEWAY: &str = "api.scaleway.com";
/// Names of the registries of Alibaba in a region, and ends of those that belong to one customer.
const ALIBABA: ([&str; 3], [&str; 2]) =
    (["registry", "registry-vpc", "registry-internal"], ["-registry", "-registry-vpc"]);
/// Names of the token services of Alibaba in a region.
const ALIBABA_REALMS: [&str; 4] = ["dockerauth", "dockerauth-vpc", "dockerauth-ee", "dockerauth-ee-vpc"];

/// Returns true if a token service may see the credential of a registry: it is on the registry's own host, on the
/// well-known host for it, or on one that the operator trusts with it.
pub(super) fn may_see_credential(realm: &Url, registry: &Url, trusted: &[String]) -> bool {
    let (Some(realm_host), Some(registry_host)) = (realm.host(), registry.host()) else {
        return false;
    };
    realm_host == registry_host
        || is_well_known(registry, realm)
        || trusted.iter().any(|host| realm.host_str() == Some(host))
}

/// Returns true for the token service that a well-known registry is known to have. Both are asked over https at the
/// default port.
fn is_well_known(registry: &Url, realm: &Url) -> bool {
    let usual = |url: &Url| url.scheme() == "https" && url.port().is_none();
    let (Some(Host::Domain(registry_host)), Some(Host::Domain(realm_host))) = (registry.host(), realm.host())
    else {
        return false;
    };
    usual(registry)
        && usual(realm)
        && (PAIRS.contains(&(registry_host, realm_host))
            || (realm_host == SCALEWAY && is_scaleway(registry_host))
            || alibaba_region(registry_host).is_some_and(|region| is_alibaba_realm(realm_host, region)))
}

fn is_scaleway(host: &str) -> bool {
    let region = host.strip_prefix("rg.").and_then(|rest| rest.strip_suffix(".scw.cloud"));
    region.is_some_and(is_label)
}

/// Returns the region of a registry of Alibaba.
fn alibaba_region(host: &str) -> Option<&str> {
    let (name, rest) = host.strip_suffix(".aliyuncs.com")?.split_once('.')?;
    let (names, ends) = ALIBABA;
    let region = match rest.strip_suffix(".cr") {
        Some(region) => {
            let customer = ends.iter().find_map(|end| name.strip_suffix(end))?;
            Some(region).filter(|_| is_label(customer))?
        }
        None => Some(rest).filter(|_| names.contains(&name))?,
    };
    is_label(region).then_some(region)
}

/// Returns true for a token service of Alibaba in this region.
fn is_alibaba_realm(host: &str, region: &str) -> bool {
    let place = host.strip_suffix(".aliyuncs.com").and_then(|rest| rest.split_once('.'));
    place.is_some_and(|(name, of)| of == region && ALIBABA_REALMS.contains(&name))
}

fn is_label(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_password_goes_to_the_registrys_own_host_and_to_the_table() {
        let trusted = ["token.corp.test".to_owned()];
        let may = |realm: &str, registry: &str| may_see_credential(&url(realm), &url(registry), &trusted);
        assert!(may("https://token.corp.test:8443/auth", "https://reg.example/v2"));
        assert!(may("https://reg.example/token", "https://reg.example/v2"));
        assert!(may("https://reg.example:5001/auth", "https://reg.example:5000/v2"));
        assert!(may("https://REG.example/token", "https://reg.example/v2"));
        assert!(may("https://auth.docker.io/token", "https://registry-1.docker.io/v2"));
        assert!(may("https://gitlab.com/jwt/auth", "https://registry.gitlab.com/v2"));
        for (realm, registry) in [
            ("https://a.token.corp.test/auth", "https://reg.example/v2"),
            ("https://auth.docker.io/token", "https://evil.example/v2"),
            ("https://auth.docker.io.evil.example/token", "https://registry-1.docker.io/v2"),
            ("https://evil.example/token", "https://registry-1.docker.io/v2"),
            ("https://auth.reg.example/token", "https://reg.example/v2"),
            ("https://reg.example.evil.example/", "https://reg.example/v2"),
            ("https://gitlab.com/jwt/auth", "https://registry-1.docker.io/v2"),
        ] {
            assert!(!may(realm, registry), "{realm} for {registry}");
        }
    }

    #[test]
    fn the_clouds_with_a_token_service_of_their_own_are_known_region_by_region() {
        for (registry, realm, may) in [
            ("registry.digitalocean.com", "api.digitalocean.com", true),
            ("rg.fr-par.scw.cloud", "api.scaleway.com", true),
            ("registry.cn-hangzhou.aliyuncs.com", "dockerauth.cn-hangzhou.aliyuncs.com", true),
            ("registry-vpc.cn-hangzhou.aliyuncs.com", "dockerauth-vpc.cn-hangzhou.aliyuncs.com", true),
            ("registry-internal.eu-central-1.aliyuncs.com", "dockerauth.eu-central-1.aliyuncs.com", true),
            ("acme-registry.cn-beijing.cr.aliyuncs.com", "dockerauth-ee.cn-beijing.aliyuncs.com", true),
            (
                "acme-registry-vpc.cn-beijing.cr.aliyuncs.com",
                "dockerauth-ee-vpc.cn-beijing.aliyuncs.com",
                true,
            ),
            ("registry.cn-hangzhou.aliyuncs.com", "dockerauth.cn-beijing.aliyuncs.com", false),
            ("registry.cn-hangzhou.aliyuncs.com", "evil.cn-hangzhou.aliyuncs.com", false),
            ("evil.cn-hangzhou.aliyuncs.com", "dockerauth.cn-hangzhou.aliyuncs.com", false),
            ("-registry.cn-hangzhou.cr.aliyuncs.com", "dockerauth.cn-hangzhou.aliyuncs.com", false),
            ("registry.a.b.aliyuncs.com", "dockerauth.a.b.aliyuncs.com", false),
            ("rg.fr-par.scw.cloud.evil.example", "api.scaleway.com", false),
            ("rg.a.b.scw.cloud", "api.scaleway.com", false),
            ("rg.fr-par.scw.cloud", "api.scaleway.com.evil.example", false),
            ("registry.digitalocean.com", "api.scaleway.com", false),
        ] {
            let seen = |scheme: &str, registry: &str, realm: &str| {
                may_see_credential(
                    &url(&format!("{scheme}://{realm}/t")),
                    &url(&format!("{scheme}://{registry}/v2")),
                    &[],
                )
            };
            assert_eq!(seen("https", registry, realm), may, "{registry} {realm}");
            // A well-known name at another port or over http may be anybody.
            assert!(!seen("http", registry, realm), "{registry} {realm}");
            assert!(!seen("https", &format!("{registry}:5000"), realm), "{registry} {realm}");
            assert!(!seen("https", registry, &format!("{realm}:5000")), "{registry} {realm}");
        }
    }
}
