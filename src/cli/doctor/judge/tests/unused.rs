//! The rows about credentials that are not used, and about hosts that rest.

use super::*;

#[test]
fn the_host_that_rests_is_named_with_the_command_that_tries_it() {
    let change = |found: &mut Findings| {
        let resting_hosts = vec!["http://mirror.corp:5000".to_owned()];
        let registry = "docker.io".to_owned();
        let resting = LastAsked { registry, resting: 1, resting_hosts, ..LastAsked::default() };
        replica_mut(found).registries = vec![resting];
    };
    says(
        red("registries", change),
        "asks http://mirror.corp:5000 again in a moment",
        "curl -v http://mirror.corp:5000/v2/",
    );
}

#[test]
fn the_host_that_failed_is_named_also_when_it_rests_no_more() {
    let change = |found: &mut Findings| {
        let (registry, failed_host) = ("docker.io".to_owned(), Some("http://mirror.corp:5000".to_owned()));
        let last = Some("connect".to_owned());
        let failed = LastAsked { registry, last, seconds_ago: Some(40), failed_host, ..LastAsked::default() };
        replica_mut(found).registries = vec![failed];
    };
    says(
        red("registries", change),
        "heard connect from http://mirror.corp:5000 40 s ago",
        "curl -v http://mirror.corp:5000/v2/",
    );
}

#[test]
fn a_credential_that_is_not_used_and_what_makes_it_be_used() {
    for (registry, host, reason, about, detail, remedy) in [
        (
            "*.dkr.ecr.*.amazonaws.com",
            "123456789012.dkr.ecr.eu-north-1.amazonaws.com",
            "region",
            "eu-north-1",
            "no credential for the region eu-north-1, which is not in aws.regions",
            "add eu-north-1 to credentials.aws.regions of the entry match: \"*.dkr.ecr.*.amazonaws.com\"",
        ),
        (
            "other",
            "registry.corp",
            "realm",
            "gitlab.corp",
            "not sent to the token service at gitlab.corp",
            r#"registries: [{ match: "registry.corp", trustedRealms: ["gitlab.corp"] }]"#,
        ),
        (
            "*.corp",
            "registry.corp",
            "realm",
            "gitlab.corp",
            "not sent to the token service at gitlab.corp",
            r#"add trustedRealms: ["gitlab.corp"] to the entry match: "*.corp""#,
        ),
        (
            "docker.io",
            "docker.io",
            "helper",
            "shop/regcred",
            "the pull secret shop/regcred names a credential helper",
            "kubectl -n shop create secret docker-registry regcred --docker-server=https://index.docker.io/v1/ ",
        ),
        (
            "*.dkr.ecr.*.amazonaws.com",
            "123456789012.dkr.ecr.eu-north-1.amazonaws.com",
            "right",
            "ecr:DescribeImages",
            "has no right ecr:DescribeImages",
            "allow ecr:DescribeImages",
        ),
    ] {
        let unused = vec![UnusedCredential {
            host: host.to_owned(),
            reason: reason.to_owned(),
            about: about.to_owned(),
        }];
        let row = one("registries", Status::Note, |found| {
            // Both replicas say it, and the row stands once.
            for replica in found.replicas.as_mut().unwrap() {
                let last = LastAsked {
                    registry: registry.to_owned(),
                    unused: unused.clone(),
                    ..LastAsked::default()
                };
                replica.answers.as_mut().unwrap().registries = vec![last];
            }
        });
        assert!(row.detail.starts_with(&format!("{host}: ")), "{row:?}");
        says((row.detail, row.remedy.unwrap()), detail, remedy);
    }
}
