//! Recognises the registries of clouds. The patterns match the whole host, so that a host that only looks like one
//! gets no credential.

use tagpin_domain::fact::Cloud;

/// A registry of Amazon ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EcrHost {
    /// The registry of one account in one region.
    Private {
        /// The number of the account.
        account: String,
        /// The region.
        region: String,
        /// The domain after the region.
        suffix: String,
        /// True for an endpoint that conforms to FIPS 140.
        fips: bool,
    },
    /// `public.ecr.aws`.
    Public,
}

/// A registry of Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcrHost(String);

/// Domains after the region: those of the partitions, and those of dual-stack hosts.
const SUFFIXES: [&str; 9] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "sc2s.sgov.gov",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

impl EcrHost {
    /// Parses a host without a port (`cmd/ecr-credential-provider` of cloud-provider-aws accepts the same forms).
    #[must_use]
    pub(crate) fn parse(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        if matches!(host.as_str(), "public.ecr.aws" | "ecr-public.aws.com") {
            return Some(Self::Public);
        }
        let (account, rest) = host.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        // Dual-stack hosts have a dash where the others have a dot.
        let rest =
            rest.strip_prefix("dkr.ecr").or_else(|| rest.strip_prefix("dkr-ecr")).filter(|_| is_account)?;
        let (fips, rest) = match rest.strip_prefix("-fips") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (region, suffix) = rest.strip_prefix('.')?.split_once('.')?;
        let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let is_region = !region.is_empty() && !region.starts_with(['-', '_']) && region.bytes().all(byte);
        let known = is_region && SUFFIXES.contains(&suffix);
        known.then(|| Self::Private {
            account: account.to_owned(),
            region: region.to_owned(),
            suffix: suffix.to_owned(),
            fips,
        })
    }

    /// Returns the region whose API gives the tokens; the public registry has one region for all.
    #[must_use]
    pub(crate) fn region(&self) -> &str {
        match self {
            Self::Private { region, .. } => region,
            Self::Public => "us-east-1",
        }
    }

    /// Returns the URL of the API.
    #[must_use]
    pub(crate) fn api(&self) -> String {
        match self {
            Self::Public => "https://api.ecr-public.us-east-1.amazonaws.com/".to_owned(),
            Self::Private { region, suffix, fips, .. } => {
                let dual_stack = match suffix.as_str() {
                    "on.aws" => Some("api.aws"),
                    "on.amazonwebservices.com.cn" => Some("api.amazonwebservices.com.cn"),
                    _ => None,
                };
                match (dual_stack, fips) {
                    (Some(suffix), false) => format!("https://ecr.{region}.{suffix}/"),
                    (Some(suffix), true) => format!("https://ecr-fips.{region}.{suffix}/"),
                    (None, false) => format!("https://api.ecr.{region}.{suffix}/"),
                    (None, true) => format!("https://ecr-fips.{region}.{suffix}/"),
                }
            }
        }
    }

    /// Returns the URL of STS in the partition, which gives tokens for roles.
    #[cfg(feature = "aws")]
    #[must_use]
    pub(crate) fn sts(&self) -> String {
        let region = self.region();
        let suffix = match self {
            Self::Public => "amazonaws.com",
            Self::Private { suffix, .. } => match suffix.as_str() {
                "on.aws" => "amazonaws.com",
                "on.amazonwebservices.com.cn" => "amazonaws.com.cn",
                suffix => suffix,
            },
        };
        format!("https://sts.{region}.{suffix}/")
    }
}

impl AcrHost {
    /// Parses a host without a port.
    pub(crate) fn parse(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let (name, zone) = host.split_once('.')?;
        let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ours = matches!(zone, "azurecr.io" | "azurecr.cn" | "azurecr.us" | "azurecr.de");
        (ours && !name.is_empty() && name.bytes().all(byte)).then_some(Self(host))
    }

    /// Returns the host.
    pub(crate) fn login(&self) -> &str {
        &self.0
    }
}

/// Returns true if a host without a port is a registry of Amazon, Google or Azure.
pub(crate) fn is_cloud_registry(host: &str) -> bool {
    EcrHost::parse(host).is_some() || cloud_of(host).is_some()
}

