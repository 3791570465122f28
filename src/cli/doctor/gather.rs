//! Asks the cluster everything that is judged. Each question can fail without the others.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::cli::doctor::findings::{
    self, Answer, Baseline, BehindSecrets, Certificate, Configuration, Crd, Entry, Findings, HeldBaseline,
    Holder, IdleLabel, Labelled, Policy, Ready, Replica, Validity,
};
use crate::cli::doctor::question::ask;
use crate::cli::doctor::{configuration, replica};
use crate::settings::{self, NEVER_INTERCEPTED};
use tagpin_domain::image::ImageRef;
use tagpin_domain::workload::Workload;
use tagpin_kube::certificate::Pems;
use tagpin_kube::crds;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy, PolicyObject};
use tagpin_kube::item::Item;
use tagpin_kube::policies::Reported;
use tagpin_kube::slim::{Slim, SlimNamespace, Unparsed};
use tagpin_kube::stored::Stored;
use tagpin_leader::baseline;
use tagpin_leader::webhook_config::additions::added;
use tagpin_objects::conditions::READY;
use tagpin_objects::kinds::{Kinds, PODS};
use tagpin_objects::release;
use tagpin_objects::rights::{RIGHTS, Right, Scope};

/// Maximum number of questions to the API server at the same time.
const AT_ONCE: usize = 8;
/// Number of pods in one page of a list.
const PAGE: u32 = 500;
/// Label of namespaces whose requests are refused while nobody answers.
const FAIL_CLOSED: &str = "tagpin.dev/fail-closed";
/// Label of namespaces that are not checked.
const BREAK_GLASS: &str = "tagpin.dev/break-glass";
/// Suffix of the names of tagpin's entries in a webhook configuration.
const ENTRY_SUFFIX: &str = ".tagpin.dev";

/// Asks all questions at the same time, and returns the answers.
pub(crate) async fn gather(client: Client, namespace: String) -> Findings {
    let cluster = Cluster { client: &client, namespace: &namespace };
    let ours = futures::future::join4(
        cluster.certificate(),
        cluster.lease(),
        cluster.installed(),
        cluster.replicas(),
    );
    let everybodys = futures::future::join4(
        cluster.policies(),
        cluster.labelled(),
        cluster.behind_secrets(),
        cluster.denied(),
    );
    let written =
        futures::future::join4(cluster.crds(), cluster.mutating(), cluster.validating(), cluster.baseline());
    let (ours, everybodys, written) = futures::join!(ours, everybodys, written);
    let (certificate, lease, (deployment, configuration), replicas) = ours;
    let (policies, labelled, behind_secrets, denied) = everybodys;
    let (crds, mutating, validating, baseline) = written;
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
        baseline,
        labelled,
        behind_secrets,
        namespace,
    }
}

