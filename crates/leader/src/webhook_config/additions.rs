//! Parts that others add to tagpin's entries. Managed control planes add conditions to the selectors of every webhook,
//! and add them again when they are removed. They stay while everything that tagpin wants is still there.

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, MutatingWebhook, ValidatingWebhook};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::webhook_config::documents::{NAMESPACE_NAME, STRICT};

/// Prefix of tagpin's own labels. A condition on one of them is never an addition of somebody else.
const OUR_LABELS: &str = "tagpin.dev/";
/// Names of the match conditions of every version of tagpin. One that is no longer wanted is a remainder.
const OUR_CONDITIONS: [&str; 4] = ["not-a-mirror-pod", "not-being-deleted", "template-changed", "the-canary"];

/// One entry of a webhook configuration.
pub(crate) trait Webhook: Clone + PartialEq {
    /// Returns the entry's name.
    fn name(&self) -> &str;

    /// Returns the parts to which others may add.
    fn parts(&mut self) -> Parts<'_>;
}

/// The parts of an entry to which others may add.
pub(crate) struct Parts<'a> {
    namespaces: &'a mut Option<LabelSelector>,
    objects: &'a mut Option<LabelSelector>,
    conditions: &'a mut Option<Vec<MatchCondition>>,
}

impl Webhook for MutatingWebhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            namespaces: &mut self.namespace_selector,
            objects: &mut self.object_selector,
            conditions: &mut self.match_conditions,
        }
    }
}

impl Webhook for ValidatingWebhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            namespaces: &mut self.namespace_selector,
            objects: &mut self.object_selector,
            conditions: &mut self.match_conditions,
        }
    }
}

/// Returns true if the live entry is the wanted one, apart from additions. An added selector of objects is not
/// tolerated where unanswered requests are refused: it takes protection from those who asked for it.
pub(crate) fn contains<W: Webhook>(live: &W, wanted: &W) -> bool {
    let (mut live, mut wanted) = (live.clone(), wanted.clone());
    let strict = wanted.name() == STRICT;
    let (theirs, ours) = (live.parts(), wanted.parts());
    accept(ours.namespaces, theirs.namespaces, selects_no_more);
    if !strict {
        accept(ours.objects, theirs.objects, selects_no_more);
    }
    accept(ours.conditions, theirs.conditions, |theirs, ours| {
        ours.iter().all(|condition| theirs.contains(condition))
            && theirs
                .iter()
                .all(|added| ours.contains(added) || !OUR_CONDITIONS.contains(&added.name.as_str()))
    });
    live == wanted
}

/// Takes over the live value if it only adds to the wanted one.
fn accept<T: Clone>(ours: &mut Option<T>, theirs: &Option<T>, adds: impl Fn(&T, &T) -> bool) {
    if let (Some(wanted), Some(live)) = (&*ours, theirs)
        && adds(live, wanted)
    {
        *ours = Some(live.clone());
    }
}

fn selects_no_more(live: &LabelSelector, wanted: &LabelSelector) -> bool {
    let live_expressions = live.match_expressions.as_deref().unwrap_or_default();
    let wanted_expressions = wanted.match_expressions.as_deref().unwrap_or_default();
    let is_ours = |key: &str| key.starts_with(OUR_LABELS);
    wanted_expressions.iter().all(|expression| live_expressions.contains(expression))
        && live_expressions.iter().all(|added| wanted_expressions.contains(added) || !is_ours(&added.key))
        && live.match_labels.iter().flatten().all(|(key, _)| !is_ours(key))
}

/// Adds to the wanted entries what others added to the selectors of the live ones, because an apply writes a selector
/// as a whole. A condition on the names of namespaces may be an earlier one of tagpin, so it is not kept.
pub(crate) fn keep<W: Webhook>(wanted: &mut Option<Vec<W>>, live: &Option<Vec<W>>) {
    for wanted in wanted.iter_mut().flatten() {
        let Some(mut live) = live.iter().flatten().find(|live| live.name() == wanted.name()).cloned() else {
            continue;
        };
        let strict = wanted.name() == STRICT;
        let (ours, theirs) = (wanted.parts(), live.parts());
        keep_selector(ours.namespaces, theirs.namespaces);
        if !strict {
            keep_selector(ours.objects, theirs.objects);
        }
    }
}

fn keep_selector(ours: &mut Option<LabelSelector>, theirs: &Option<LabelSelector>) {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
    let is_theirs = |key: &str| !key.starts_with(OUR_LABELS) && key != NAMESPACE_NAME;
    let added = theirs.match_expressions.iter().flatten().filter(|added| is_theirs(&added.key));
    let added: Vec<_> = added.cloned().collect();
    if !added.is_empty() {
        ours.match_expressions.get_or_insert_default().extend(added);
    }
    let labels = theirs.match_labels.iter().flatten().filter(|(key, _)| is_theirs(key));
    let labels: Vec<_> = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !labels.is_empty() {
        ours.match_labels.get_or_insert_default().extend(labels);
    }
}

/// Returns the additions of others to one of tagpin's entries, each in words: `control-plane DoesNotExist`.
#[must_use]
pub fn added(
    namespaces: Option<&LabelSelector>,
    objects: Option<&LabelSelector>,
    conditions: Option<&Vec<MatchCondition>>,
) -> Vec<String> {
    let selectors = || namespaces.into_iter().chain(objects);
    let mut names = 0;
    let expressions = selectors().flat_map(|selector| selector.match_expressions.iter().flatten());
    let expressions = expressions.filter(|expression| {
        names += u32::from(expression.key == NAMESPACE_NAME);
        // The first condition on the names of namespaces is tagpin's own.
        !expression.key.starts_with(OUR_LABELS) && (expression.key != NAMESPACE_NAME || names > 1)
    });
    let mut added: Vec<_> = expressions.map(in_words).collect();
    let labels = selectors().flat_map(|selector| selector.match_labels.iter().flatten());
    added.extend(labels.map(|(key, value)| format!("{key}={value}")));
    let conditions = conditions.into_iter().flatten().map(|condition| condition.name.as_str());
    let conditions = conditions.filter(|name| !OUR_CONDITIONS.contains(name));
    added.extend(conditions.map(|name| format!("condition {name}")));
    added
}

fn in_words(expression: &LabelSelectorRequirement) -> String {
    let LabelSelectorRequirement { key, operator, values } = expression;
    match values.as_deref().unwrap_or_default() {
        [] => format!("{key} {operator}"),
        values => format!("{key} {operator} {}", values.join(", ")),
    }
}
