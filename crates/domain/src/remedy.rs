//! Changes of the operator's configuration, as a person types them. Every entry of `registries` that tagpin prints is
//! written here: the first entry that matches a host counts, so a setting belongs into the entry that decides already.

use std::fmt::Write as _;

use crate::denial::shown;
use crate::fact::Cloud;

/// Maximum number of characters of a host in a sentence.
pub(crate) const HOST_LIMIT: usize = 255;

/// One setting for one host.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    host: &'a str,
    existing: Option<&'a str>,
    setting: Setting<'a>,
}

/// A setting of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<'a> {
    /// The host may have a private address.
    AllowPrivate,
    /// The host is asked, although it is offline: by an entry, or because its name is a single word.
    Asked,
    /// A file with the authority that signed the certificate of the host.
    CaFile,
    /// The host speaks plain http.
    PlainHttp,
    /// The token service that may see the credentials for the host.
    TrustedRealm(&'a str),
    /// The credentials in a Secret of the cluster.
    Secret,
    /// The credentials that a cloud gives, in this region if the cloud has regions.
    Cloud(Cloud, Option<&'a str>),
}

/// The file that holds the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The values of the chart.
    Values,
    /// The file of the option `--registries`.
    File,
}

impl<'a> Entry<'a> {
    /// Creates the setting for a host, with its port. `existing` is the `match` of the entry that covers the host now.
    #[must_use]
    pub const fn new(host: &'a str, existing: Option<&'a str>, setting: Setting<'a>) -> Self {
        Self { host, existing, setting }
    }

    /// Returns the keys of the setting: `allowPrivate: true`.
    #[must_use]
    pub fn keys(&self) -> String {
        match self.setting {
            Setting::AllowPrivate | Setting::Asked => "allowPrivate: true".to_owned(),
            Setting::CaFile => "tls: { caFile: PATH }".to_owned(),
            Setting::PlainHttp => {
                format!("resolveFrom: mirrors-only, mirrors: [{{ url: \"http://{}\" }}]", self.host())
            }
            Setting::TrustedRealm(realm) => format!("trustedRealms: [\"{}\"]", shown(realm, HOST_LIMIT)),
            Setting::Secret => "credentials: { secretRef: { namespace: NAMESPACE, name: NAME } }".to_owned(),
            // An entry with a wildcard in place of the region has to list the regions.
            Setting::Cloud(cloud, Some(region)) if self.existing.is_some() => {
                format!(
                    "credentials: {{ {}: {{ regions: [\"{}\"] }} }}",
                    cloud.word(),
                    shown(region, HOST_LIMIT)
                )
            }
            Setting::Cloud(cloud, _) => format!("credentials: {{ {}: {{}} }}", cloud.word()),
        }
    }

    /// Returns the host as `match` takes it: in lower case, and without the port that https has anyway.
    fn host(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        shown(host.strip_suffix(":443").unwrap_or(&host), HOST_LIMIT)
    }
}