/// The cluster, and the namespace that tagpin is installed in.
struct Cluster<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Cluster<'_> {
    fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    fn ours<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn crds(&self) -> Answer<Vec<Crd>> {
        let mut found = Vec::new();
        for name in crds::crds().iter().map(ResourceExt::name_any) {
            let crd = ask(
                &format!("get the CustomResourceDefinition {name}"),
                self.all::<CustomResourceDefinition>().get_opt(&name),
            )
            .await?;
            let conditions = crd.and_then(|crd| crd.status).and_then(|status| status.conditions);
            let mut conditions = conditions.iter().flatten();
            let established = conditions.any(|c| c.type_ == "Established" && c.status == "True");
            found.push(Crd { name, established });
        }
        Ok(found)
    }

    async fn mutating(&self) -> Answer<Option<Vec<Entry>>> {
        let api = self.all::<MutatingWebhookConfiguration>();
        let found = ask("get the mutatingwebhookconfiguration", api.get_opt(release::MUTATING)).await?;
        let entries = |found: MutatingWebhookConfiguration| {
            let webhooks = found.webhooks.unwrap_or_default().into_iter();
            entries(webhooks.map(|webhook| {
                let (namespaces, objects) = (&webhook.namespace_selector, &webhook.object_selector);
                let added = added(namespaces.as_ref(), objects.as_ref(), webhook.match_conditions.as_ref());
                (webhook.name, webhook.failure_policy, webhook.client_config, added)
            }))
        };
        Ok(found.map(entries))
    }

    async fn validating(&self) -> Answer<Option<Vec<Entry>>> {
        let api = self.all::<ValidatingWebhookConfiguration>();
        let found = ask("get the validatingwebhookconfiguration", api.get_opt(release::NAME)).await?;
        let entries = |found: ValidatingWebhookConfiguration| {
            let webhooks = found.webhooks.unwrap_or_default().into_iter();
            entries(webhooks.map(|webhook| {
                let (namespaces, objects) = (&webhook.namespace_selector, &webhook.object_selector);
                let added = added(namespaces.as_ref(), objects.as_ref(), webhook.match_conditions.as_ref());
                (webhook.name, webhook.failure_policy, webhook.client_config, added)
            }))
        };
        Ok(found.map(entries))
    }

    /// Reads the Secret of the certificate, without the keys in it.
    async fn certificate(&self) -> Answer<Option<Certificate>> {
        let secret =
            ask("get the Secret tagpin-webhook-tls", self.ours::<Secret>().get_opt(release::CERTIFICATE))
                .await?;
        Ok(secret.map(|secret| {
            let pems = Pems::of(&secret);
            let (leaf, authority) = (validity(&pems.certificate), validity(&pems.ca));
            Certificate { ca: pems.ca, leaf, authority }
        }))
    }

    async fn lease(&self) -> Answer<Option<Holder>> {
        let lease = ask("get the Lease", self.ours::<Lease>().get_opt(release::NAME)).await?;
        Ok(lease.map(|lease| {
            let spec = lease.spec.unwrap_or_default();
            let renewed = spec.renew_time.map(|time| time.0);
            Holder { identity: spec.holder_identity.unwrap_or_default(), renewed }
        }))
    }

    /// Returns the Deployment, and the configuration of registries that it names.
    async fn installed(&self) -> (Answer<Option<findings::Deployment>>, Answer<Option<Configuration>>) {
        let found = ask("get the Deployment", self.ours::<Deployment>().get_opt(release::NAME)).await;
        let configuration = match &found {
            Ok(Some(deployment)) => configuration::check(self.client, self.namespace, deployment).await,
            Ok(None) => Ok(None),
            Err(cause) => Err(cause.clone()),
        };
        (found.map(|found| found.and_then(deployment)), configuration)
    }

    async fn replicas(&self) -> Answer<Vec<Replica>> {
        let pods = self.ours::<Pod>();
        let listed =
            ask("list the pods of tagpin", pods.list(&ListParams::default().labels(release::POD_SELECTOR)))
                .await?;
        let staying = listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let questions = staying.map(|pod| {
            let pods = pods.clone();
            async move { Replica { name: pod.name_any(), answers: replica::ask(&pods, &pod).await } }
        });
        Ok(stream::iter(questions).buffered(AT_ONCE).collect().await)
    }

    async fn policies(&self) -> Answer<Vec<Policy>> {
        let mut policies = self.policies_of::<ClusterImagePolicy>("list clusterimagepolicies").await?;
        policies.extend(self.policies_of::<ImagePolicy>("list imagepolicies").await?);
        Ok(policies)
    }

    async fn policies_of<K: PolicyObject>(&self, what: &str) -> Answer<Vec<Policy>> {
        let listed = ask(what, self.all::<Item<Unparsed<K>>>().list(&ListParams::default())).await?;
        Ok(listed.items.into_iter().filter_map(Item::read).map(policy::<K>).collect())
    }

    /// Reads the policy `baseline`, and the settings of it in the ConfigMap of the release.
    async fn baseline(&self) -> Answer<Baseline> {
        let map = ask("get the ConfigMap tagpin", self.ours::<ConfigMap>().get_opt(release::NAME)).await?;
        let text = map.and_then(|map| map.data?.remove("baseline.yaml"));
        let text = text.ok_or("the ConfigMap tagpin does not exist, or has no baseline.yaml")?;
        let settings = settings::Baseline::parse(&text).map_err(|error| error.to_string())?;
        let settings::Baseline { enabled, mode, pin, namespace_selector, exceptions } = settings;
        let document = baseline::Baseline { mode, pin, namespace_selector, exceptions }.document();
        let api = self.all::<Item<Unparsed<ClusterImagePolicy>>>();
        let held = ask("get the clusterimagepolicy baseline", api.get_opt(release::BASELINE)).await?;
        let held = held.and_then(Item::read).map(|held| HeldBaseline {
            ours: held.labels().get(release::MANAGER_LABEL).is_some_and(|value| value == release::NAME),
            spec: held.spec,
        });
        Ok(Baseline { wanted: enabled.then(|| document.get("spec").cloned().unwrap_or_default()), held })
    }

    async fn labelled(&self) -> Answer<Labelled> {
        let api = self.all::<Item<SlimNamespace>>();
        let listed = ask("list namespaces", api.list(&ListParams::default())).await?;
        let listed: Vec<_> = listed.items.into_iter().filter_map(Item::read).collect();
        let with = |label: &str| {
            let has_label = |namespace: &&SlimNamespace| {
                namespace.labels().get(label).is_some_and(|value| value == "true")
            };
            listed.iter().filter(has_label).map(ResourceExt::name_any).collect()
        };
        let idle = |namespace: &SlimNamespace| {
            let found = [FAIL_CLOSED, BREAK_GLASS].map(|label| {
                let value = namespace.labels().get(label).filter(|value| *value != "true")?;
                Some(IdleLabel { namespace: namespace.name_any(), label, value: value.clone() })
            });
            found.into_iter().flatten()
        };
        Ok(Labelled {
            fail_closed: with(FAIL_CLOSED),
            break_glass: with(BREAK_GLASS),
            idle: listed.iter().flat_map(idle).collect(),
        })
    }

    async fn behind_secrets(&self) -> Answer<Vec<BehindSecrets>> {
        let kinds = Kinds::default();
        let api = Api::<Item<Slim>>::all_with(self.client.clone(), &&PODS);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = ask("list pods", api.list(&page)).await?;
            let (items, metadata) = (listed.items, listed.metadata);
            let read =
                |item: Item<Slim>| item.and_then(|slim| Stored::new(&kinds, &PODS, &slim)).ok().flatten();
            for pod in items.into_iter().filter_map(read) {
                let Workload { namespace, pull_secrets, slots, .. } = pod.workload;
                let judged = namespace != self.namespace && !NEVER_INTERCEPTED.contains(&namespace.as_str());
                if judged && !pod.ended && !pull_secrets.is_empty() {
                    let unpinned =
                        slots.iter().filter(|slot| !slot.never_pulled() && has_no_digest(&slot.reference));
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

    async fn denied(&self) -> Answer<Vec<String>> {
        let rights = RIGHTS.iter().flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
        let answers = stream::iter(rights.map(|(right, verb)| self.may(right, verb)));
        let answers: Vec<Answer<Option<String>>> = answers.buffered(AT_ONCE).collect().await;
        Ok(answers.into_iter().collect::<Answer<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Returns none if the service account has the right, otherwise the missing right in words.
    async fn may(&self, right: &Right, verb: &str) -> Answer<Option<String>> {
        let (resource, subresource) = match right.resource.split_once('/') {
            None => (right.resource, None),
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        };
        let namespace = self.namespace;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{}", release::NAME)),
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
        let answer = ask("check the rights of the service account", api.create(&params, &review)).await?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(None);
        }
        let name = right.name.map(|name| format!(" {name}")).unwrap_or_default();
        Ok(Some(format!("{verb} {}{name}", right.resource)))
    }
}

fn entries(
    webhooks: impl Iterator<Item = (String, Option<String>, WebhookClientConfig, Vec<String>)>,
) -> Vec<Entry> {
    let ours = webhooks.filter(|(name, ..)| name.ends_with(ENTRY_SUFFIX));
    ours.map(|(name, failure_policy, client, added)| Entry {
        name,
        fails: failure_policy.as_deref() != Some("Ignore"),
        ca: client.ca_bundle.map(|bundle| bundle.0).unwrap_or_default(),
        added,
        namespace: client.service.map(|service| service.namespace),
    })
    .collect()
}

/// Returns the validity of the first certificate.
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

fn policy<K: PolicyObject>(object: Unparsed<K>) -> Policy {
    let Unparsed { metadata, spec, status, .. } = object;
    let metadata = metadata.into_metadata();
    let reported = Reported::parse::<K>(&metadata, spec, status);
    let ready = reported.status.conditions.iter().find(|condition| condition.type_ == READY);
    let ready = ready.map(|ready| Ready {
        holds: ready.status == "True",
        reason: ready.reason.clone(),
        message: ready.message.clone(),
    });
    let notes = reported.compiled.iter().flat_map(|good| good.policy.notes(Timestamp::now()));
    Policy {
        notes: notes.map(|note| note.to_string()).collect(),
        id: reported.id,
        uid: reported.uid,
        generation: reported.generation,
        observed: reported.status.observed_generation,
        ready,
        unpinned: reported.status.summary.map(|summary| summary.unpinned).unwrap_or_default(),
        without_digest: reported.status.unpinned,
        refused: reported.status.refused,
    }
}

/// Returns true if the reference carries no digest.
fn has_no_digest(reference: &str) -> bool {
    ImageRef::parse(reference).is_ok_and(|image| image.digest().is_none())
}
