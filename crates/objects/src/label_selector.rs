//! Label selectors in the form of Kubernetes, with bounds and checks, and their conversion to the selectors
//! of a policy.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema::rule;
use tagpin_domain::policy::{LabelOperator, LabelRequirement, Selector};

/// A label selector: every entry of both lists must hold. Empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be present with exactly this value.
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels.
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.operator in ['In', 'NotIn'] ? self.values.size() > 0 : self.values.size() == 0",
        "In and NotIn need values, Exists and DoesNotExist take none",
    ),
    rule(
        "!format.qualifiedName().validate(self.key).hasValue() \
         && self.values.all(v, !format.labelValue().validate(v).hasValue())",
        "not a label that an object can have: write a key such as env or example.com/team, and values such as prod",
    ),
]))]
pub struct LabelSelectorRequirement {
    /// The key of the label.
    #[schemars(length(max = 317))]
    pub key: String,
    /// The condition on the label: `In` (present with one of the values), `NotIn` (absent, or with another value),
    /// `Exists` (present), `DoesNotExist` (absent).
    pub operator: Operator,
    /// The values that In and NotIn compare with.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// The condition on a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// Present with one of the values.
    In,
    /// Absent, or present with another value.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

/// Returns the schema of a bounded map of labels.
fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "x-kubernetes-validations": [rule(
            "self.all(key, !format.qualifiedName().validate(key).hasValue() \
             && !format.labelValue().validate(self[key]).hasValue())",
            "not labels that an object can have: write keys such as env or example.com/team, and values such as prod",
        )],
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Self {
        let labels = selector.match_labels.iter().map(|(key, value)| LabelRequirement {
            key: key.clone(),
            operator: LabelOperator::In([value.clone()].into()),
        });
        let expressions = selector.match_expressions.iter().map(|requirement| {
            let values = || requirement.values.iter().cloned().collect();
            LabelRequirement {
                key: requirement.key.clone(),
                operator: match requirement.operator {
                    Operator::In => LabelOperator::In(values()),
                    Operator::NotIn => LabelOperator::NotIn(values()),
                    Operator::Exists => LabelOperator::Exists,
                    Operator::DoesNotExist => LabelOperator::DoesNotExist,
                },
            }
        });
        Self(labels.chain(expressions).collect())
    }
}
