//! `tests/cases/registry/clouds.yaml`: the requests to clouds for a credential, and their result.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::ExposeSecret;
use serde::Deserialize;
use tagpin_registry::{
    Access, Candidate, CloudError, Clouds, Credential, Endpoint, Observer, ServiceKey, Surroundings,
    Transport,
};
use tokio::time::{Instant, advance, pause, resume};
use url::Url;

use super::scripted::{Scripted, Step};
use super::support::{Heard, PATIENCE, TestNames, TestProfiles, ask_within as look_up, client_of, provider};
use crate::files::case_file;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    cloud: String,
    role: Option<String>,
    #[serde(default = "regions")]
    regions: Vec<String>,
    host: String,
    #[serde(default)]
    env: HashMap<String, String>,
    #[serde(default)]
    files: HashMap<String, String>,
    /// Hosts that speak TLS.
    #[serde(default)]
    tls: Vec<String>,
    script: Vec<Step>,
    gives: String,
    /// The reasons for which a credential is not used, in order.
    #[serde(default)]
    unused: Vec<String>,
    #[serde(default)]
    then: Vec<Then>,
}

/// A second request for the credential.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Then {
    /// Seconds since the first request.
    #[serde(default)]
    after: u64,
    host: Option<String>,
    /// The fact of a tag that is looked up with the credential before the second request.
    fact: Option<String>,
    /// Milliseconds until the deadline of that look-up.
    budget: Option<u64>,
    script: Vec<Step>,
    gives: String,
}

fn regions() -> Vec<String> {
    vec!["eu-west-1".to_owned()]
}

/// The surroundings of the process in a test.
pub(super) struct Here {
    pub(super) env: HashMap<String, String>,
    pub(super) files: HashMap<String, String>,
    pub(super) now: SystemTime,
}