/// Returns the cloud whose identities may read the private images of a host without a port.
pub(crate) fn cloud_of(host: &str) -> Option<Cloud> {
    if matches!(EcrHost::parse(host), Some(EcrHost::Private { .. })) {
        Some(Cloud::Aws)
    } else if is_google(host) {
        Some(Cloud::Gcp)
    } else {
        AcrHost::parse(host).map(|_| Cloud::Azure)
    }
}

/// Returns true if a host without a port is a registry of Google.
pub(crate) fn is_google(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let label = |text: &str| {
        let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !text.is_empty() && text.bytes().all(byte)
    };
    host == "gcr.io"
        || host.strip_suffix(".gcr.io").is_some_and(label)
        || host.strip_suffix("-docker.pkg.dev").is_some_and(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_registry_has_the_cloud_whose_identities_it_knows() {
        for (host, cloud) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some(Cloud::Aws)),
            ("public.ecr.aws", None),
            ("europe-docker.pkg.dev", Some(Cloud::Gcp)),
            ("acme.azurecr.io", Some(Cloud::Azure)),
            ("acme.azurecr.io.example.com", None),
            ("docker.io", None),
        ] {
            assert_eq!(cloud_of(host), cloud, "{host}");
        }
    }

    #[test]
    fn every_form_of_an_ecr_host_has_its_api() {
        for (host, api, sts) in [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                "api.ecr.eu-west-1.amazonaws.com",
                "eu-west-1.amazonaws.com",
            ),
            (
                "123456789012.DKR.ecr.eu-west-1.amazonaws.com",
                "api.ecr.eu-west-1.amazonaws.com",
                "eu-west-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "api.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1.amazonaws.com.cn",
            ),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr.eu-west-1.api.aws", "eu-west-1.amazonaws.com"),
            (
                "123456789012.dkr-ecr-fips.us-east-1.on.aws",
                "ecr-fips.us-east-1.api.aws",
                "us-east-1.amazonaws.com",
            ),
            (
                "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
                "ecr.cn-north-1.api.amazonwebservices.com.cn",
                "cn-north-1.amazonaws.com.cn",
            ),
            (
                "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
                "api.ecr.eusc-de-east-1.amazonaws.eu",
                "eusc-de-east-1.amazonaws.eu",
            ),
            (
                "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
                "api.ecr.us-iso-east-1.c2s.ic.gov",
                "us-iso-east-1.c2s.ic.gov",
            ),
            ("public.ecr.aws", "api.ecr-public.us-east-1.amazonaws.com", "us-east-1.amazonaws.com"),
            ("ecr-public.aws.com", "api.ecr-public.us-east-1.amazonaws.com", "us-east-1.amazonaws.com"),
        ] {
            let ecr = EcrHost::parse(host).unwrap();
            assert_eq!(ecr.api(), format!("https://{api}/"), "{host}");
            #[cfg(feature = "aws")]
            assert_eq!(ecr.sts(), format!("https://sts.{sts}/"), "{host}");
            #[cfg(not(feature = "aws"))]
            let _ = sts;
        }
    }

    #[test]
    fn what_only_looks_like_ecr_is_not() {
        for host in [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "evil.example.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901x.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.evil.example/.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.-.amazonaws.com",
            "123456789012.dkr.ecrx.eu-west-1.amazonaws.com",
            "public.ecr.aws.evil.example",
            "public.ecr.aws:443",
            "",
        ] {
            assert_eq!(EcrHost::parse(host), None, "{host}");
        }
    }

    #[test]
    fn registries_of_google_and_azure_end_where_they_should() {
        for host in ["gcr.io", "eu.gcr.io", "europe-west1-docker.pkg.dev", "EU.gcr.io"] {
            assert!(is_google(host), "{host}");
        }
        for host in [
            "gcr.io.evil.example",
            "evilgcr.io",
            "a.b.gcr.io",
            "docker.pkg.dev",
            "-docker.pkg.dev",
            "pkg.dev",
        ] {
            assert!(!is_google(host), "{host}");
        }
        for host in ["acme.azurecr.io", "acme-1.azurecr.us", "Acme.azurecr.cn"] {
            assert_eq!(AcrHost::parse(host).unwrap().login(), host.to_ascii_lowercase());
        }
        for host in [
            "azurecr.io",
            ".azurecr.io",
            "a.b.azurecr.io",
            "acme.azurecr.io.evil.example",
            "acme.azurecr.com",
        ] {
            assert_eq!(AcrHost::parse(host), None, "{host}");
        }
    }
}
