//! The configuration of registries: its mistakes, and the replicas that use an earlier one.

use crate::cli::doctor::findings::{Configuration, Findings};
use crate::cli::doctor::judge::row::{Row, logs, named};

const CHECK: &str = "configuration";

pub(crate) fn configuration(found: &Findings) -> Vec<Row> {
    let behind: Vec<String> = found
        .replicas
        .iter()
        .flatten()
        .filter(|replica| {
            replica.answers.as_ref().is_ok_and(|answers| answers.counters.earlier_configuration)
        })
        .map(|replica| replica.name.clone())
        .collect();
    let in_force = (!behind.is_empty())
        .then(|| format!("an earlier configuration of registries is in force on {}", named(&behind)));
    let unknown = |cause: &str| match &in_force {
        None => vec![Row::unknown(CHECK, cause)],
        Some(in_force) => vec![Row::unknown(CHECK, cause), Row::red(CHECK, in_force, logs(found))],
    };
    match &found.configuration {
        Err(cause) => unknown(cause),
        Ok(Some(Configuration { checked: Err(mistake), unseen, .. })) => {
            if let Some(folder) = unseen.iter().find(|folder| mistake.contains(folder.as_str())) {
                return unknown(&format!(
                    "the files in {folder} cannot be read from outside of the pod: {mistake}"
                ));
            }
            let detail = match in_force {
                Some(in_force) => format!("{mistake}; {in_force}"),
                None => mistake.clone(),
            };
            let remedy = format!(
                "correct the values (registries, registryDefaults, registriesFile, extraCAs), then: helm upgrade \
                 tagpin charts/tagpin -n {} -f VALUES",
                found.namespace
            );
            vec![Row::red(CHECK, detail, remedy)]
        }
        Ok(used) => {
            if let Some(in_force) = in_force {
                return vec![Row::red(CHECK, in_force, logs(found))];
            }
            let warnings = used.iter().filter_map(|used| used.checked.as_ref().ok()).flatten();
            let notes: Vec<Row> = warnings.map(|warning| Row::note(CHECK, warning, None)).collect();
            if !notes.is_empty() {
                return notes;
            }
            let detail = match used {
                Some(_) => "the configuration of registries is valid",
                None => "the Deployment names no configuration of registries",
            };
            vec![Row::ok(CHECK, detail)]
        }
    }
}
