//! ECR, simulated by moto, which checks signatures and policies, with the registries of two accounts at their own
//! names. moto accepts the requests that tagpin signs, its tokens open the registry, and a refusal is reported with its
//! cause.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;
use tagpin_registry::{Access, Candidate, Client, CloudError, Clouds, Endpoint, Transport};
use tokio::time::Instant;

use super::clouds::Here;
use super::distribution::{self, Registry, Release};
use super::skopeo::Layout;
use super::support::{PATIENCE, TestNames, TestProfiles, ask, client, endpoint, profile, provider};
use crate::parts::part;

/// The account of the test, and another one.
const ACCOUNTS: [&str; 2] = ["123456789012", "210987654321"];

/// A running moto; it is killed when it is dropped.
struct Moto {
    child: Child,
    url: String,
    http: reqwest::Client,
}

/// An access key.
struct Key {
    id: String,
    secret: String,
}

impl Moto {
    fn start() -> Self {
        provider();
        let mut child = Command::new(part("moto").join("moto_server"))
            .args(["-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let said =
            lines.by_ref().find_map(|line| line.split_once("Running on ").map(|(_, url)| url.to_owned()));
        let url = said.expect("moto says where it listens");
        // Drains the log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// Calls IAM as the owner of an account, before anything is checked.
    async fn iam(&self, account: &str, fields: &[(&str, &str)]) -> String {
        let request = self
            .http
            .post(&self.url)
            .header("x-moto-account-id", account)
            .header("authorization", "AWS4-HMAC-SHA256 Credential=owner/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(url::form_urlencoded::Serializer::new(String::new()).append_pair("Version", "2010-05-08").extend_pairs(fields).finish());
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 200, "{fields:?}: {text}");
        text
    }

    /// Makes moto check everything after this many requests.
    async fn check_after(&self, requests: u32) {
        let reset =
            self.http.post(format!("{}/moto-api/reset-auth", self.url)).header("content-type", "text/plain");
        assert_eq!(reset.body(requests.to_string()).send().await.unwrap().status(), 200);
    }

    async fn user(&self, name: &str, may: &str) -> Key {
        self.iam(ACCOUNTS[0], &[("Action", "CreateUser"), ("UserName", name)]).await;
        let policy = policy(may);
        let put = [
            ("Action", "PutUserPolicy"),
            ("UserName", name),
            ("PolicyName", "it"),
            ("PolicyDocument", &policy),
        ];
        self.iam(ACCOUNTS[0], &put).await;
        let key = self.iam(ACCOUNTS[0], &[("Action", "CreateAccessKey"), ("UserName", name)]).await;
        let value = |tag: &str| {
            let (_, rest) = key.split_once(&format!("<{tag}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        Key { id: value("AccessKeyId"), secret: value("SecretAccessKey") }
    }

    /// Creates a role with this permission that this principal may assume.
    async fn role(&self, account: &str, name: &str, may: &str, principal: &str) -> String {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": "sts:AssumeRole" }],
        });
        let (trust, policy) = (trust.to_string(), policy(may));
        let create = [("Action", "CreateRole"), ("RoleName", name), ("AssumeRolePolicyDocument", &trust)];
        self.iam(account, &create).await;
        let put = [
            ("Action", "PutRolePolicy"),
            ("RoleName", name),
            ("PolicyName", "it"),
            ("PolicyDocument", &policy),
        ];
        self.iam(account, &put).await;
        format!("arn:aws:iam::{account}:role/{name}")
    }

    /// Creates clouds for a process with these variables, whose only endpoint is moto.
    fn clouds(&self, env: &[(&str, &str)]) -> Arc<Clouds> {
        let own = [("AWS_ENDPOINT_URL_ECR", self.url.as_str()), ("AWS_ENDPOINT_URL_STS", self.url.as_str())];
        let env =
            own.iter().chain(env).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let files = HashMap::from([("/token".to_owned(), "the-token-of-a-service-account".to_owned())]);
        let transport = Arc::new(Transport::new(Arc::new(TestNames::default())));
        Arc::new(Clouds::new(
            transport,
            Arc::new(Here { env, files, now: SystemTime::now() }),
            Arc::<TestProfiles>::default(),
            Arc::new(()),
        ))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn policy(may: &str) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": may.split(' ').collect::<Vec<_>>(), "Resource": "*" }],
    })
    .to_string()
}

/// The registries of the accounts at their names, and the digest of `app:1` in each.
struct Registries {
    _processes: Vec<Registry>,
    endpoints: Vec<Endpoint>,
    digests: Vec<String>,
    client: Client,
}

fn host(account: &str) -> String {
    format!("{account}.dkr.ecr.eu-central-1.amazonaws.com")
}

impl Registries {
    fn start() -> Self {
        let here: Vec<IpAddr> = vec![[127, 0, 0, 1].into()];
        let (mut processes, mut endpoints, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        let (mut profiles, mut names) = (HashMap::new(), HashMap::new());
        for account in ACCOUNTS {
            // moto gives this password to every user of the account.
            let password = format!("{account}-auth-token");
            let access = distribution::Access::Password(&password);
            let registry = Registry::start(Release::Debian, &access);
            let image = format!("{}/app:1", registry.authority());
            digests.push(Layout::of(account).push(&image, "oci", Some(&format!("AWS:{password}"))));
            let at = endpoint(&registry.url().replace("127.0.0.1", &host(account)));
            profiles.insert(host(account), Arc::new(profile(at.clone())));
            names.insert(host(account), here.clone());
            endpoints.push(at);
            processes.push(registry);
        }
        assert_ne!(digests[0], digests[1]);
        let client = client(Arc::new(TestProfiles(profiles, Arc::default())), TestNames(names), Arc::new(()));
        Self { _processes: processes, endpoints, digests, client }
    }

    /// Looks up `app:1` of an account with this credential.
    async fn ask(&self, account: usize, credential: &Candidate) -> String {
        ask(&self.client, &format!("{}/app:1", host(ACCOUNTS[account])), from_ref(credential)).await
    }

    /// Requests the credential for the registry of an account, under this role.
    async fn credential(
        &self,
        account: usize,
        clouds: &Arc<Clouds>,
        role: Option<&str>,
    ) -> Result<Candidate, CloudError> {
        let access =
            Access::Aws { role: role.map(str::to_owned), regions: vec!["eu-central-1".to_owned()].into() };
        clouds.candidate(&access, &self.endpoints[account], "ecr", Instant::now() + PATIENCE).await
    }

    async fn opens(&self, account: usize, clouds: &Arc<Clouds>, role: Option<&str>) {
        let credential = self.credential(account, clouds, role).await.unwrap();
        assert_eq!(self.ask(account, &credential).await, format!("Present {}", self.digests[account]));
    }

    async fn refusal(&self, clouds: &Arc<Clouds>, role: Option<&str>) -> String {
        self.credential(0, clouds, role).await.unwrap_err().to_string()
    }
}

fn keys<'a>(id: &'a str, secret: &'a str) -> [(&'static str, &'a str); 2] {
    [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_amazon_checks_opens_its_registries_and_only_that() {
    let (moto, registries) = (Moto::start(), Registries::start());
    let token = "ecr:GetAuthorizationToken";
    let puller = moto.user("puller", &format!("{token} sts:AssumeRole")).await;
    let stranger = moto.user("stranger", "s3:GetObject").await;
    let web = moto.role(ACCOUNTS[0], "web", token, "*").await;
    let poor = moto.role(ACCOUNTS[0], "poor", "s3:GetObject", "*").await;
    let closed = moto.role(ACCOUNTS[0], "closed", token, "arn:aws:iam::123456789012:user/nobody").await;
    let across = moto.role(ACCOUNTS[1], "pull", token, "*").await;
    moto.check_after(0).await;

    let static_keys = moto.clouds(&keys(&puller.id, &puller.secret));
    registries.opens(0, &static_keys, None).await;
    // A token is valid only for the account that requested it: the other account's registry rejects the token of this
    // account, and accepts the token of its own role.
    let ours = registries.credential(1, &static_keys, None).await.unwrap();
    assert_eq!(registries.ask(1, &ours).await, "CredentialsRejected");
    registries.opens(1, &static_keys, Some(&across)).await;
    assert_eq!(registries.ask(0, &Candidate::anonymous()).await, "MissingOrPrivate");
    assert_eq!(registries.ask(0, &Candidate::not_given("ecr")).await, "Unavailable NoCredential");

    let said = registries.refusal(&moto.clouds(&keys(&puller.id, &stranger.secret)), None).await;
    assert_eq!(
        said,
        "ECR rejects the signature: check the secret key, and the clock of this machine (status 403)"
    );
    let said = registries.refusal(&moto.clouds(&keys(&puller.id, &stranger.secret)), Some(&web)).await;
    assert_eq!(
        said,
        "STS rejects the signature: check the secret key, and the clock of this machine (status 403)"
    );
    let said = registries.refusal(&moto.clouds(&keys("AKIAIOSFODNN7EXAMPLE", &puller.secret)), None).await;
    assert_eq!(said, "ECR does not know the access key or the session (status 403)");
    let said = registries.refusal(&moto.clouds(&keys(&stranger.id, &stranger.secret)), None).await;
    assert_eq!(said, "ECR denies access to this user or role (status 403)");
    let said = registries.refusal(&static_keys, Some(&poor)).await;
    assert_eq!(said, "ECR denies access to this user or role (status 403)");
    let said = registries.refusal(&static_keys, Some(&closed)).await;
    assert_eq!(said, "STS denies access to this user or role (status 403)");

    // moto's metadata service gives keys that moto's IAM does not know.
    let machine = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", moto.url.as_str())];
    let said = registries.refusal(&moto.clouds(&machine), None).await;
    assert_eq!(said, "ECR does not know the access key or the session (status 403)");
    moto.check_after(1).await;
    registries.opens(0, &moto.clouds(&machine), None).await;

    // moto cannot check a web identity, so the first request is not checked. The requests that are signed with its
    // answer are checked.
    for (role, opens) in [(&web, true), (&poor, false)] {
        moto.check_after(1).await;
        let irsa = moto.clouds(&[("AWS_ROLE_ARN", role), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")]);
        if opens {
            registries.opens(0, &irsa, None).await;
        } else {
            let said = registries.refusal(&irsa, None).await;
            assert_eq!(said, "ECR denies access to this user or role (status 403)");
        }
    }
}
