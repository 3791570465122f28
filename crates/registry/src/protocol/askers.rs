//! Selects the credentials of an asker that an endpoint may see.

use crate::credential::Candidate;
use crate::profile::endpoint::{Endpoint, Identity};
use tagpin_domain::fact::Unavailable;

/// Returns the credentials that an endpoint may see. Those that could not be obtained come last in the asker's list, and
/// are left out; if there are no others, the first one stands for asking anonymously.
pub(super) fn endpoint_candidates<'a>(endpoint: &'a Endpoint, askers: &'a [Candidate]) -> &'a [Candidate] {
    match &endpoint.identity {
        Identity::Asker => {
            let obtained = askers.partition_point(|candidate| candidate.credential.absence().is_none());
            askers.get(..obtained.max(1)).unwrap_or(askers)
        }
        Identity::Anonymous => Candidate::only_anonymous(),
        Identity::Own(candidate) => std::slice::from_ref(&**candidate),
    }
}

/// Returns the reason why the endpoint does not see all credentials that the asker may have; none if it does.
pub(super) fn absent(endpoint: &Endpoint, askers: &[Candidate]) -> Option<Unavailable> {
    match endpoint.identity {
        Identity::Asker => askers.iter().find_map(|candidate| candidate.credential.absence()),
        Identity::Anonymous | Identity::Own(_) => None,
    }
}
