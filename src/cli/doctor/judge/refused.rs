//! The users who are refused again and again, with an exception that lets them pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli::doctor::findings::{Findings, Policy};
use crate::cli::doctor::judge::policies::edit;
use crate::cli::doctor::judge::row::{Row, known, upgrade};
use tagpin_domain::check::Rule;
use tagpin_domain::denial::Code;
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::PolicyId;
use tagpin_objects::findings::AGAIN;
use tagpin_objects::image_policy::Refused;
use tagpin_objects::release::BASELINE;

const CHECK: &str = "refused";
/// Maximum number of refusals in the row of one policy.
const SHOWN: usize = 5;
/// Maximum number of images of one exception.
const IMAGES: usize = 16;
/// Time until the printed exception expires.
const LASTS: SignedDuration = SignedDuration::from_hours(90 * 24);

pub(crate) fn refused(found: &Findings) -> Vec<Row> {
    known(CHECK, &found.policies, |policies| {
        let rows: Vec<_> = policies.iter().filter_map(|policy| row(found, policy)).collect();
        if rows.is_empty() { vec![Row::ok(CHECK, "nobody is refused again and again")] } else { rows }
    })
}

fn row(found: &Findings, policy: &Policy) -> Option<Row> {
    let again: Vec<_> = policy.refused.iter().filter(|row| row.count >= AGAIN).take(SHOWN).collect();
    if again.is_empty() {
        return None;
    }
    let sentence = |row: &&Refused| {
        let Refused { namespace, kind, user, image, code, count, last: _ } = row;
        format!("{user} is refused {count} times: {kind} in {namespace}, \"{image}\" [{code}]")
    };
    let detail = again.iter().map(sentence).collect::<Vec<_>>().join("; ");
    let remedy = values(found, policy, &again).unwrap_or_else(|| {
        format!("correct the images, or add an exception with users: {}", edit(&policy.id))
    });
    Some(Row::note(CHECK, format!("{}: {detail}", policy.id), Some(remedy)))
}

/// Returns the command that adds the exceptions to the values of the release; none if the policy is not made from them.
fn values(found: &Findings, policy: &Policy, again: &[&Refused]) -> Option<String> {
    let baseline = found.baseline.as_ref().ok()?;
    let is_ours = baseline.held.as_ref().is_some_and(|held| held.ours);
    let wanted = baseline.wanted.as_ref().filter(|_| is_ours)?;
    if policy.id != (PolicyId { namespace: None, name: BASELINE.to_owned() }) {
        return None;
    }
    let mut exceptions = wanted.get("exceptions").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: BTreeSet<String> =
        exceptions.iter().filter_map(|held| Some(held.get("name")?.as_str()?.to_owned())).collect();
    let mut free = (1..).map(|number| format!("refused-{number}")).filter(|name| !names.contains(name));
    let before = exceptions.len();
    for ((user, namespace, rule), found_of) in grouped(again) {
        exceptions.push(exception(&free.next()?, (user, namespace, rule), &found_of, found.now)?);
    }
    if exceptions.len() == before {
        return None;
    }
    // The JSON stands between single quotes of a shell.
    let written = Value::Array(exceptions).to_string().replace('\'', "\\u0027");
    Some(format!("{} --set-json 'baseline.exceptions={written}'", upgrade(found)))
}

/// The user, the namespace and the rule of an exception.
type Covered<'a> = (&'a str, &'a str, Rule);

/// The images of an exception, and the number of refusals.
#[derive(Default)]
struct Images {
    globs: BTreeSet<String>,
    /// True if an image cannot be read, so that no list of images covers it.
    unreadable: bool,
    count: u32,
}

/// Returns the refusals that one exception each covers. Names that were cut or escaped are left out.
fn grouped<'a>(again: &[&'a Refused]) -> BTreeMap<Covered<'a>, Images> {
    let mut groups: BTreeMap<Covered<'a>, Images> = BTreeMap::new();
    for row in again {
        let is_whole = |text: &str| !text.contains('\\') && !text.ends_with("...");
        let rule = Code::ALL.into_iter().find(|code| code.as_str() == row.code).map(Code::rule);
        let Some(rule) = rule.filter(|_| is_whole(&row.user)) else { continue };
        let images = groups.entry((&row.user, &row.namespace, rule)).or_default();
        images.count = images.count.saturating_add(row.count);
        match ImageRef::parse(&row.image) {
            Ok(image) if is_whole(&row.image) => drop(images.globs.insert(image.policy_name())),
            _ => images.unreadable = true,
        }
    }
    groups
}

fn exception(
    name: &str,
    (user, namespace, rule): Covered<'_>,
    images: &Images,
    now: Timestamp,
) -> Option<Value> {
    let expires = now.checked_add(LASTS).ok()?.strftime("%Y-%m-%dT00:00:00Z").to_string();
    let mut exception = json!({
        "name": name,
        "reason": format!("{user} was refused {} times; correct its images until this ends", images.count),
        "namespaces": [namespace],
        "users": [escaped(user)],
        "rules": [rule.word()],
        "expires": expires,
    });
    if !images.unreadable && images.globs.len() <= IMAGES {
        exception.as_object_mut()?.insert("images".to_owned(), json!(images.globs));
    }
    Some(exception)
}

/// Returns the glob that matches this text alone.
fn escaped(text: &str) -> String {
    let class = |character| matches!(character, '*' | '?' | '[' | '{' | '}' | ',');
    text.chars().map(|c| if class(c) { format!("[{c}]") } else { c.to_string() }).collect()
}
