//! Names of the objects of a release, which the chart and the leader create. A cluster has one release.

/// Name of the Deployment, the Service, the service account, the Lease and the validating webhook configuration.
pub const NAME: &str = "tagpin";
/// Name of the mutating webhook configuration. Configurations run in the order of their names, and injectors
/// come first.
pub const MUTATING: &str = "zz-tagpin";
/// Name of the Secret with the webhook's certificate.
pub const CERTIFICATE: &str = "tagpin-webhook-tls";
/// Name of the Secret with the keys for marks.
pub const PIN_KEYS: &str = "tagpin-pin-keys";
/// Name of the Secret with the tokens in the webhook's paths.
pub const DOOR: &str = "tagpin-webhook-door";
/// Name of the policy that the leader keeps.
pub const BASELINE: &str = "baseline";

/// Label selector of the pods.
pub const POD_SELECTOR: &str = "app.kubernetes.io/name=tagpin";
/// Label that names the application of an object.
pub const APPLICATION_LABEL: &str = "app.kubernetes.io/name";
/// Label that names what manages an object.
pub const MANAGER_LABEL: &str = "app.kubernetes.io/managed-by";
