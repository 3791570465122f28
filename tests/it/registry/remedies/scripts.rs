//! The answers of the scripted registry, as steps of its script.

/// The registry has the tag. An index is not read.
pub(super) const FOUND: &str = "
- ask: HEAD /v2/team/app/manifests/1
  headers: [ 'content-type: application/vnd.oci.image.index.v1+json', 'docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ]
";
pub(super) const FOUND_AT_MIRROR: &str = "
- ask: HEAD /v2/team/app/manifests/1?ns=docker.io
  at: other
  headers: [ 'content-type: application/vnd.oci.image.index.v1+json', 'docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ]
";
pub(super) const REDIRECTED: &str = "
- ask: HEAD /v2/team/app/manifests/1
  status: 307
  headers: [ 'location: https://{other}/v2/moved' ]
- ask: HEAD /v2/moved
  at: other
  headers: [ 'content-type: application/vnd.oci.image.index.v1+json', 'docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ]
";
pub(super) const REDIRECTED_TO_METADATA: &str = "
- ask: HEAD /v2/team/app/manifests/1
  status: 307
  headers: [ 'location: https://169.254.169.254/latest' ]
";
pub(super) const TOKEN_FOR_ANYBODY: &str = "
- ask: HEAD /v2/team/app/manifests/1
  status: 401
  headers: [ 'www-authenticate: Bearer realm=\"https://{auth}/token\",service=\"s\"' ]
- ask: GET /token?service=s&scope=repository%3Ateam%2Fapp%3Apull
  at: auth
  body: '{\"token\":\"anybody\"}'
- ask: HEAD /v2/team/app/manifests/1
  authorization: Bearer anybody
  headers: [ 'content-type: application/vnd.oci.image.index.v1+json', 'docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ]
";
pub(super) const TOKEN_WITHOUT_THE_CREDENTIAL: &str = "
- ask: HEAD /v2/team/app/manifests/1
  status: 401
  headers: [ 'www-authenticate: Bearer realm=\"https://{auth}/token\",service=\"s\"' ]
- ask: GET /token?service=s&scope=repository%3Ateam%2Fapp%3Apull
  at: auth
  status: 401
";
pub(super) const TOKEN_FOR_THE_CREDENTIAL: &str = "
- ask: HEAD /v2/team/app/manifests/1
  status: 401
  headers: [ 'www-authenticate: Bearer realm=\"https://{auth}/token\",service=\"s\"' ]
- ask: GET /token?service=s&scope=repository%3Ateam%2Fapp%3Apull
  at: auth
  authorization: Basic dTpodW50ZXIyLXNlY3JldA==
  body: '{\"token\":\"mine\"}'
- ask: HEAD /v2/team/app/manifests/1
  authorization: Bearer mine
  headers: [ 'content-type: application/vnd.oci.image.index.v1+json', 'docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ]
";
pub(super) const LIMITED: &str = "
- { ask: HEAD /v2/team/app/manifests/1, status: 429 }
- { ask: HEAD /v2/team/app/manifests/1, status: 429 }
";
pub(super) const FOUND_WITH_THE_CREDENTIAL: &str = "
- ask: HEAD /v2/team/app/manifests/1
  status: 401
  headers: [ 'www-authenticate: Basic realm=\"r\"' ]
- ask: HEAD /v2/team/app/manifests/1
  authorization: Basic dTpodW50ZXIyLXNlY3JldA==
  headers: [ 'content-type: application/vnd.oci.image.index.v1+json', 'docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ]
";
