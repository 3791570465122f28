//! Asks the cluster. Every question may fail by itself, and then says what it was.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;

use crate::cli::doctor::findings::{
    self, Asked, BehindSecrets, Certificate, Configuration, Crd, Entry, Findings, Holder, Labelled, Policy,
    Ready, Replica, Validity,
};
use crate::cli::doctor::{configuration, replica};
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::PolicyId;
use tagpin_domain::slot::Kind;
use tagpin_kube::certificate::{Pems, SECRET};
use tagpin_kube::crds;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy, PolicyObject};
use tagpin_leader::leader;
use tagpin_leader::webhook_config::documents::{MUTATING, VALIDATING};
use tagpin_objects::conditions::READY;
use tagpin_objects::image_policy::PolicyStatus;
use tagpin_objects::item::Item;
use tagpin_objects::rights::{RIGHTS, Right, Scope};
use tagpin_objects::slim::{Slim, SlimKind, SlimNamespace, Unparsed};

/// Of one question.
const LIMIT: Duration = Duration::from_secs(10);
/// Questions about rights at once.
const AT_ONCE: usize = 8;
/// Pods of one page.
const PAGE: u32 = 500;
/// Names of the Deployment and the service account.
const NAME: &str = "tagpin";
/// Our own pods.
const OURS: &str = "app.kubernetes.io/name=tagpin";
/// Entries of ours, by their names.
const ENTRIES: &str = ".tagpin.dev";
/// Namespaces whose images nobody judges.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Asks everything, all at once.
pub(crate) async fn gather(client: Client, namespace: String) -> Findings {
    let here = Here { client: &client, namespace: &namespace };
    let ours = futures::future::join4(here.certificate(), here.lease(), here.installed(), here.replicas());
    let everybodys =
        futures::future::join4(here.policies(), here.labelled(), here.behind_secrets(), here.denied());
    let written = futures::future::join3(here.crds(), here.mutating(), here.validating());
    let (ours, everybodys, written) = futures::join!(ours, everybodys, written);
    let (certificate, lease, (deployment, configuration), replicas) = ours;
    let (policies, labelled, behind_secrets, denied) = everybodys;
    let (crds, mutating, validating) = written;
    Findings {
        now: Timestamp::now(),
        crds,
        mutating,
        validating,
        certificate,
        lease,
        denied,
        deployment,
        replicas,
        configuration,
        policies,
        labelled,
        behind_secrets,
        namespace,
    }
}

