//! Schemas of single fields: bounds, and CEL rules with messages that say what to type.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::kinds::Kinds;
use crate::schema::rule;
use tagpin_domain::check::Rule;
use tagpin_domain::kind::Kind;
use tagpin_domain::slot::Role;

/// Returns the rule that every entry occurs once.
pub(super) fn unique(what: &str) -> Value {
    rule("self.all(a, self.exists_one(b, a == b))", &format!("name each {what} once"))
}

/// Returns the rule that classes and alternatives of a glob are closed. The compiler finds what this rule does not.
fn closed() -> Value {
    rule(
        r"!self.matches('\\[[^\\]]*$') && !self.matches('^[^\\[]*[{][^}]*$')",
        "close [ by ], and { by }: nightly-[0-9], {main,master}",
    )
}

/// Returns the schema of a list of globs on image names.
pub(super) fn images<const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "items": {
            "type": "string",
            "maxLength": 256,
            "x-kubernetes-validations": [
                rule(
                    r"!self.matches('[\\s@]') && !self.matches(':[^/]*$')",
                    "images are matched by name alone: write it without spaces, tag and digest",
                ),
                rule(
                    "!self.contains('//') && !self.endsWith('/') && !self.contains(':443/')",
                    "write the name without https://, empty parts and the port 443: ghcr.io/acme/**",
                ),
                rule("!self.matches('^[^\\\\[{]*[A-Z]')", "write the name in lower case, as tagpin compares it"),
                rule(
                    r"self == '**' || self.matches('^(localhost|[^/]*[.:*?{\\[A-Z][^/]*)/.')",
                    "write the full name with its registry: docker.io/library/nginx, ghcr.io/acme/**",
                ),
                rule(
                    "!self.matches('^docker[.]io/[^/{]*$') \
                     && !self.matches('^(index[.]docker[.]io|registry-1[.]docker[.]io|registry[.]hub[.]docker[.]com)/') \
                     || self == 'docker.io/**'",
                    "Docker Hub's official images are docker.io/library/NAME, all of Docker Hub is docker.io/**",
                ),
                closed(),
            ],
        },
        "x-kubernetes-validations": [unique("glob")],
    })
}

/// Returns the schema of a list of globs on tags.
pub(super) fn tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "string",
            "maxLength": 128,
            "x-kubernetes-validations": [
                rule(
                    r"self.matches('^[A-Za-z0-9_*?{\\[][A-Za-z0-9_.*?!^,{}\\[\\]-]*$')",
                    "write one tag or glob per entry, without colon and spaces: latest, dev-*, *-rc?, nightly-[0-9]*",
                ),
                closed(),
            ],
        },
        "x-kubernetes-validations": [unique("tag")],
    })
}

/// Returns the schema of a list of words of an enum.
pub(super) fn words<T: JsonSchema>(generator: &mut SchemaGenerator, max: usize, rules: &[Value]) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max,
        "items": generator.subschema_for::<T>(),
        "x-kubernetes-validations": rules,
    })
}

pub(super) fn slots(generator: &mut SchemaGenerator) -> Schema {
    words::<Role>(generator, 4, &[unique("slot")])
}

pub(super) fn waived_rules(generator: &mut SchemaGenerator) -> Schema {
    let some = rule(
        "self.size() > 0",
        "name the rules it waives, or leave the list out to waive every rule but pin",
    );
    words::<Rule>(generator, 4, &[unique("rule"), some])
}

/// Returns the schema of a list of names of namespaces.
pub(super) fn namespaces(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "string",
            "maxLength": 63,
            "x-kubernetes-validations": [rule(
                "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "write the exact name of a namespace; globs are not understood here",
            )],
        },
        "x-kubernetes-validations": [unique("namespace")],
    })
}

/// Returns the schema of a list of globs on names of users or groups.
fn identities(what: &str, more: &[Value]) -> Schema {
    let some = rule("self.size() > 0", &format!("write the name of a {what}, or leave it out"));
    let rules: Vec<_> = [&[some, closed()], more].concat();
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": { "type": "string", "maxLength": 253, "x-kubernetes-validations": rules },
        "x-kubernetes-validations": [unique(what)],
    })
}

/// Returns the schema of a list of globs on names of users.
pub(super) fn users(_: &mut SchemaGenerator) -> Schema {
    let account = rule(
        r"!self.startsWith('system:serviceaccount') || self.matches('[*?{\\[]|^system:serviceaccount:[^:]+:[^:]+$')",
        "a service account is system:serviceaccount:NAMESPACE:NAME, and all of a namespace are \
         system:serviceaccount:NAMESPACE:*",
    );
    identities("user", &[account])
}

/// Returns the schema of a list of globs on names of groups.
pub(super) fn groups(_: &mut SchemaGenerator) -> Schema {
    identities("group", &[])
}

/// Returns the schema of a duration that always fits.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "x-kubernetes-validations": [rule(
            "self.matches('^(0|([0-9]{1,6}([.][0-9]{1,3})?(h|m|s|ms))+)$')",
            "write hours, minutes and seconds: 168h, 1h30m, or 0s for never",
        )],
    })
}

/// Returns the schema of a time with its zone (RFC 3339).
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 40,
        "x-kubernetes-validations": [rule(
            "self.matches('^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\
             ([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$')",
            "write a time with its zone: 2027-01-31T00:00:00Z",
        )],
    })
}

/// Returns the rule that the kind is one that tagpin validates. Any other kind would never match.
pub(super) fn known_kind() -> Value {
    let table = Kinds::default();
    let mut known = table.all().map(|kind| format!("{}/{}", kind.group(), kind.name())).collect::<Vec<_>>();
    known.sort_unstable();
    let list = known.iter().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ");
    let groups = ["apps", "batch", ""].map(|group| {
        let kinds = table.all().filter(|kind| kind.group() == group).map(Kind::name);
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        if group.is_empty() { format!("no group: {kinds}") } else { format!("group {group}: {kinds}") }
    });
    json!({
        "rule": format!("self.group + '/' + self.kind in [{list}]"),
        "message": format!("tagpin validates these kinds. {}", groups.join("; ")),
    })
}
