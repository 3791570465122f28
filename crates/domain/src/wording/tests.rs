use proptest::prelude::*;

use super::*;
use crate::fact::{AskedWith, Cloud, ForbiddenHost, Hidden, Position, Realm, SecretProblem, Unavailable};

fn say(violation: &Violation, reference: &str, entry: Option<&str>) -> [String; 2] {
    let image = ImageRef::parse(reference).unwrap();
    let wording = Wording::new(
        violation,
        &About { reference, image: Some(&image), entry, shown: None, container: None },
    );
    [wording.problem(), wording.remedy()]
}

fn hidden(with: AskedWith, cloud: Option<Cloud>, reference: &str) -> [String; 2] {
    say(&Violation::RepositoryMissingOrPrivate(Hidden { with, cloud }), reference, None)
}

fn names(names: &[&str]) -> Box<[String]> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const PRIVATE: &str = "corp.example/app:1";
const ADD: &str = "if the repository is private, add a pull secret for corp.example to the pod or its service account (imagePullSecrets)";
const LET_READ: &str = "ask the cluster admin to let tagpin read the pull secrets of the namespace shop, with pullSecrets: { \
                        mode: namespaces, namespaces: [shop] } in the values of tagpin";

#[test]
fn a_hidden_repository_says_what_was_named_read_and_tried() {
    let not_readable =
        |named: &[&str]| AskedWith::NotReadable { namespace: "shop".into(), named: names(named) };
    let unusable = |problem| AskedWith::Unusable { secret: "a".into(), problem };
    let create = "kubectl create secret docker-registry a --docker-server=corp.example --docker-username=USER \
                  --docker-password=PASSWORD";
    for (with, asked, remedy) in [
        (AskedWith::Unknown, "", format!("check the name; {ADD}")),
        (AskedWith::NoneNamed, "; the registry was asked without credentials", format!("check the name; {ADD}")),
        (
            not_readable(&[]),
            "; the registry was asked without credentials, because tagpin may not read pull secrets here",
            format!("check the name; {ADD}, and {LET_READ}"),
        ),
        (
            not_readable(&["a"]),
            "; the registry was asked without pull secret \"a\", which tagpin may not read",
            format!("the image may be fine; {LET_READ}"),
        ),
        (
            AskedWith::NoneMatches(names(&["a"])),
            "; the registry was asked without credentials, because pull secret \"a\" has none for it",
            "check the name; if the repository is private, add credentials for corp.example to pull secret \"a\""
                .to_owned(),
        ),
        (
            AskedWith::NoneMatches(names(&["a", "b"])),
            "; the registry was asked without credentials, because pull secrets \"a\", \"b\" have none for it",
            "check the name; if the repository is private, add credentials for corp.example to one of the pull secrets"
                .to_owned(),
        ),
        (
            unusable(SecretProblem::NotFound),
            "; the registry was asked without credentials, because pull secret \"a\" does not exist",
            format!("check the name; create the pull secret: {create}"),
        ),
        (
            unusable(SecretProblem::WrongType),
            "; the registry was asked without credentials, because pull secret \"a\" is empty or not of the type \
             kubernetes.io/dockerconfigjson",
            format!("check the name; delete the pull secret and create it again: {create}"),
        ),
        (
            unusable(SecretProblem::Malformed),
            "; the registry was asked without credentials, because pull secret \"a\" is not a docker configuration",
            format!("check the name; delete the pull secret and create it again: {create}"),
        ),
        (
            unusable(SecretProblem::Forbidden),
            "; the registry was asked without credentials, because pull secret \"a\" may not be read by tagpin",
            "check the name; ask the cluster admin to let tagpin read the pull secrets of the namespace, with \
             pullSecrets in the values of tagpin"
                .to_owned(),
        ),
        (
            AskedWith::Secret("a".into()),
            "; the registry was asked with pull secret \"a\"",
            "check the name; ask the owner of corp.example/app to give read access to the user of pull secret \"a\""
                .to_owned(),
        ),
        (
            AskedWith::Entry("*.example".into()),
            "; the registry was asked with the credentials of the entry match: \"*.example\"",
            "check the name; ask the owner of corp.example/app to give read access to the user in the entry match: \
             \"*.example\""
                .to_owned(),
        ),
    ] {
        let problem = format!("corp.example/app does not exist or is private{asked}");
        assert_eq!(hidden(with.clone(), None, PRIVATE), [problem, remedy], "{with:?}");
    }
}