struct Here<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Here<'_> {
    fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    fn ours<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn crds(&self) -> Asked<Vec<Crd>> {
        let mut found = Vec::new();
        for name in crds::crds().iter().map(ResourceExt::name_any) {
            let crd =
                asked("get its definition", self.all::<CustomResourceDefinition>().get_opt(&name)).await?;
            let conditions = crd.and_then(|crd| crd.status).and_then(|status| status.conditions);
            let mut conditions = conditions.iter().flatten();
            let established = conditions.any(|c| c.type_ == "Established" && c.status == "True");
            found.push(Crd { name, established });
        }
        Ok(found)
    }

    async fn mutating(&self) -> Asked<Option<Vec<Entry>>> {
        let api = self.all::<MutatingWebhookConfiguration>();
        let found = asked("get the mutatingwebhookconfiguration", api.get_opt(MUTATING)).await?;
        let entries = |found: MutatingWebhookConfiguration| {
            let webhooks = found.webhooks.unwrap_or_default().into_iter();
            entries(webhooks.map(|webhook| (webhook.name, webhook.failure_policy, webhook.client_config)))
        };
        Ok(found.map(entries))
    }

    async fn validating(&self) -> Asked<Option<Vec<Entry>>> {
        let api = self.all::<ValidatingWebhookConfiguration>();
        let found = asked("get the validatingwebhookconfiguration", api.get_opt(VALIDATING)).await?;
        let entries = |found: ValidatingWebhookConfiguration| {
            let webhooks = found.webhooks.unwrap_or_default().into_iter();
            entries(webhooks.map(|webhook| (webhook.name, webhook.failure_policy, webhook.client_config)))
        };
        Ok(found.map(entries))
    }

    /// The keys in the Secret are not looked at.
    async fn certificate(&self) -> Asked<Option<Certificate>> {
        let secret =
            asked("get the Secret tagpin-webhook-tls", self.ours::<Secret>().get_opt(SECRET)).await?;
        Ok(secret.map(|secret| {
            let pems = Pems::of(&secret);
            let (leaf, authority) = (validity(&pems.certificate), validity(&pems.ca));
            Certificate { ca: pems.ca, leaf, authority }
        }))
    }

    async fn lease(&self) -> Asked<Option<Holder>> {
        let lease = asked("get the Lease", self.ours::<Lease>().get_opt(leader::NAME)).await?;
        Ok(lease.map(|lease| {
            let spec = lease.spec.unwrap_or_default();
            let renewed = spec.renew_time.map(|time| time.0);
            Holder { identity: spec.holder_identity.unwrap_or_default(), renewed }
        }))
    }

    /// The Deployment, and the configuration of registries that it names.
    async fn installed(&self) -> (Asked<Option<findings::Deployment>>, Asked<Option<Configuration>>) {
        let found = asked("get the Deployment", self.ours::<Deployment>().get_opt(NAME)).await;
        let configuration = match &found {
            Ok(Some(deployment)) => configuration::check(self.client, self.namespace, deployment).await,
            Ok(None) => Ok(None),
            Err(cause) => Err(cause.clone()),
        };
        (found.map(|found| found.and_then(deployment)), configuration)
    }

    async fn replicas(&self) -> Asked<Vec<Replica>> {
        let pods = self.ours::<Pod>();
        let listed = asked("list our pods", pods.list(&ListParams::default().labels(OURS))).await?;
        let staying = listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let questions = staying.map(|pod| {
            let pods = pods.clone();
            async move { Replica { name: pod.name_any(), answers: replica::ask(&pods, &pod).await } }
        });
        Ok(stream::iter(questions).buffered(AT_ONCE).collect().await)
    }

    async fn policies(&self) -> Asked<Vec<Policy>> {
        let mut policies = self.policies_of::<ClusterImagePolicy>("list clusterimagepolicies").await?;
        policies.extend(self.policies_of::<ImagePolicy>("list imagepolicies").await?);
        Ok(policies)
    }

    async fn policies_of<K: PolicyObject>(&self, what: &str) -> Asked<Vec<Policy>> {
        let listed = asked(what, self.all::<Item<Unparsed<K>>>().list(&ListParams::default())).await?;
        Ok(listed.items.into_iter().filter_map(Item::read).map(policy).collect())
    }

    async fn labelled(&self) -> Asked<Labelled> {
        let api = self.all::<Item<SlimNamespace>>();
        let listed = asked("list namespaces", api.list(&ListParams::default())).await?;
        let listed: Vec<_> = listed.items.into_iter().filter_map(Item::read).collect();
        let with = |label: &str| {
            let is = |namespace: &&SlimNamespace| {
                namespace.labels().get(label).is_some_and(|value| value == "true")
            };
            listed.iter().filter(is).map(ResourceExt::name_any).collect()
        };
        Ok(Labelled {
            fail_closed: with("tagpin.dev/fail-closed"),
            break_glass: with("tagpin.dev/break-glass"),
        })
    }

    async fn behind_secrets(&self) -> Asked<Vec<BehindSecrets>> {
        const POD: SlimKind = SlimKind::Object(Kind::Pod);
        let api = Api::<Item<Slim>>::all_with(self.client.clone(), &POD);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = asked("list pods", api.list(&page)).await?;
            let (items, metadata) = (listed.items, listed.metadata);
            for pod in items.into_iter().filter_map(Item::read) {
                let namespace = pod.metadata.namespace.clone().unwrap_or_default();
                let judged = namespace != self.namespace && !SYSTEM.contains(&namespace.as_str());
                if judged && !pod.ended(Kind::Pod) && !pod.pull_secrets(POD).is_empty() {
                    let slots = pod.slots(POD);
                    let unpinned =
                        slots.iter().filter(|slot| !slot.never_pulled && tag_alone(slot.reference));
                    *counts.entry(namespace).or_default() += unpinned.count();
                }
            }
            match metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        let behind = counts.into_iter().map(|(namespace, images)| BehindSecrets { namespace, images });
        Ok(behind.filter(|behind| behind.images > 0).collect())
    }

    async fn denied(&self) -> Asked<Vec<String>> {
        let rights = RIGHTS.iter().flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
        let answers = stream::iter(rights.map(|(right, verb)| self.may(right, verb)));
        let answers: Vec<Asked<Option<String>>> = answers.buffered(AT_ONCE).collect().await;
        Ok(answers.into_iter().collect::<Asked<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Nothing when the service account may; else the right in words.
    async fn may(&self, right: &Right, verb: &str) -> Asked<Option<String>> {
        let (resource, subresource) = match right.resource.split_once('/') {
            None => (right.resource, None),
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        };
        let namespace = self.namespace;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{NAME}")),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(right.group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    name: right.name.map(str::to_owned),
                    namespace: (right.scope == Scope::Release).then(|| namespace.to_owned()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api = self.all::<SubjectAccessReview>();
        let params = PostParams::default();
        let answer = asked("ask for the service account's rights", api.create(&params, &review)).await?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(None);
        }
        let name = right.name.map(|name| format!(" {name}")).unwrap_or_default();
        Ok(Some(format!("{verb} {}{name}", right.resource)))
    }
}

pub(crate) async fn asked<T>(what: &str, question: impl Future<Output = kube::Result<T>>) -> Asked<T> {
    match timeout(LIMIT, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(format!("{what}: {}", status.message)),
        Ok(Err(cause)) => Err(format!("{what}: {cause}")),
        Err(_) => Err(format!("{what}: no answer in time")),
    }
}

fn entries(webhooks: impl Iterator<Item = (String, Option<String>, WebhookClientConfig)>) -> Vec<Entry> {
    let ours = webhooks.filter(|(name, _, _)| name.ends_with(ENTRIES));
    ours.map(|(name, failure_policy, client)| Entry {
        name,
        fails: failure_policy.as_deref() != Some("Ignore"),
        ca: client.ca_bundle.map(|bundle| bundle.0).unwrap_or_default(),
    })
    .collect()
}

/// Of the first certificate.
fn validity(pem: &[u8]) -> Option<Validity> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    let validity = parsed.validity();
    Some(Validity {
        from: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        until: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    })
}

