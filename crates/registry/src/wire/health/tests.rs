use super::*;

const REPOSITORY: &str = "reg.example/team/app";

fn host(text: &str) -> Host {
    let url = Url::parse(text).unwrap();
    Host::new(&url, &url, None)
}

fn reg() -> Host {
    host("https://reg.example/v2")
}

/// Asks for a repository; none if the host rests, or whether the answer made it rest.
fn ask(health: &Health, now: Instant, evidence: Evidence, repository: &str) -> Option<bool> {
    Some(health.enter(reg(), now).ok()?.learn(evidence, "other", repository, now))
}

fn at(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

#[test]
fn a_host_that_is_gone_rests_at_once_and_is_tried_by_one() {
    let (health, start) = (Health::default(), Instant::now());
    assert_eq!(ask(&health, start, Evidence::Gone, REPOSITORY), Some(true));
    let rest = health.enter(reg(), start).unwrap_err();
    assert!(rest >= Duration::from_millis(1800) && rest <= Duration::from_millis(2200), "{rest:?}");
    assert!(health.enter(reg(), at(start, 1700)).is_err());
    assert!(health.enter(host("https://other.example"), start).is_ok());
    assert!(health.enter(host("https://reg.example:8443"), start).is_ok());

    let probe = health.enter(reg(), at(start, 2300)).unwrap();
    assert!(probe.is_probe());
    assert_eq!(health.enter(reg(), at(start, 2300)).unwrap_err(), Duration::ZERO);
    assert!(!probe.learn(Evidence::Well, "other", REPOSITORY, at(start, 2300)));
    assert!(!health.enter(reg(), at(start, 2300)).unwrap().is_probe());
}

#[test]
fn each_rest_in_a_row_is_twice_as_long_and_none_is_longer_than_half_a_minute() {
    let (health, mut now) = (Health::default(), Instant::now());
    for seconds in [2, 4, 8, 16, 30, 30, 30] {
        assert_eq!(ask(&health, now, Evidence::Gone, REPOSITORY), Some(true), "{seconds}");
        let rest = health.enter(reg(), now).unwrap_err();
        let (least, most) =
            (Duration::from_secs(seconds).mul_f64(0.9), Duration::from_secs(seconds).mul_f64(1.1));
        assert!(rest >= least && rest <= most, "{rest:?}, not about {seconds} s");
        now += rest;
    }
    assert_eq!(ask(&health, now, Evidence::Well, REPOSITORY), Some(false));
    assert_eq!(ask(&health, now, Evidence::Gone, REPOSITORY), Some(true));
    assert!(
        health.enter(reg(), now).unwrap_err() < Duration::from_secs(3),
        "a host that was back begins anew"
    );
    let forgotten = now + Duration::from_secs(61);
    assert!(!health.enter(reg(), forgotten).unwrap().is_probe());
    assert_eq!(ask(&health, forgotten, Evidence::Gone, REPOSITORY), Some(true));
    assert!(health.enter(reg(), forgotten).unwrap_err() < Duration::from_secs(3));
}

#[test]
fn one_repository_never_makes_a_host_rest_and_two_do_within_ten_seconds() {
    let (health, start) = (Health::default(), Instant::now());
    for milliseconds in [0, 1, 2, 3, 9000] {
        let said = ask(&health, at(start, milliseconds), Evidence::Doubtful, REPOSITORY);
        assert_eq!(said, Some(false), "{milliseconds}");
    }
    assert_eq!(ask(&health, at(start, 19_001), Evidence::Doubtful, "reg.example/b"), Some(false), "too late");
    assert_eq!(ask(&health, at(start, 29_001), Evidence::Doubtful, REPOSITORY), Some(true));
    assert_eq!(ask(&health, at(start, 29_001), Evidence::Well, REPOSITORY), None);

    let health = Health::default();
    assert_eq!(ask(&health, start, Evidence::Doubtful, REPOSITORY), Some(false));
    assert_eq!(ask(&health, start, Evidence::Well, "reg.example/b"), Some(false));
    assert_eq!(ask(&health, start, Evidence::Doubtful, "reg.example/b"), Some(false), "an answer between");
}

#[test]
fn requests_that_say_nothing_change_nothing() {
    let (health, start) = (Health::default(), Instant::now());
    assert_eq!(ask(&health, start, Evidence::Doubtful, REPOSITORY), Some(false));
    assert_eq!(ask(&health, start, Evidence::Silent, "reg.example/b"), Some(false));
    assert_eq!(ask(&health, start, Evidence::Doubtful, "reg.example/b"), Some(true));
}

#[test]
fn what_a_registry_leads_to_says_nothing_about_that_host_as_others_reach_it() {
    let (health, now) = (Health::default(), Instant::now());
    let (evil, there) =
        (Url::parse("https://evil.example").unwrap(), Url::parse("https://reg.example/x").unwrap());
    let led = || Host::new(&there, &evil, None);
    assert!(health.enter(led(), now).unwrap().learn(Evidence::Gone, "other", REPOSITORY, now));
    assert!(health.enter(led(), now).is_err());
    assert!(health.enter(reg(), now).is_ok());
}

#[test]
fn a_probe_that_is_given_up_or_says_nothing_leaves_the_door_to_the_next() {
    let (health, start) = (Health::default(), Instant::now());
    ask(&health, start, Evidence::Gone, REPOSITORY);
    let later = at(start, 2300);
    drop(health.enter(reg(), later).unwrap());
    let silent = health.enter(reg(), later).unwrap();
    silent.learn(Evidence::Silent, "other", REPOSITORY, later);
    assert!(health.enter(reg(), later).unwrap().is_probe());
}

#[test]
fn a_probe_that_fails_for_any_repository_prolongs_the_rest() {
    let (health, start) = (Health::default(), Instant::now());
    ask(&health, start, Evidence::Gone, REPOSITORY);
    assert_eq!(ask(&health, at(start, 2300), Evidence::Doubtful, REPOSITORY), Some(true));
    assert!(health.enter(reg(), at(start, 5800)).is_err());
}

#[test]
fn requests_that_were_in_flight_do_not_prolong_the_rest_and_know_of_it() {
    let (health, start) = (Health::default(), Instant::now());
    let (first, second) = (health.enter(reg(), start).unwrap(), health.enter(reg(), start).unwrap());
    assert!(!second.is_overtaken(start));
    assert!(first.learn(Evidence::Gone, "other", REPOSITORY, start));
    assert!(second.is_overtaken(start));
    assert!(!second.learn(Evidence::Gone, "other", REPOSITORY, at(start, 1000)));
    assert!(health.enter(reg(), at(start, 2300)).is_ok());
}

#[test]
fn hosts_that_nobody_should_name_fill_no_memory() {
    let (health, now) = (Health::default(), Instant::now());
    for number in 0..20_000 {
        let host = host(&format!("https://h{number}.example"));
        health.enter(host, now).unwrap().learn(Evidence::Gone, "other", REPOSITORY, now);
    }
    assert_eq!(health.hosts.lock().states.len(), HOSTS);
    let later = now + Duration::from_secs(3);
    assert_eq!(ask(&health, later, Evidence::Gone, REPOSITORY), Some(true));
    assert_eq!(health.hosts.lock().states.len(), 1);
}

#[test]
fn a_host_is_reported_for_as_long_as_it_rests() {
    let (health, start) = (Health::default(), Instant::now());
    ask(&health, start, Evidence::Doubtful, REPOSITORY);
    assert!(health.resting(start).is_empty());
    ask(&health, start, Evidence::Doubtful, "reg.example/b");
    let resting = RestingHost { registry: "other".into(), origin: "https://reg.example".into() };
    assert_eq!(health.resting(start), [resting]);
    assert!(health.rests(&reg(), start));
    assert!(health.resting(at(start, 2300)).is_empty());
}