#[test]
fn a_registry_of_a_cloud_is_told_as_the_entry_that_checks_it_unless_something_better_is_known() {
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let image = format!("{ecr}/app:1");
    let machine = format!(
        "check the name; nodes may pull the image with the identity of their machine; for tagpin to check the image, ask the \
         cluster admin to add registries: [{{ match: \"{ecr}\", credentials: {{ aws: {{}} }} }}] to the values of tagpin"
    );
    let none_readable = AskedWith::NotReadable { namespace: "shop".into(), named: names(&[]) };
    for with in [AskedWith::Unknown, AskedWith::NoneNamed, none_readable] {
        assert_eq!(hidden(with, Some(Cloud::Aws), &image)[1], machine);
    }
    for with in [AskedWith::Secret("a".into()), AskedWith::NoneMatches(names(&["a"]))] {
        assert!(!hidden(with.clone(), Some(Cloud::Aws), &image)[1].contains("match"), "{with:?}");
    }
    let violation =
        Violation::RepositoryMissingOrPrivate(Hidden { with: AskedWith::NoneNamed, cloud: Some(Cloud::Aws) });
    let [_, covered] = say(&violation, &image, Some("*.dkr.ecr.*.amazonaws.com"));
    assert!(
        covered.ends_with(
            "ask the cluster admin to add credentials: { aws: { regions: [\"eu-west-1\"] } } to the entry match: \
             \"*.dkr.ecr.*.amazonaws.com\" in the values of tagpin"
        ),
        "{covered}"
    );
}

#[test]
fn a_user_without_the_right_is_named() {
    let say = |with| say(&Violation::AccessDenied(Hidden { with, cloud: None }), PRIVATE, None);
    assert_eq!(
        say(AskedWith::Secret("a".into())),
        [
            "corp.example does not allow the user of pull secret \"a\" to read corp.example/app",
            "ask the owner of corp.example/app to give read access to the user of pull secret \"a\""
        ]
    );
    let [problem, remedy] = say(AskedWith::Entry("*.example".into()));
    assert!(problem.contains("the credentials of the entry match: \"*.example\""), "{problem}");
    assert!(remedy.contains("the user in the entry match: \"*.example\""), "{remedy}");
}

#[test]
fn the_command_for_a_pull_secret_holds_no_name_that_a_shell_reads() {
    let unusable = |secret: &str| {
        let with = AskedWith::Unusable { secret: secret.into(), problem: SecretProblem::NotFound };
        let [_, remedy] = hidden(with, None, "acme/app:1");
        remedy
    };
    let server = "--docker-server=https://index.docker.io/v1/";
    assert!(unusable("regcred").contains(&format!("docker-registry regcred {server}")));
    for name in ["a; rm -rf /", "$(id)", "", "A"] {
        assert!(unusable(name).contains(&format!("docker-registry NAME {server}")), "{name}");
    }
}

#[test]
fn a_local_build_is_told_what_keeps_it_on_its_node() {
    let [_, remedy] = hidden(AskedWith::NoneNamed, None, "webapi:dev");
    assert!(remedy.ends_with(&format!("; {LOCAL_BUILD}")), "{remedy}");
}

fn forbidden(authority: &str, position: Position) -> ForbiddenHost {
    ForbiddenHost {
        authority: authority.into(),
        position,
        registry: "registry.corp:5000".into(),
        entry: None,
        own_entry: None,
        untrusted: false,
        never: false,
    }
}

fn say_forbidden(host: ForbiddenHost) -> [String; 2] {
    say(&Violation::RegistryForbidden(Box::new(host)), "registry.corp:5000/app:1", None)
}

