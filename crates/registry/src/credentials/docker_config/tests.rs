use secrecy::ExposeSecret;

use super::*;

/// `location user:password` of each entry; `-` for a credential that is none.
fn entries(config: &DockerConfig) -> Vec<String> {
    config
        .entries()
        .map(|(location, credential)| match credential {
            Credential::Anonymous | Credential::NotGiven | Credential::NotRead | Credential::NotNamed => {
                format!("{location} -")
            }
            Credential::Identity(token) => format!("{location} identity {}", token.expose_secret()),
            Credential::Registry(token) => format!("{location} registry {}", token.expose_secret()),
            Credential::Basic { username, password } => {
                format!("{location} {username}:{}", password.expose_secret())
            }
        })
        .collect()
}

fn parse(text: &str) -> Result<Vec<String>, DockerConfigError> {
    DockerConfig::from_config_json(text.as_bytes()).map(|config| entries(&config))
}

#[test]
fn auth_wins_over_username_and_password() {
    for (entry, expected) in [
        (r#"{"username":"u","password":"p"}"#, "r u:p"),
        (r#"{"username":"u","password":"p","auth":"YTpi"}"#, "r a:b"),
        (r#"{"username":"u","password":"p","auth":""}"#, "r u:p"),
        (r#"{"username":"u","password":"p","auth":null}"#, "r u:p"),
        (r#"{"auth":"YTpiOmM="}"#, "r a:b:c"),
        (r#"{"auth":"YTpiOmM"}"#, "r a:b:c"),
        (r#"{"auth":"YTpi\nOmM=\n"}"#, "r a:b:c"),
        (r#"{"auth":"YTpiOmN="}"#, "r a:b:c"),
        (r#"{"AUTH":"YTpi"}"#, "r a:b"),
        (r#"{"auth":"YTo="}"#, "r a:"),
        (r#"{"identitytoken":"x"}"#, "r -"),
        (r#"{"auth":"OnA="}"#, "r -"),
        ("{}", "r -"),
        ("null", "r -"),
    ] {
        let text = format!(r#"{{"auths":{{"r":{entry}}}}}"#);
        assert_eq!(parse(&text).unwrap(), [expected], "{entry}");
    }
}

#[test]
fn a_token_counts_for_a_person_and_is_passed_over_by_the_kubelet() {
    for (entry, person, kubelet, tokens) in [
        (r#"{"auth":"YTpi","identitytoken":"t"}"#, "r identity t", "r a:b", true),
        (r#"{"identitytoken":"t"}"#, "r identity t", "r -", true),
        (r#"{"registrytoken":"t"}"#, "r registry t", "r -", true),
        (r#"{"auth":"YTpi","identitytoken":""}"#, "r a:b", "r a:b", false),
        (r#"{"auth":"YTpi","identitytoken":1}"#, "r a:b", "r a:b", false),
    ] {
        let text = format!(r#"{{"auths":{{"r":{entry}}}}}"#);
        let own = DockerConfig::from_persons_json(text.as_bytes()).unwrap();
        let secret = DockerConfig::from_config_json(text.as_bytes()).unwrap();
        assert_eq!((entries(&own), entries(&secret)), (vec![person.to_owned()], vec![kubelet.to_owned()]));
        assert_eq!(secret.holds_tokens(), tokens, "{entry}");
    }
}

#[test]
fn one_broken_entry_spoils_the_whole_configuration_as_on_the_node() {
    for entry in [
        r#"{"auth":"YTpi "}"#,
        r#"{"auth":"not base64!"}"#,
        r#"{"auth":"YWI="}"#,
        r#"{"auth":"YTpiOmM=="}"#,
        r#"{"username":1}"#,
        r#"{"email":[]}"#,
        "[]",
        "7",
    ] {
        let text = format!(r#"{{"auths":{{"good":{{"auth":"YTpi"}},"bad":{entry}}}}}"#);
        assert_eq!(parse(&text).unwrap_err(), DockerConfigError::Malformed, "{entry}");
    }
    for text in ["", "{", "[]", r#"{"auths":[]}"#, r#"{"auths":{},"HttpHeaders":{"a":1}}"#, "{} {}"] {
        assert_eq!(parse(text).unwrap_err(), DockerConfigError::Malformed, "{text}");
    }
}

#[test]
fn what_is_not_there_is_empty() {
    for text in ["null", "{}", r#"{"auths":null}"#, r#"{"other":{"r":{"auth":"YTpi"}}}"#] {
        assert_eq!(parse(text).unwrap(), Vec::<String>::new(), "{text}");
    }
    assert_eq!(parse(r#"{"Auths":{"r":{"auth":"YTpi"}}}"#).unwrap(), ["r a:b"]);
}

#[test]
fn the_old_format_is_the_bare_map() {
    let config = DockerConfig::from_dockercfg(br#"{"r":{"auth":"YTpi"},"auths":{}}"#).unwrap();
    assert_eq!(entries(&config), ["auths -", "r a:b"]);
}

#[test]
fn helpers_are_noticed_and_not_run() {
    let config = DockerConfig::from_config_json(br#"{"credsStore":"pass","auths":{}}"#).unwrap();
    assert!(config.has_store());
    assert!(!DockerConfig::from_config_json(b"{}").unwrap().has_store());
    // The kubelet ignores whatever they hold.
    for text in [r#"{"credsStore":7}"#, r#"{"credHelpers":[]}"#, r#"{"credsStore":null,"credHelpers":null}"#]
    {
        assert_eq!(parse(text).unwrap(), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_helper_of_a_registry_counts_before_the_one_for_all() {
    let helper = |text: &str, domain: &str| {
        let config = DockerConfig::from_persons_json(text.as_bytes()).unwrap();
        config.helper(domain).map(|(helper, registry)| format!("{helper} for {registry}"))
    };
    let both = r#"{"credsStore":"pass","credHelpers":{"a.io":"ecr-login","docker.io":"hub","c.io":""}}"#;
    assert_eq!(helper(both, "a.io").as_deref(), Some("ecr-login for a.io"));
    assert_eq!(helper(both, "b.io").as_deref(), Some("pass for b.io"));
    assert_eq!(helper(both, "c.io"), None, "an empty name stands for the file");
    assert_eq!(helper(both, "docker.io").as_deref(), Some("hub for docker.io"));
    let hub = r#"{"credHelpers":{"docker.io":"b","https://index.docker.io/v1/":"a"}}"#;
    assert_eq!(helper(hub, "docker.io").as_deref(), Some("a for https://index.docker.io/v1/"));
    let store = r#"{"credsStore":"desktop"}"#;
    assert_eq!(helper(store, "docker.io").as_deref(), Some("desktop for https://index.docker.io/v1/"));
    assert_eq!(helper("{}", "a.io"), None);
}

#[test]
fn no_password_is_ever_printed() {
    let config = DockerConfig::from_config_json(br#"{"auths":{"r":{"username":"u","password":"hunter2"}}}"#);
    let printed = format!("{:?}", config.unwrap());
    assert!(printed.contains("\"u\"") && !printed.contains("hunter2"), "{printed}");
}
