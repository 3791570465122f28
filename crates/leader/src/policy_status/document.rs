//! The content of a policy's status: its condition, the last good generation and the counts.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::policy_status::standing::Standing;
use crate::webhook_config::{Installed, TO_FILL_IT};
use tagpin_domain::policy::Mode;
use tagpin_kube::policies::Held;
use tagpin_objects::conditions::{ReadyReason, ready};
use tagpin_objects::image_policy::{LastGood, PolicyStatus};

/// Maximum number of replicas that a message names.
const NAMED: usize = 5;

/// Everything except the policy that decides about the policy's readiness.
pub(crate) struct Place<'a> {
    /// Namespaces that are never intercepted.
    pub(crate) excluded: &'a BTreeSet<String>,
    /// The state of the webhook configurations.
    pub(crate) installed: &'a Installed,
    /// Number of ready replicas.
    pub(crate) replicas: usize,
    /// Names of the ready replicas that do not have this generation.
    pub(crate) lacking: &'a [&'a str],
}

impl Place<'_> {
    /// Returns the whole status of a policy.
    pub(crate) fn status(&self, policy: &Held, standing: Option<&Standing>, now: Timestamp) -> PolicyStatus {
        let (reason, message) = self.reason(policy, now);
        let condition = ready(&policy.status.conditions, reason, &message, policy.generation, now);
        let good = policy.good.as_ref().filter(|_| policy.error.is_some());
        PolicyStatus {
            observed_generation: Some(policy.generation),
            conditions: vec![condition],
            last_good: good.map(|good| LastGood { generation: good.generation, spec: good.spec() }),
            summary: standing.map(|standing| standing.summary),
            top_violations: standing.map(|standing| standing.top.clone()).unwrap_or_default(),
            unpinned: standing.map(|standing| standing.without_digest.clone()).unwrap_or_default(),
            refused: Vec::new(),
        }
    }

    fn reason(&self, policy: &Held, now: Timestamp) -> (ReadyReason, String) {
        if let Some(error) = &policy.error {
            let instead = match &policy.good {
                Some(good) => format!("generation {} stays in force", good.generation),
                None => "nothing is in force".to_owned(),
            };
            return (ReadyReason::Invalid, format!("{error}; {instead}"));
        }
        if policy.surplus {
            let text =
                format!("{}: delete policies that are not needed, or join several in one", policy.too_many());
            return (ReadyReason::TooMany, text);
        }
        if policy.id.namespace.as_ref().is_some_and(|namespace| self.excluded.contains(namespace)) {
            let text = "requests of this namespace never reach tagpin, because the value excludedNamespaces names it";
            return (ReadyReason::NamespaceExcluded, text.to_owned());
        }
        if let Some(text) = self.not_installed() {
            return (ReadyReason::WebhooksNotInstalled, text.into_owned());
        }
        if let Some(text) = self.unreachable() {
            return (ReadyReason::WebhookUnreachable, text.to_owned());
        }
        if let Installed::Contested { configuration, by } = self.installed {
            let by = if by.is_empty() { "somebody" } else { by };
            let text = format!(
                "{by} changes the webhook configuration {configuration} again and again; let it ignore /webhooks \
                 (docs/runbook.md#tagpinwebhookscontested)"
            );
            return (ReadyReason::Contested, text);
        }
        if self.replicas == 0 {
            return (ReadyReason::Propagating, "no replica of tagpin is ready".to_owned());
        }
        if !self.lacking.is_empty() {
            let named = self.lacking.get(..NAMED).unwrap_or(self.lacking).join(", ");
            let more = self.lacking.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let text = format!("generation {} is not in force yet on {named}{more}", policy.generation);
            return (ReadyReason::Propagating, text);
        }
        let mut text = "in force on every ready replica".to_owned();
        if policy.by_name {
            text.push_str(
                "; the API server leaves this policy out of its lists although it can be read by name: \
                 its datastore is inconsistent",
            );
        }
        for note in policy.good.iter().flat_map(|good| good.policy.notes(now)) {
            text.push_str("; note: ");
            text.push_str(&note.to_string());
        }
        match policy.good.as_ref().map(|good| good.policy.mode) {
            Some(Mode::Enforce) => (ReadyReason::Enforcing, text),
            Some(Mode::Warn) => (ReadyReason::Warning, text),
            Some(Mode::Audit) | None => (ReadyReason::Auditing, text),
        }
    }

    const fn unreachable(&self) -> Option<&'static str> {
        match self.installed {
            Installed::Unreachable => Some(
                "the API server does not reach tagpin's webhook, so nothing is checked or pinned; check the \
                 Service tagpin, its endpoints, and network policies or firewalls between the control plane \
                 and the pods",
            ),
            Installed::Withdrawn => Some(
                "the API server does not reach tagpin's webhook, so nothing is checked or pinned, and the \
                 webhooks are taken out of the way until it does; check the Service tagpin, its endpoints, and \
                 network policies or firewalls between the control plane and the pods",
            ),
            _ => None,
        }
    }

    fn not_installed(&self) -> Option<Cow<'static, str>> {
        let text = match self.installed {
            Installed::Yes
            | Installed::Armed
            | Installed::Unreachable
            | Installed::Withdrawn
            | Installed::Contested { .. } => return None,
            Installed::BrokenGlass { rearm } => {
                let text = "a webhook configuration came back after break glass and stays empty: nothing is \
                            checked or nothing is pinned";
                return Some(Cow::Owned(format!("{text}; {TO_FILL_IT}{rearm}")));
            }
            Installed::NotYet => {
                "tagpin waits for its certificate and its server before it fills the webhook configurations"
            }
            Installed::Opened => {
                "the leader of tagpin is not ready, so fail-closed namespaces are open and the webhook \
                 configurations are not updated; /readyz on its admin port names the reason"
            }
            Installed::Missing => {
                "the webhook configurations zz-tagpin and tagpin do not both exist: nothing is checked; \
                 `helm upgrade` brings them back"
            }
            Installed::Unwritable => {
                "the webhook configurations cannot be written; the leader's log has the reason"
            }
            Installed::Emptied => {
                "the Deployment or the namespace of tagpin is deleted, or its CRDs do not exist: nothing is checked"
            }
        };
        Some(Cow::Borrowed(text))
    }
}
