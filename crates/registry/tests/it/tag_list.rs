//! Lists of tags that are longer than a table of cases should be.
//! The answers of registries page by page are in `tests/cases/registry/tags.yaml`.

use std::sync::Arc;

use serde_json::json;
use tagpin_domain::image::ImageRef;
use tagpin_registry::Candidate;
use tokio::time::Instant;

use super::scripted::{Scripted, Step};
use super::support::{PATIENCE, TestNames, TestProfiles, client, endpoint, profile};

fn page(ask: &str, link: Option<&str>, numbers: std::ops::Range<usize>) -> Step {
    let tags: Vec<String> = numbers.map(|number| format!("1.0.{number}")).collect();
    Step {
        ask: format!("GET /v2/team/app/tags/list{ask}"),
        at: "registry".into(),
        authorization: None,
        form: String::new(),
        carries: Vec::new(),
        status: 200,
        headers: link.map(|link| format!("link: <{link}>; rel=\"next\"")).into_iter().collect(),
        body: json!({ "tags": tags }).to_string(),
        fault: None,
    }
}

/// Returns the number of tags, the first one, and whether the list is complete.
async fn listed(pages: &[Step]) -> (usize, String, bool) {
    let scripted = Scripted::start(&[]).await;
    let authority = scripted.authority("registry");
    let profiles = TestProfiles::one(profile(endpoint(&format!("http://{authority}"))), &authority);
    let client = client(profiles, TestNames::default(), Arc::new(()));
    scripted.expect(pages);
    let image = ImageRef::parse(&format!("{authority}/team/app")).unwrap();
    let list = client.list_tags(&image, &[Candidate::anonymous()], Instant::now() + PATIENCE).await.unwrap();
    assert!(scripted.complaints().is_empty());
    (list.tags.len(), list.tags[0].clone(), list.whole)
}

#[tokio::test]
async fn a_full_page_without_a_link_may_not_be_the_last() {
    let more = [page("?n=1000", None, 0..1000), page("?n=1000&last=1.0.999", None, 1000..1007)];
    assert_eq!(listed(&more).await, (1007, "1.0.1006".to_owned(), true));
    // Some registries ignore the parameters of the request.
    let same = [page("?n=1000", None, 0..1000), page("?n=1000&last=1.0.999", None, 0..1000)];
    assert_eq!(listed(&same).await, (1000, "1.0.999".to_owned(), true));
    let all_at_once = [page("?n=1000", None, 0..1500)];
    assert_eq!(listed(&all_at_once).await, (1500, "1.0.1499".to_owned(), true));
}

#[tokio::test]
async fn ten_pages_and_ten_thousand_tags_are_the_limit() {
    let small: Vec<Step> = (0..10)
        .map(|n| {
            let ask = if n == 0 { "?n=1000".to_owned() } else { format!("?last={n}") };
            page(&ask, Some(&format!("?last={}", n + 1)), n * 10..n * 10 + 10)
        })
        .collect();
    assert_eq!(listed(&small).await, (100, "1.0.99".to_owned(), false));
    let large = [page("?n=1000", Some("?last=1"), 0..9_000), page("?last=1", Some("?last=2"), 9_000..11_000)];
    let (count, _, whole) = listed(&large).await;
    assert_eq!((count, whole), (10_000, false));
}