fn deployment(found: Deployment) -> Option<findings::Deployment> {
    let spec = found.spec?;
    let containers = spec.template.spec.map(|spec| spec.containers).unwrap_or_default();
    let mut args = containers.iter().flat_map(|container| container.args.iter().flatten());
    Some(findings::Deployment {
        wanted: spec.replicas.unwrap_or(1),
        pull_secrets_off: !args
            .any(|arg| arg == "--pull-secrets=namespaces" || arg == "--pull-secrets=cluster"),
    })
}

fn policy<K>(object: Unparsed<K>) -> Policy {
    let Unparsed { metadata, status, .. } = object;
    let status = serde_json::from_value::<PolicyStatus>(status).unwrap_or_default();
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == READY);
    Policy {
        id: PolicyId { namespace: metadata.namespace, name: metadata.name.unwrap_or_default() },
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        observed: status.observed_generation,
        ready: ready.map(|ready| Ready {
            is: ready.status == "True",
            reason: ready.reason,
            message: ready.message,
        }),
        unpinned: status.summary.map(|summary| summary.unpinned).unwrap_or_default(),
    }
}

/// A reference that names no digest.
fn tag_alone(reference: &str) -> bool {
    ImageRef::parse(reference).is_ok_and(|image| image.digest().is_none())
}
