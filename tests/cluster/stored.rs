//! Hostile stored objects keep no replica from starting.

use crate::support::doctor::well;
use crate::support::replicas::{none_is_leaving, ours, when_ready};
use crate::support::{Namespace, alone};

/// A time that the API server stores, but that is later than the last day that many libraries know.
const LAST: &str = "9999-12-31T23:59:59Z";

#[test]
fn a_time_at_the_end_of_days_in_managed_fields_keeps_no_new_replica_from_being_ready() {
    let _cluster = alone();
    let namespace = Namespace::new("stored");
    let managed = format!(
        r#"{{"metadata":{{"managedFields":[{{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"{LAST}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:labels":{{}}}}}}}}]}}}}"#
    );
    namespace.kubectl(&["create", "serviceaccount", "p"]).succeeded();
    namespace.kubectl(&["patch", "serviceaccount", "p", "--type=merge", "-p", &managed]).succeeded();
    let kept = namespace.kubectl(&["get", "serviceaccount", "p", "-o", "yaml", "--show-managed-fields"]);
    assert!(kept.succeeded().contains(LAST), "the API server should have kept it");

    ours(&["rollout", "restart", "deployment/tagpin"]);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    none_is_leaving();
    when_ready(2);
    well();
}
