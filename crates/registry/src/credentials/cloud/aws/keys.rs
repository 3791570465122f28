//! Access keys of Amazon.

use secrecy::SecretString;

/// An access key, which signs requests.
pub(crate) struct Keys {
    /// The identifier of the key.
    pub(crate) id: String,
    /// The secret that signs.
    pub(crate) secret: SecretString,
    /// The token of a temporary session, sent with each request.
    pub(crate) session: Option<SecretString>,
}