/// Returns what to do so that the settings are in force: `add registries: [{ match: "HOST", allowPrivate: true }] to the
/// values of tagpin`, or, for a host that an entry covers already, `add allowPrivate: true to the entry match:
/// "*.HOST" in the values of tagpin`.
#[must_use]
pub fn change(entries: &[Entry<'_>], holder: Holder) -> String {
    let mut known: Vec<(&str, bool, Vec<String>)> = Vec::new();
    let mut new = Vec::new();
    for entry in entries {
        let Some(existing) = entry.existing else {
            new.push(format!("{{ match: \"{}\", {} }}", entry.host(), entry.keys()));
            continue;
        };
        let (keys, offline) = match entry.setting {
            Setting::Asked => ("offline: true".to_owned(), true),
            _ => (entry.keys(), false),
        };
        match known.iter_mut().find(|(name, kind, _)| *name == existing && *kind == offline) {
            Some((.., settings)) => settings.push(keys),
            None => known.push((existing, offline, vec![keys])),
        }
    }
    let mut text = String::new();
    for (index, (existing, offline, keys)) in known.iter().enumerate() {
        let (verb, preposition) = if *offline { ("remove", "from") } else { ("add", "to") };
        let and = if index == 0 { "" } else { ", and " };
        let (keys, existing) = (keys.join(", "), shown(existing, HOST_LIMIT));
        let _ = write!(text, "{and}{verb} {keys} {preposition} the entry match: \"{existing}\"");
    }
    let holder = match (holder, new.is_empty()) {
        (Holder::Values, _) => "the values of tagpin",
        (Holder::File, true) => "the file of --registries",
        (Holder::File, false) => "a file for --registries",
    };
    if new.is_empty() {
        let _ = write!(text, " in {holder}");
    } else {
        let and = if text.is_empty() { "" } else { ", and " };
        let _ = write!(text, "{and}add registries: [{}] to {holder}", new.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(entries: &[Entry<'_>]) -> String {
        change(entries, Holder::Values)
    }

    #[test]
    fn a_new_entry_names_the_host_as_match_takes_it() {
        for (host, named) in [
            ("registry.corp:5000", "registry.corp:5000"),
            ("Registry.Corp:443", "registry.corp"),
            ("10.0.0.7:5000", "10.0.0.7:5000"),
            ("[fd00::7]:5000", "[fd00::7]:5000"),
            ("[fd00::443]", "[fd00::443]"),
            ("docker.io", "docker.io"),
        ] {
            let text = values(&[Entry::new(host, None, Setting::AllowPrivate)]);
            let wanted = format!(
                "add registries: [{{ match: \"{named}\", allowPrivate: true }}] to the values of tagpin"
            );
            assert_eq!(text, wanted, "{host}");
        }
    }

    #[test]
    fn a_host_that_an_entry_covers_gets_the_setting_there() {
        let covered = |setting| Entry::new("registry.corp:5000", Some("*.corp:5000"), setting);
        for (setting, text) in [
            (Setting::AllowPrivate, "add allowPrivate: true to the entry match: \"*.corp:5000\""),
            (Setting::Asked, "remove offline: true from the entry match: \"*.corp:5000\""),
            (Setting::CaFile, "add tls: { caFile: PATH } to the entry match: \"*.corp:5000\""),
            (
                Setting::PlainHttp,
                "add resolveFrom: mirrors-only, mirrors: [{ url: \"http://registry.corp:5000\" }] to the entry \
                 match: \"*.corp:5000\"",
            ),
            (
                Setting::Cloud(Cloud::Aws, Some("eu-west-1")),
                "add credentials: { aws: { regions: [\"eu-west-1\"] } } to the entry match: \"*.corp:5000\"",
            ),
        ] {
            assert_eq!(values(&[covered(setting)]), format!("{text} in the values of tagpin"));
            let in_file = change(&[covered(setting)], Holder::File);
            assert_eq!(in_file, format!("{text} in the file of --registries"));
        }
    }

    #[test]
    fn two_settings_are_one_text() {
        let trusted = |existing| Entry::new("registry.corp", existing, Setting::TrustedRealm("auth.corp"));
        let allowed = |existing| Entry::new("auth.corp", existing, Setting::AllowPrivate);
        assert_eq!(
            values(&[trusted(None), allowed(None)]),
            "add registries: [{ match: \"registry.corp\", trustedRealms: [\"auth.corp\"] }, { match: \"auth.corp\", \
             allowPrivate: true }] to the values of tagpin"
        );
        assert_eq!(
            values(&[trusted(Some("*.corp")), allowed(Some("*.corp"))]),
            "add trustedRealms: [\"auth.corp\"], allowPrivate: true to the entry match: \"*.corp\" in the values of \
             tagpin"
        );
        assert_eq!(
            values(&[trusted(Some("registry.*")), allowed(None)]),
            "add trustedRealms: [\"auth.corp\"] to the entry match: \"registry.*\", and add registries: [{ match: \
             \"auth.corp\", allowPrivate: true }] to the values of tagpin"
        );
        assert_eq!(
            values(&[trusted(Some("registry.*")), allowed(Some("auth.*"))]),
            "add trustedRealms: [\"auth.corp\"] to the entry match: \"registry.*\", and add allowPrivate: true to the \
             entry match: \"auth.*\" in the values of tagpin"
        );
    }

    #[test]
    fn a_hostile_name_stays_inside_its_quotes() {
        let text = values(&[Entry::new("x\" }]\n", None, Setting::TrustedRealm("y\"\u{202e}"))]);
        assert!(text.contains(r#"match: "x\" }]\n", trustedRealms: ["y\"\u{202e}"]"#), "{text}");
    }
}
