//! The parts that everything else needs: custom resource definitions, rights, the certificate.

use jiff::{SignedDuration, Timestamp};

use crate::cli::doctor::findings::{Findings, Validity};
use crate::cli::doctor::judge::row::{Row, known, logs, named, upgrade};

/// Remaining lifetime below which a certificate is reported; tagpin renews it long before.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(1);

pub(crate) fn crds(found: &Findings) -> Vec<Row> {
    known("crds", &found.crds, |crds| {
        let missing: Vec<_> =
            crds.iter().filter(|crd| !crd.established).map(|crd| crd.name.clone()).collect();
        if missing.is_empty() {
            return vec![Row::ok(
                "crds",
                format!("{} custom resource definitions are established", crds.len()),
            )];
        }
        let detail = format!("missing or not established: {}; no policy is in force", named(&missing));
        vec![Row::red("crds", detail, "tagpin crds | kubectl apply --server-side -f -")]
    })
}

pub(crate) fn permissions(found: &Findings) -> Vec<Row> {
    known("permissions", &found.denied, |denied| {
        if denied.is_empty() {
            return vec![Row::ok("permissions", "the service account has every right that the chart grants")];
        }
        let detail = format!("the service account may not {}", named(denied));
        vec![Row::red("permissions", detail, upgrade(found))]
    })
}

pub(crate) fn certificate(found: &Findings) -> Vec<Row> {
    const CHECK: &str = "certificate";
    known(CHECK, &found.certificate, |certificate| {
        let Some(certificate) = certificate else {
            return vec![Row::red(CHECK, "the Secret tagpin-webhook-tls does not exist", logs(found))];
        };
        let renew = format!("kubectl -n {} delete secret tagpin-webhook-tls", found.namespace);
        let (Some(leaf), Some(authority)) = (certificate.leaf, certificate.authority) else {
            let detail = "the certificate in the Secret tagpin-webhook-tls cannot be read";
            return vec![Row::red(CHECK, detail, renew)];
        };
        for (what, validity) in [("the certificate", leaf), ("its authority", authority)] {
            if let Some(wrong) = wrong(validity, found.now) {
                return vec![Row::red(CHECK, format!("{what} {wrong}"), renew)];
            }
        }
        vec![Row::ok(CHECK, format!("valid until {}, its authority until {}", leaf.until, authority.until))]
    })
}

fn wrong(validity: Validity, now: Timestamp) -> Option<String> {
    if validity.until <= now {
        Some(format!("has expired at {}", validity.until))
    } else if validity.from > now {
        Some(format!("is not valid before {}", validity.from))
    } else if validity.until.duration_since(now) < EXPIRES_SOON {
        Some(format!("expires within the hour, at {}, and was not renewed", validity.until))
    } else {
        None
    }
}