#[test]
fn a_host_is_allowed_by_the_entry_that_decides_about_it() {
    let registry = "match: \"registry.corp:5000\", allowPrivate: true";
    let other = "match: \"other.corp:8443\", allowPrivate: true";
    for (authority, position, role, entry) in [
        ("registry.corp:5000", Position::Registry, "", registry),
        ("other.corp:8443", Position::Mirror, ", a mirror of registry.corp:5000", registry),
        ("other.corp:8443", Position::TokenService, ", the token service of registry.corp:5000", other),
        ("other.corp:8443", Position::Redirect, ", to which registry.corp:5000 redirects", other),
    ] {
        let problem = format!("tagpin may not reach {authority}{role}: the address is private");
        let new = format!("ask the cluster admin to add registries: [{{ {entry} }}] to the values of tagpin");
        let host = forbidden(authority, position);
        assert_eq!(say_forbidden(host.clone()), [problem, new]);
        let covered = ForbiddenHost {
            entry: Some("r*.corp:5000".into()),
            own_entry: Some("o*.corp:8443".into()),
            ..host
        };
        let of = if entry == registry { "r*.corp:5000" } else { "o*.corp:8443" };
        let existing = format!(
            "ask the cluster admin to add allowPrivate: true to the entry match: \"{of}\" in the values of tagpin"
        );
        assert_eq!(say_forbidden(covered)[1], existing);
    }
}

#[test]
fn a_private_token_service_that_is_not_trusted_gets_both_settings() {
    let host = ForbiddenHost { untrusted: true, ..forbidden("auth.corp:8443", Position::TokenService) };
    let [_, both] = say_forbidden(host.clone());
    assert_eq!(
        both,
        "ask the cluster admin to add registries: [{ match: \"registry.corp:5000\", trustedRealms: [\"auth.corp\"] }, { \
         match: \"auth.corp:8443\", allowPrivate: true }] to the values of tagpin"
    );
    let covered = ForbiddenHost { entry: Some("*.corp:5000".into()), ..host };
    assert_eq!(
        say_forbidden(covered)[1],
        "ask the cluster admin to add trustedRealms: [\"auth.corp\"] to the entry match: \"*.corp:5000\", and add \
         registries: [{ match: \"auth.corp:8443\", allowPrivate: true }] to the values of tagpin"
    );
}

#[test]
fn an_address_that_no_entry_allows_gets_no_entry() {
    for (position, fix) in [
        (Position::Registry, "check the spelling of registry.corp:5000"),
        (Position::Mirror, "ask the cluster admin to correct the mirror 169.254.169.254"),
        (Position::TokenService, "ask the administrator of registry.corp:5000 to correct its answer"),
        (Position::Redirect, "ask the administrator of registry.corp:5000 to correct its answer"),
    ] {
        let host = ForbiddenHost { never: true, ..forbidden("169.254.169.254", position) };
        let [problem, remedy] = say_forbidden(host);
        assert!(problem.ends_with("the address is reserved, or one of a metadata service"), "{problem}");
        assert_eq!(remedy, format!("{fix}: no value of tagpin allows that address"));
    }
}

#[test]
fn a_token_service_that_is_not_trusted_is_told_as_the_entry() {
    let realm = |entry: Option<&str>| {
        let realm = Realm {
            registry: "corp.example".into(),
            realm: "auth.example".into(),
            entry: entry.map(Into::into),
        };
        say(&Violation::RealmNotTrusted(Box::new(realm)), PRIVATE, None)
    };
    assert_eq!(
        realm(None),
        [
            "corp.example wants the credentials of this pod at auth.example, to which tagpin does not send them",
            "ask the cluster admin to add registries: [{ match: \"corp.example\", trustedRealms: [\"auth.example\"] }] to \
             the values of tagpin"
        ]
    );
    assert!(
        realm(Some("*.example"))[1]
            .contains("add trustedRealms: [\"auth.example\"] to the entry match: \"*.example\"")
    );
}

#[test]
fn settings_of_a_registry_go_into_the_entry_that_covers_it() {
    for (violation, keys) in [
        (Violation::RegistryUnavailable(Unavailable::Tls), "tls: { caFile: PATH }"),
        (Violation::RateLimited, "credentials: { secretRef: { namespace: NAMESPACE, name: NAME } }"),
    ] {
        let [_, new] = say(&violation, PRIVATE, None);
        let wanted =
            format!("ask the cluster admin to add registries: [{{ match: \"corp.example\", {keys} }}]");
        assert!(new.contains(&wanted), "{new}");
        let [_, existing] = say(&violation, PRIVATE, Some("*.example"));
        let wanted =
            format!("ask the cluster admin to add {keys} to the entry match: \"*.example\" in the values");
        assert!(existing.contains(&wanted), "{existing}");
    }
    let no_credential = Violation::RegistryUnavailable(Unavailable::NoCredential);
    let image = "123456789012.dkr.ecr.eu-north-1.amazonaws.com/app:1";
    let [_, listed] = say(&no_credential, image, Some("*.dkr.ecr.*.amazonaws.com"));
    assert!(
        listed.contains(
            "add eu-north-1 to credentials.aws.regions of the entry match: \"*.dkr.ecr.*.amazonaws.com\""
        ),
        "{listed}"
    );
}

