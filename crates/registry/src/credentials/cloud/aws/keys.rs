//! Access keys of Amazon.

use secrecy::SecretString;

/// An access key, which signs requests.
pub(super) struct Keys {
    /// The identifier of the key.
    pub(super) id: String,
    /// The secret that signs.
    pub(super) secret: SecretString,
    /// The token of a temporary session, sent with each request.
    pub(super) session: Option<SecretString>,
}
