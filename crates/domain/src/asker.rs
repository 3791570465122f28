//! The identities behind a review: who sent the request, and on whose behalf a registry is asked. None of them holds a
//! credential.

/// The beginning of the user name of a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The identity that sent the request. The API server vouches for it, so nobody can take another's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    /// The user name; empty if nobody asks.
    pub user: Box<str>,
    /// The groups of the user, if an exception of a policy in the namespace names groups; otherwise empty.
    pub groups: Vec<Box<str>>,
    /// True for the identity of a built-in controller.
    pub controller: bool,
    /// True for a service account.
    pub service_account: bool,
}

impl Requester {
    /// Returns the identity with this user name and no groups. `controller` is true if a built-in controller has that name.
    #[must_use]
    pub fn new(user: &str, controller: bool) -> Self {
        let service_account = user.starts_with(SERVICE_ACCOUNT);
        Self { user: user.into(), groups: Vec::new(), controller, service_account }
    }
}

/// The identity on whose behalf a registry is asked. Only its own pull secrets may be used for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    /// The namespace of the object that names the image.
    pub namespace: String,
    /// The pull secrets in that namespace.
    pub secrets: Secrets,
}

/// The pull secrets of an asker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Secrets {
    /// Names in the pod's order. A pod (or template) that names none gets those of its service account, which is what
    /// the ServiceAccount admission plugin of Kubernetes would fill in.
    Known(Vec<String>),
    /// The pod names none, and the pull secrets of its service account are not known. It may have credentials.
    Unknown,
    /// No credential is used, because nobody knows whether the API server asks.
    Withheld,
}

impl Secrets {
    /// Returns the names of the secrets that may be used.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Known(names) => names,
            Self::Unknown | Self::Withheld => &[],
        }
    }
}

impl Asker {
    /// Returns an asker in this namespace that names these pull secrets.
    #[must_use]
    pub const fn new(namespace: String, secrets: Vec<String>) -> Self {
        Self { namespace, secrets: Secrets::Known(secrets) }
    }

    /// Returns an asker without the credentials of a namespace, such as the command line.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self::new(String::new(), Vec::new())
    }
}