#[test]
fn a_well_known_registry_is_not_suspected_of_plain_http() {
    let tls = Violation::RegistryUnavailable(Unavailable::Tls);
    assert!(!say(&tls, "nginx:1", None)[1].contains("plain http"));
    let [_, remedy] = say(&tls, "lan.example:5000/app:1", None);
    assert!(
        remedy.ends_with(
            "; if lan.example:5000 speaks plain http, the keys are resolveFrom: mirrors-only, mirrors: [{ url: \
             \"http://lan.example:5000\" }] instead"
        ),
        "{remedy}"
    );
}

#[test]
fn a_client_error_is_not_booked_on_the_host() {
    let [problem, remedy] = say(&Violation::RegistryUnavailable(Unavailable::Status(400)), "a/b/c:1", None);
    assert_eq!(problem, "docker.io answered with status 400");
    assert_eq!(remedy, "check the name of the image: docker.io does not accept it");
    let [_, remedy] = say(&Violation::RegistryUnavailable(Unavailable::Status(503)), "a/b/c:1", None);
    assert!(remedy.contains("check that docker.io runs"), "{remedy}");
}

const ARCHIVED: Violation = Violation::ImageArchived { restoring: false };

#[test]
fn an_archived_image_is_told_as_the_command_that_restores_it() {
    let command = |host: &str, rest: &str| say(&ARCHIVED, &format!("{host}/{rest}"), None)[1].clone();
    for host in [
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr-ecr.eu-west-1.on.aws",
        "123456789012.dkr-ecr-fips.eu-west-1.on.aws",
        "123456789012.dkr.ecr-fips.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn",
    ] {
        assert_eq!(
            command(host, "acme/api:1.4"),
            "restore the image: aws ecr update-image-storage-class --registry-id 123456789012 --region eu-west-1 \
             --repository-name acme/api --image-id imageTag=1.4 --target-storage-class STANDARD",
            "{host}"
        );
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = command("123456789012.dkr.ecr.eu-west-1.amazonaws.com", &format!("api@{digest}"));
    assert!(by_digest.contains(&format!("--image-id imageDigest={digest} ")), "{by_digest}");
    // Behind another name, the account is not known.
    for host in [
        "mirror.example",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.example",
        "1.dkr.ecr.eu-west-1.amazonaws.com",
    ] {
        assert_eq!(command(host, "api:1"), format!("ask the owner of {host}/api to restore the image"));
    }
}

#[test]
fn an_image_that_is_being_restored_is_waited_for() {
    let [problem, remedy] = say(&Violation::ImageArchived { restoring: true }, PRIVATE, None);
    assert_eq!(problem, "tag \"1\" of corp.example/app is being restored from the archive of Amazon ECR");
    assert_eq!(remedy, "wait until the image is restored, then apply again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_command_that_restores_needs_no_quotes(
        account in "[0-9]{12}",
        region in "[ -~]{1,20}|[a-z]{2}-[a-z]{4}-[0-9]",
        path in "[ -~]{1,20}|[a-z0-9._/-]{1,20}",
        tag in "[ -~]{1,20}|[a-zA-Z0-9._-]{1,20}",
    ) {
        let reference = format!("{account}.dkr.ecr.{region}.amazonaws.com/{path}:{tag}");
        let Ok(image) = ImageRef::parse(&reference) else { return Ok(()) };
        let about = About { reference: &reference, image: Some(&image), entry: None, shown: None, container: None };
        let remedy = Wording::new(&ARCHIVED, &about).remedy();
        let Some(command) = remedy.strip_prefix("restore the image: ") else { return Ok(()) };
        for word in command.split(' ') {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:".contains(&b);
            prop_assert!(!word.is_empty() && word.bytes().all(plain), "{}", command);
        }
        prop_assert_eq!(command.split(' ').count(), 13);
        let value = |option: &str| command.split(' ').skip_while(|word| *word != option).nth(1);
        prop_assert_eq!(value("--repository-name"), Some(image.path()));
        for option in ["--repository-name", "--region"] {
            prop_assert!(!value(option).unwrap_or_default().starts_with('-'), "{}", command);
        }
    }
}
