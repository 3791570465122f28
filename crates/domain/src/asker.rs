//! The identity that asks a registry. It holds the names of pull secrets, and no credential.

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
    /// No credential is used, because nobody knows whether the API server asks.
    Withheld,
}

impl Secrets {
    /// Returns the names of the secrets that may be used.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Known(names) => names,
            Self::Withheld => &[],
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
