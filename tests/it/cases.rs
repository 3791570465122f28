//! Every case of `tests/cases/reviews`. An object goes through /mutate, its patch is applied, and the result goes
//! through /validate. All of this runs in process, with the real stores and policies; only the registry is scripted.
//!
//! A new case needs no Rust; `cases/model.rs` describes the fields of a case.

mod model;
mod outcome;
mod world;

use model::Case;

#[tokio::test(start_paused = true)]
async fn every_case_holds() {
    let cases = model::all();
    assert!(cases.len() >= 250, "only {} cases were found", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let differences = check(case).await;
        if !differences.is_empty() {
            failed.push(format!("{}: {}\n{}", case.file, case.name, differences.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}

async fn check(case: &Case) -> Vec<String> {
    let world = world::World::of(case);
    let observed = outcome::observe(case, &world).await;
    outcome::differences(case, &observed)
}
