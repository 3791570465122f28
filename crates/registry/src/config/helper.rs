//! Credential helpers of docker: their names, their answers and their errors. Who runs them is left to others.

use std::fmt;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::credential::Credential;

/// User of an answer whose secret is an identity token.
const TOKEN: &str = "<token>";
/// Text in the answer of a helper that has no credential for the registry.
const NOT_FOUND: &str = "credentials not found";
/// Maximum length of a helper's name.
const NAME: usize = 64;

/// The name of a credential helper, without `docker-credential-`. It is part of a program's name, and never a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HelperName(String);

/// The answer of a helper.
#[derive(Debug)]
pub struct HelperAnswer {
    /// True if the helper ended with the status 0.
    pub success: bool,
    /// Its standard output.
    pub output: Vec<u8>,
}

/// Runs credential helpers.
#[async_trait]
pub trait CredentialHelpers: Send + Sync {
    /// Asks a helper for the credential of a registry, for at most this long.
    ///
    /// # Errors
    /// Returns an error if the helper gives no complete answer.
    async fn get(
        &self,
        helper: &HelperName,
        registry: &str,
        limit: Duration,
    ) -> Result<HelperAnswer, HelperError>;
}

/// The reason why a helper gave no usable answer. It never repeats the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperError {
    /// The name cannot be part of a program's name.
    #[error("{0:?} is not the name of a credential helper")]
    Name(String),
    /// The program cannot be started.
    #[error("the program cannot be started: {0}")]
    NotStarted(io::ErrorKind),
    /// The answer did not arrive in time.
    #[error("it did not answer within {} s", .0.as_secs_f32().ceil())]
    Late(Duration),
    /// The answer is larger than this number of bytes.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The program failed.
    #[error("it failed")]
    Failed,
    /// The answer is not a credential.
    #[error("its answer is not a credential")]
    Unreadable,
}

/// The answer of a helper that has a credential.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    username: String,
    secret: String,
}

impl HelperName {
    /// Parses a name.
    ///
    /// # Errors
    /// Returns an error for a name that no program of a helper has.
    pub fn parse(text: &str) -> Result<Self, HelperError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > NAME || !text.bytes().all(is_name) {
            return Err(HelperError::Name(text.chars().take(NAME).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Writes the name of the program.
impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker-credential-{}", self.0)
    }
}

impl HelperAnswer {
    /// Returns the credential; none if the helper has none for the registry.
    ///
    /// # Errors
    /// Returns an error if the helper failed for another reason, or gave something else.
    pub(super) fn credential(&self) -> Result<Option<Credential>, HelperError> {
        if !self.success {
            let said = String::from_utf8_lossy(&self.output);
            return if said.contains(NOT_FOUND) { Ok(None) } else { Err(HelperError::Failed) };
        }
        let given: Given = serde_json::from_slice(&self.output).map_err(|_| HelperError::Unreadable)?;
        Ok(match given.username.as_str() {
            _ if given.secret.is_empty() => None,
            "" => None,
            TOKEN => Some(Credential::Identity(given.secret.into())),
            _ => Some(Credential::basic(given.username, given.secret.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        for name in ["desktop", "desktop.exe", "ecr-login", "a_b", &"a".repeat(64)] {
            assert_eq!(HelperName::parse(name).unwrap().to_string(), format!("docker-credential-{name}"));
        }
        for name in ["", "../x", "a/b", "a b", "a\0", "ä", "$(x)", "a\nb", &"a".repeat(65)] {
            assert!(matches!(HelperName::parse(name), Err(HelperError::Name(_))), "{name}");
        }
    }

    #[test]
    fn an_answer_is_a_credential_or_the_reason_why_there_is_none() {
        let answer = |success, output: &str| HelperAnswer { success, output: output.into() }.credential();
        let given = |user: &str, secret: &str| {
            answer(true, &format!(r#"{{"ServerURL":"a.io","Username":"{user}","Secret":"{secret}"}}"#))
        };
        assert!(matches!(
            given("robot", "p"),
            Ok(Some(Credential::Basic { username, password }))
                if username == "robot" && password.expose_secret() == "p"
        ));
        assert!(matches!(
            given("<token>", "t"),
            Ok(Some(Credential::Identity(token))) if token.expose_secret() == "t"
        ));
        assert!(matches!(given("", ""), Ok(None)));
        assert!(matches!(given("robot", ""), Ok(None)));
        assert!(matches!(answer(false, "credentials not found in native keychain"), Ok(None)));
        assert!(matches!(answer(false, "error getting credentials: locked"), Err(HelperError::Failed)));
        for output in ["", "{", "[]", r#"{"Username":"robot"}"#] {
            assert!(matches!(answer(true, output), Err(HelperError::Unreadable)), "{output}");
        }
    }
}
