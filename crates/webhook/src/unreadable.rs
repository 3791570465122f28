//! The response to a review whose object cannot be read. `/mutate` patches nothing. `/validate` refuses the
//! object wherever an Enforce policy may apply to it, unless one of the cluster's own controllers made it.

use tokio::time::Instant;

use crate::metrics::Turned;
use crate::response::{Decision, ReviewResponse};
use crate::review::Request;
use crate::{Admission, EPHEMERAL_CONTAINERS};
use tagpin_domain::denial::Code;
use tagpin_domain::message;
use tagpin_domain::policy::PolicyId;
use tagpin_domain::requirement::enforced_upon;
use tagpin_domain::subject::Phase;
use tagpin_domain::unreadable::Unreadable;
use tagpin_objects::kinds::Row;

impl Admission {
    /// Returns the response, from the envelope alone.
    pub(super) async fn unreadable(
        &self,
        phase: Phase,
        row: &'static Row,
        request: &Request<'_>,
        why: Unreadable,
        deadline: Instant,
    ) -> ReviewResponse {
        self.metrics.turned_away(match why {
            Unreadable::TooLarge { .. } => Turned::TooLarge,
            Unreadable::TooManySlots | Unreadable::NotText | Unreadable::Malformed { .. } => {
                Turned::Unreadable
            }
            Unreadable::TooMuchWork { .. } => Turned::Work,
        });
        let mut response = match phase {
            Phase::Mutate => ReviewResponse::new(Decision::Allow),
            Phase::Validate => self.validate_unreadable(row, request, why, deadline).await,
        };
        response.note("codes", [Code::ReviewUnreadable.to_string()].into_iter());
        response
    }

    async fn validate_unreadable(
        &self,
        row: &'static Row,
        request: &Request<'_>,
        why: Unreadable,
        deadline: Instant,
    ) -> ReviewResponse {
        let (namespace, name) = (request.namespace(), request.name());
        let kind = row.kind;
        let policies = self.surroundings.policies();
        let labels = if policies.cluster.iter().any(|policy| !policy.scope.namespaces.0.is_empty()) {
            self.surroundings.namespace_labels(namespace, deadline).await
        } else {
            None
        };
        let ephemeral = request.sub_resource() == Some(EPHEMERAL_CONTAINERS);
        let enforced =
            enforced_upon(&policies, namespace, labels.as_deref(), kind, row.may_be_owned, ephemeral);
        // Without the object, its owner is unknown. The user's identity decides, and nobody else can take that
        // identity. A controller makes no object of a kind that is never owned.
        let child = row.may_be_owned && self.is_controller(request);
        if child || enforced.is_empty() {
            let mut response = ReviewResponse::new(Decision::Warn);
            response.warnings.push(message::unreadable_warning(kind, name, why));
            return response;
        }
        let enforced: Vec<&PolicyId> = enforced.into_iter().map(|policy| &policy.id).collect();
        let mut response = ReviewResponse::new(Decision::Deny);
        response.refusal = Some(message::unreadable(kind, row.pod_spec, name, why, &enforced));
        response.note("policies", enforced.iter().map(ToString::to_string));
        response
    }
}
