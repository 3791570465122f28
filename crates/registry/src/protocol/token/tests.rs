use secrecy::ExposeSecret;

use super::*;

const ASKED: &str = "https://reg.example:5000/v2/team/app/manifests/1";

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn ask(realm: &str, scope: Option<&str>, plain_http: bool) -> Result<String, RealmError> {
    let bearer = Bearer {
        realm: realm.to_owned(),
        service: Some("reg & co".to_owned()),
        scope: scope.map(str::to_owned),
    };
    let realm = realm_url(&bearer, &url(ASKED), plain_http)?;
    Ok(token_url(realm, &bearer, "team/app").into())
}

#[test]
fn service_and_scope_are_added_to_the_query_that_is_there() {
    assert_eq!(
        ask("https://auth.example/token?account=x", None, false).unwrap(),
        "https://auth.example/token?account=x&service=reg+%26+co&scope=repository%3Ateam%2Fapp%3Apull"
    );
}

#[test]
fn a_relative_realm_belongs_to_the_registry() {
    let asked = ask("/token", None, false).unwrap();
    assert!(asked.starts_with("https://reg.example:5000/token?service="), "{asked}");
}

#[test]
fn the_scope_is_never_more_than_pull() {
    let named = ask("/t", Some("repository:proxy/team/app:pull,push,delete"), false).unwrap();
    assert!(
        named.ends_with("&scope=repository%3Aproxy%2Fteam%2Fapp%3Apull&scope=repository%3Ateam%2Fapp%3Apull")
    );
    for scope in ["repository:team/app:pull", "registry:catalog:*", "repository:../x:pull", "x", ""] {
        let asked = ask("/t", Some(scope), false).unwrap();
        assert!(asked.ends_with("co&scope=repository%3Ateam%2Fapp%3Apull"), "{scope}: {asked}");
    }
}

#[test]
fn an_identity_token_is_sent_in_a_form() {
    let bearer = Bearer { realm: String::new(), service: Some("a b".to_owned()), scope: None };
    let form = token_form(&bearer, "team/app", &"to&ken".into());
    assert_eq!(
        form.expose_secret(),
        "grant_type=refresh_token&service=a+b&client_id=tagpin&scope=repository%3Ateam%2Fapp%3Apull\
         &refresh_token=to%26ken"
    );
}

#[test]
fn only_https_realms_are_asked_unless_the_registry_is_configured_with_http() {
    assert_eq!(ask("http://auth.example/token", None, false), Err(RealmError::Scheme));
    assert!(ask("http://auth.example/token", None, true).is_ok());
    assert!(ask("https://auth.example/token", None, true).is_ok());
}

#[test]
fn what_is_no_plain_url_of_a_host_is_not_asked() {
    for realm in [
        "https://user@auth.example/token",
        "https://user:password@auth.example/token",
        "https://auth.example/token#x",
        "https://",
        "file:///etc/passwd",
        "gopher://auth.example",
        "data:text/plain,x",
        "https://[::1",
    ] {
        assert_eq!(ask(realm, None, true), Err(RealmError::Url), "{realm}");
    }
}

fn life(body: &str) -> u64 {
    Token::parse(body.as_bytes()).unwrap().life.as_secs()
}

#[test]
fn a_token_lives_nine_tenths_of_what_it_says_between_a_minute_and_an_hour() {
    for (body, seconds) in [
        (r#"{"token":"t"}"#, 54),
        (r#"{"token":"t","expires_in":300}"#, 270),
        (r#"{"token":"t","expires_in":1}"#, 54),
        (r#"{"token":"t","expires_in":0}"#, 54),
        (r#"{"token":"t","expires_in":-5}"#, 54),
        (r#"{"token":"t","expires_in":"soon"}"#, 54),
        (r#"{"token":"t","expires_in":null}"#, 54),
        (r#"{"token":"t","expires_in":18446744073709551615}"#, 3240),
        (r#"{"token":"t","expires_in":86400}"#, 3240),
    ] {
        assert_eq!(life(body), seconds, "{body}");
    }
}

#[test]
fn access_token_is_preferred_and_what_no_header_can_hold_is_no_token() {
    let value = |body: &str| Token::parse(body.as_bytes()).map(|t| t.value.expose_secret().to_owned());
    assert_eq!(value(r#"{"token":"a","access_token":"b"}"#).unwrap(), "b");
    assert_eq!(value(r#"{"token":"a","access_token":""}"#).unwrap(), "a");
    let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(TOKEN_LENGTH + 1));
    for body in
        ["", "null", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nX: y"}"#, r#"{"token":"ä"}"#, &long]
    {
        assert_eq!(value(body).unwrap_err(), NoToken, "{body}");
    }
}

#[test]
fn a_token_answers_only_for_the_credential_registry_and_scope_it_was_given_for() {
    let tokens = Tokens::new();
    let key = TokenKey {
        registry: "https://reg.example".to_owned(),
        url: url("https://reg.example/token?scope=a"),
        credential: CredentialId(1),
    };
    tokens.put(key.clone(), &Token::parse(br#"{"token":"t"}"#).unwrap());
    assert!(tokens.get(&key).is_some());
    assert!(tokens.get(&TokenKey { credential: CredentialId(2), ..key.clone() }).is_none());
    assert!(tokens.get(&TokenKey { registry: "https://evil.example".to_owned(), ..key.clone() }).is_none());
    assert!(tokens.get(&TokenKey { url: url("https://reg.example/token?scope=b"), ..key.clone() }).is_none());
    tokens.forget(&key);
    assert!(tokens.get(&key).is_none());
}

#[test]
fn whatever_a_realm_is_only_https_urls_of_a_host_are_asked() {
    proptest::proptest!(|(realm in "\\PC{0,60}", scope in "\\PC{0,60}")| {
        if let Ok(asked) = ask(&realm, Some(&scope), false) {
            let asked = url(&asked);
            assert_eq!(asked.scheme(), "https");
            assert!(asked.has_host() && asked.username().is_empty() && asked.password().is_none());
        }
    });
}
