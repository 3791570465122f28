//! The conditions of tagpin's kinds: types and reasons as closed sets, and the rule by which one condition
//! follows another.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The one condition of a policy.
pub const READY: &str = "Ready";

/// Maximum number of characters of a condition's message; longer messages are cut.
const MESSAGE_LIMIT: usize = 1024;

/// The reason why a policy is ready or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadyReason {
    /// Ready, mode Enforce.
    Enforcing,
    /// Ready, mode Warn.
    Warning,
    /// Ready, mode Audit.
    Auditing,
    /// This generation does not compile; the last good one stays in force.
    Invalid,
    /// The namespace has so many older policies that this one is not in force.
    TooMany,
    /// Not every ready replica has this generation yet.
    Propagating,
    /// A namespaced policy in a namespace that the webhooks do not see.
    NamespaceExcluded,
    /// The webhook configurations are missing or hold no webhooks.
    WebhooksNotInstalled,
    /// The API server does not reach the webhooks.
    WebhookUnreachable,
    /// Somebody changes a webhook configuration again and again.
    Contested,
}

impl ReadyReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Enforcing,
        Self::Warning,
        Self::Auditing,
        Self::Invalid,
        Self::TooMany,
        Self::Propagating,
        Self::NamespaceExcluded,
        Self::WebhooksNotInstalled,
        Self::WebhookUnreachable,
        Self::Contested,
    ];

    /// Returns the word in the condition: `Enforcing`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforcing => "Enforcing",
            Self::Warning => "Warning",
            Self::Auditing => "Auditing",
            Self::Invalid => "Invalid",
            Self::TooMany => "TooMany",
            Self::Propagating => "Propagating",
            Self::NamespaceExcluded => "NamespaceExcluded",
            Self::WebhooksNotInstalled => "WebhooksNotInstalled",
            Self::WebhookUnreachable => "WebhookUnreachable",
            Self::Contested => "Contested",
        }
    }

    /// Returns true if the policy is ready: the condition's status.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        match self {
            Self::Enforcing | Self::Warning | Self::Auditing => true,
            Self::Invalid
            | Self::TooMany
            | Self::Propagating
            | Self::NamespaceExcluded
            | Self::WebhooksNotInstalled
            | Self::WebhookUnreachable
            | Self::Contested => false,
        }
    }
}

/// Returns the `Ready` condition that follows these conditions. The transition time changes only with the
/// status, so that an unchanged condition is byte-equal.
#[must_use]
pub fn ready(
    before: &[Condition],
    reason: ReadyReason,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let status = if reason.is_ready() { "True" } else { "False" };
    let since = before
        .iter()
        .find(|condition| condition.type_ == READY && condition.status == status)
        .map_or(Time(now), |condition| condition.last_transition_time.clone());
    Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.chars().take(MESSAGE_LIMIT).collect(),
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// Returns the schema of a list of conditions, which is bounded and merged by type.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "maxLength": 63,
                    "description": "The type of the condition: Ready.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "The status of the condition.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that the condition describes.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "The time of the last change of the status.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 63,
                    "description": "The reason, in one word.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 4096,
                    "description": "The reason, in a sentence for people.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = ready(&[], ReadyReason::Propagating, "1 of 2 replicas", 1, at(10));
        assert_eq!((first.status.as_str(), first.last_transition_time.0), ("False", at(10)));
        let same = ready(std::slice::from_ref(&first), ReadyReason::Invalid, "spec.x", 2, at(20));
        assert_eq!((same.status.as_str(), same.last_transition_time.0), ("False", at(10)));
        let ready_now = ready(std::slice::from_ref(&same), ReadyReason::Warning, "", 2, at(30));
        assert_eq!((ready_now.status.as_str(), ready_now.last_transition_time.0), ("True", at(30)));
        let again = ready(std::slice::from_ref(&ready_now), ReadyReason::Warning, "", 2, at(40));
        assert_eq!(again, ready_now);
    }

    #[test]
    fn reasons_are_distinct_words_that_fit() {
        let words: std::collections::BTreeSet<_> = ReadyReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), ReadyReason::ALL.len());
        assert!(words.iter().all(|word| word.len() <= 63));
        assert_eq!(ReadyReason::ALL.iter().filter(|reason| reason.is_ready()).count(), 3);
    }

    #[test]
    fn a_long_message_is_cut() {
        let condition = ready(&[], ReadyReason::Invalid, &"ä".repeat(5000), 1, at(0));
        assert_eq!(condition.message.chars().count(), MESSAGE_LIMIT);
    }
}
