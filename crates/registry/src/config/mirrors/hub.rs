//! Endpoints of Docker Hub, which has several names.

use url::{Host, Url};

use crate::profile::endpoint::{Endpoint, EndpointError};
use crate::profile::host::DOCKER_HUB_HOST;
use tagpin_domain::image::DOCKER_HUB;

/// Returns the endpoint at this URL; a name of Docker Hub that serves no API is replaced by the one that does.
pub(super) fn endpoint(mut url: Url) -> Result<Endpoint, EndpointError> {
    if let Some(Host::Domain(host)) = url.host()
        && matches!(host, DOCKER_HUB | "index.docker.io")
    {
        url.set_host(Some(DOCKER_HUB_HOST)).map_err(|_| EndpointError::Url)?;
    }
    Endpoint::new(url)
}