impl Surroundings for Here {
    fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn file(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn now(&self) -> SystemTime {
        self.now
    }
}

fn clouds(
    scripted: &Scripted,
    env: &HashMap<String, String>,
    files: &HashMap<String, String>,
    observer: Arc<dyn Observer>,
) -> Arc<Clouds> {
    provider();
    let here: IpAddr = [127, 0, 0, 1].into();
    let names = TestNames(HashMap::from([("acme.azurecr.io".to_owned(), vec![here])]));
    let env = env.iter().map(|(name, value)| (name.clone(), scripted.fill(value))).collect();
    let transport = Arc::new(Transport::new(Arc::new(names)));
    let now = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    Arc::new(Clouds::new(
        transport,
        Arc::new(Here { env, files: files.clone(), now }),
        Arc::<TestProfiles>::default(),
        observer,
    ))
}

/// Returns a registry at its own name; that of Azure is the scripted one.
fn registry(case: &Case, scripted: &Scripted, host: &str) -> Endpoint {
    let url = match case.cloud.as_str() {
        "azure" => {
            let scheme = if case.tls.is_empty() { "http" } else { "https" };
            scripted.fill(&format!("{scheme}://{host}:{{port}}"))
        }
        _ => format!("https://{host}"),
    };
    let mut endpoint = Endpoint::new(Url::parse(&url).unwrap()).unwrap();
    endpoint.tls.unverified = true;
    endpoint
}

async fn given(clouds: &Arc<Clouds>, access: &Access, registry: &Endpoint) -> Result<Candidate, CloudError> {
    clouds.candidate(access, registry, "the entry", Instant::now() + PATIENCE).await
}

async fn ask(clouds: &Arc<Clouds>, access: &Access, registry: &Endpoint) -> String {
    match given(clouds, access, registry).await {
        Err(error) => format!("nothing: {error}"),
        Ok(candidate) => {
            assert_eq!(candidate.source.to_string(), "configuration of the entry");
            match candidate.credential {
                Credential::Basic { username, password } => {
                    format!("{username}:{}", password.expose_secret())
                }
                Credential::Identity(token) => format!("identity {}", token.expose_secret()),
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn play(case: &Case) -> Vec<String> {
    let scripted = Scripted::start(&case.tls).await;
    let heard = Arc::new(Heard::default());
    let clouds = clouds(&scripted, &case.env, &case.files, Arc::clone(&heard) as _);
    let access = match case.cloud.as_str() {
        "aws" => Access::Aws { role: case.role.clone(), regions: case.regions.clone().into() },
        "gcp" => Access::Gcp { key: None },
        "azure" => Access::Azure,
        other => panic!("no cloud: {other}"),
    };
    let mut wrong = Vec::new();
    let (client, domain) = client_of(&format!("http://{}", scripted.authority("registry")));
    let first = (0, &case.host, &None, None, &case.script, &case.gives);
    let rounds = case.then.iter().map(|then| {
        (
            then.after,
            then.host.as_ref().unwrap_or(&case.host),
            &then.fact,
            then.budget,
            &then.script,
            &then.gives,
        )
    });
    for (after, host, fact, budget, script, gives) in std::iter::once(first).chain(rounds) {
        if after > 0 {
            // The clock is paused only for this step, because a paused clock advances while the test waits for a
            // connection.
            pause();
            advance(Duration::from_secs(after)).await;
            resume();
        }
        let known = match fact {
            None => None,
            Some(fact) => {
                given(&clouds, &access, &registry(case, &scripted, host)).await.ok().zip(Some(fact))
            }
        };
        scripted.expect(script);
        if let Some((known, fact)) = known {
            let budget = budget.map_or(PATIENCE, Duration::from_millis);
            let came = look_up(&client, &format!("{domain}/team/app:1"), &[known], budget).await;
            if came != *fact {
                wrong.push(format!("{}: {came}, not {fact}", case.name));
            }
        }
        let gave = ask(&clouds, &access, &registry(case, &scripted, host)).await;
        let complaints = scripted.complaints();
        if gave != *gives || !complaints.is_empty() {
            wrong.push(format!("{}: {gave}, not {gives}\n  {}", case.name, complaints.join("\n  ")));
        }
    }
    let heard = heard.0.lock().unwrap();
    let unused: Vec<&str> =
        heard.iter().filter_map(|event| event.strip_prefix("the entry unused ")).collect();
    if unused != case.unused {
        wrong.push(format!("{}: unused {unused:?}, not {:?}", case.name, case.unused));
    }
    wrong
}

#[tokio::test]
async fn each_cloud_gives_its_credential_as_it_is_asked() {
    let cases: Vec<Case> = serde_saphyr::from_str(&case_file("registry/clouds.yaml")).unwrap();
    assert!(cases.len() >= 20, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        wrong.extend(play(case).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_key_file_of_google_is_exchanged_for_a_token() {
    let scripted = Scripted::start(&[]).await;
    let mut file: serde_json::Value =
        serde_json::from_str(&case_file("registry/service-account.json")).unwrap();
    file["token_uri"] = scripted.fill("http://{auth}/token").into();
    let key = ServiceKey::parse(file.to_string().as_bytes()).unwrap();
    let clouds = clouds(&scripted, &HashMap::new(), &HashMap::new(), Arc::new(()));
    scripted.expect(&serde_saphyr::from_str::<Vec<Step>>(
        "- { ask: POST /token, at: auth, form: 'grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ*', body: '{\"access_token\":\"ya29\",\"expires_in\":3600}' }",
    )
    .unwrap());
    let registry = Endpoint::new(Url::parse("https://gcr.io").unwrap()).unwrap();
    let gave = ask(&clouds, &Access::Gcp { key: Some(Arc::new(key)) }, &registry).await;
    assert_eq!((gave.as_str(), scripted.complaints()), ("oauth2accesstoken:ya29", Vec::new()));
}

#[tokio::test]
async fn who_asks_at_the_same_time_asks_once() {
    let scripted = Scripted::start(&[]).await;
    let env = HashMap::from([("GCE_METADATA_HOST".to_owned(), "{registry}".to_owned())]);
    let clouds = clouds(&scripted, &env, &HashMap::new(), Arc::new(()));
    scripted.expect(&serde_saphyr::from_str::<Vec<Step>>(
        "- { ask: GET /computeMetadata/v1/instance/service-accounts/default/token, headers: ['Metadata-Flavor: Google'], body: '{\"access_token\":\"ya29\",\"expires_in\":3600}' }",
    )
    .unwrap());
    let (access, registry) =
        (Access::Gcp { key: None }, Endpoint::new(Url::parse("https://gcr.io").unwrap()).unwrap());
    let asked = futures::future::join_all((0..50).map(|_| ask(&clouds, &access, &registry))).await;
    assert!(asked.iter().all(|gave| gave == "oauth2accesstoken:ya29"), "{asked:?}");
    assert_eq!(scripted.complaints(), Vec::<String>::new());
}
