//! Reads the challenges of all `WWW-Authenticate` headers (RFC 9110 section 11.6.1), and chooses the one that tagpin
//! can meet. It does not check the realm, and holds no credential.

use http_auth::{ChallengeParser, ChallengeRef};

/// Maximum length of a realm, service or scope, in bytes; longer ones are ignored.
const LENGTH: usize = 2048;

/// The challenge to meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password in each request.
    Basic,
    /// A token from a token service.
    Bearer(Bearer),
}

/// The parameters of a Bearer challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token service, as written.
    pub realm: String,
    /// The service that the token is for.
    pub service: Option<String>,
    /// The access that the token should allow.
    pub scope: Option<String>,
}

/// The error of the token that was sent (RFC 6750 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// The token has expired, is forged, or is for somebody else. Another one may work.
    Invalid,
    /// The token does not allow this request.
    InsufficientScope,
}

/// The challenges of one response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenges {
    bearer: Option<Bearer>,
    /// True if the registry takes a user and a password itself.
    pub(super) basic: bool,
    /// The error in the Bearer challenge.
    pub error: Option<TokenError>,
}

impl Challenges {
    /// Reads all values of the header. A value that breaks off counts as far as it can be read.
    #[must_use]
    pub fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut challenges = Self::default();
        for value in values {
            for challenge in ChallengeParser::new(value).map_while(Result::ok) {
                challenges.add(&challenge);
            }
        }
        challenges
    }

    /// Returns the challenge to meet: a token from a service that may see the credential; otherwise the password, if
    /// there is one and the registry takes it itself; otherwise a token for nobody.
    #[must_use]
    pub fn choose(&self, has_password: bool, may_see: impl Fn(&Bearer) -> bool) -> Option<Challenge> {
        let trusted = self.bearer.as_ref().is_some_and(may_see);
        if self.basic && has_password && !trusted {
            return Some(Challenge::Basic);
        }
        self.bearer.clone().map(Challenge::Bearer)
    }

    fn add(&mut self, challenge: &ChallengeRef<'_>) {
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            self.basic = true;
        } else if challenge.scheme.eq_ignore_ascii_case("bearer") {
            let parameter = |name: &str| {
                let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
                let value = value.to_unescaped();
                (!value.is_empty() && value.len() <= LENGTH).then_some(value)
            };
            self.error = self.error.or(match parameter("error").as_deref() {
                Some("invalid_token") => Some(TokenError::Invalid),
                Some("insufficient_scope") => Some(TokenError::InsufficientScope),
                _ => None,
            });
            if self.bearer.is_none()
                && let Some(realm) = parameter("realm")
            {
                let (service, scope) = (parameter("service"), parameter("scope"));
                self.bearer = Some(Bearer { realm, service, scope });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Challenges {
        Challenges::parse(values.iter().copied())
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer(Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn a_token_of_a_trusted_service_is_preferred_to_a_password_in_whatever_order_they_are_offered() {
        let realm = "https://auth.example/token";
        for values in [
            &[r#"Bearer realm="https://auth.example/token",service="s",scope="repository:a/b:pull,push""#][..],
            &[
                r#"Basic realm="x", Bearer realm="https://auth.example/token",service=s,scope="repository:a/b:pull,push""#,
            ],
            &[
                r#"Negotiate"#,
                r#"Basic realm="a, b=\"c\"""#,
                r#"bEARER Realm="https://auth.example/token", SERVICE="s", scope="repository:a/b:pull,push""#,
            ],
        ] {
            let expected = bearer(realm, Some("s"), Some("repository:a/b:pull,push"));
            assert_eq!(parse(values).choose(false, |_| true), Some(expected), "{values:?}");
        }
    }

    #[test]
    fn escapes_and_commas_in_quotes_belong_to_the_value() {
        let challenges = parse(&[r#"Bearer realm="https://a.example/t?x=\"1\",2", service="a\\b""#]);
        let expected = bearer(r#"https://a.example/t?x="1",2"#, Some(r"a\b"), None);
        assert_eq!(challenges.choose(true, |_| true), Some(expected));
    }

    #[test]
    fn a_password_is_asked_for_only_when_there_is_one() {
        let challenges = parse(&[r#"Basic realm="private""#]);
        assert_eq!(challenges.choose(true, |_| true), Some(Challenge::Basic));
        assert_eq!(challenges.choose(false, |_| true), None);
    }

    #[test]
    fn a_password_goes_to_the_registry_rather_than_a_token_service_that_may_not_see_it() {
        let both = parse(&[r#"Basic realm="x", Bearer realm="https://auth.example/token""#]);
        let token = bearer("https://auth.example/token", None, None);
        assert_eq!(both.choose(true, |_| false), Some(Challenge::Basic));
        assert_eq!(both.choose(false, |_| false), Some(token.clone()));
        let alone = parse(&[r#"Bearer realm="https://auth.example/token""#]);
        assert_eq!(alone.choose(true, |_| false), Some(token));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_one_of_two_words() {
        let error =
            |text: &str| parse(&[&format!(r#"Bearer realm="https://a.example",error="{text}""#)]).error;
        assert_eq!(error("invalid_token"), Some(TokenError::Invalid));
        assert_eq!(error("insufficient_scope"), Some(TokenError::InsufficientScope));
        assert_eq!(error("anything else"), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_challenge() {
        for value in
            ["", ",", "Bearer", "Bearer realm=", "Bearer realm=\"\"", "=", "\"", "Digest realm=\"x\""]
        {
            assert_eq!(parse(&[value]).choose(true, |_| true), None, "{value}");
        }
        let long = format!("Bearer realm=\"https://a.example/{}\"", "a".repeat(LENGTH));
        assert_eq!(parse(&[&long]).choose(true, |_| true), None);
    }

    #[test]
    fn a_readable_challenge_before_garbage_counts() {
        let challenges = parse(&["Bearer realm=\"https://a.example\", Basic realm=\"a\", \"\u{1}"]);
        assert_eq!(challenges.choose(true, |_| true), Some(bearer("https://a.example", None, None)));
    }

    #[test]
    fn any_header_is_survived() {
        proptest::proptest!(|(first in "[\\t -~]{0,80}", second in "(Bearer|Basic) [\\t -~]{0,80}")| {
            let _ = parse(&[&first, &second]).choose(true, |_| true);
        });
    }
}
