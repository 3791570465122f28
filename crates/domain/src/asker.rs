//! The identities behind a review: who sent the request, and on whose behalf a registry is asked. None of them holds a
//! credential.

/// The beginning of the user name of a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The identity that sent the request. The API server vouches for it, so nobody can take another's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    /// The user name.
    pub user: Box<str>,
    /// True for the identity of a built-in controller.
    pub controller: bool,
    /// True for a service account.
    pub service_account: bool,
}

impl Requester {
    /// Returns the identity with this user name. `controller` is true if a built-in controller has that name.
    #[must_use]
    pub fn new(user: &str, controller: bool) -> Self {
        Self { user: user.into(), controller, service_account: user.starts_with(SERVICE_ACCOUNT) }
    }
}

/// The identity on whose behalf a registry is asked. Only its own pull secrets may be used for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    /// The namespace of the object that names the image.
    pub namespace: String,
    /// Names of the pull secrets in that namespace, in the pod's order. A pod (or template) that names none
    /// gets those of its service account, which is what the ServiceAccount admission plugin of Kubernetes
    /// would fill in.
    pub pull_secrets: Vec<String>,
}

impl Asker {
    /// Returns an asker without the credentials of a namespace, such as the command line.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self { namespace: String::new(), pull_secrets: Vec::new() }
    }
}
