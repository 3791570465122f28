use super::*;
use tagpin_domain::fact::{ForbiddenHost, Hidden, Position};

const HOST: &str = "reg.example";

fn failed(cause: Unavailable) -> Fact {
    Fact::unavailable(cause)
}

/// Answers one question after another; true for each that was let through.
fn ask(breakers: &Breakers, now: Instant, fact: &Fact) -> bool {
    match breakers.enter(HOST, now) {
        Ok(pass) => {
            pass.learn(fact, true, now);
            true
        }
        Err(_) => false,
    }
}

#[test]
fn a_registry_that_is_not_there_rests_at_once_and_is_tried_by_one() {
    for cause in [Unavailable::Dns, Unavailable::Connect, Unavailable::Tls] {
        let breakers = Breakers::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(ask(&breakers, start, &failed(cause)));
        let rest = breakers.enter(HOST, start).unwrap_err();
        assert!(rest >= Duration::from_secs(27) && rest <= Duration::from_secs(33), "{rest:?}");
        assert!(breakers.enter(HOST, at(26)).is_err());
        assert!(breakers.enter("other.example", start).is_ok());

        let probe = breakers.enter(HOST, at(34)).unwrap();
        assert_eq!(breakers.enter(HOST, at(34)).unwrap_err(), Duration::ZERO);
        assert!(probe.learn(&failed(cause), true, at(34)));
        assert!(breakers.enter(HOST, at(60)).is_err());

        let probe = breakers.enter(HOST, at(70)).unwrap();
        assert!(!probe.learn(&Fact::TagMissing, true, at(70)));
        assert!(breakers.enter(HOST, at(70)).is_ok() && breakers.enter(HOST, at(70)).is_ok());
    }
}

#[test]
fn slow_and_failing_answers_count_only_in_a_row() {
    for cause in [Unavailable::Timeout, Unavailable::Status(503)] {
        let breakers = Breakers::default();
        let now = Instant::now();
        assert!(ask(&breakers, now, &failed(cause)));
        assert!(ask(&breakers, now, &failed(cause)));
        assert!(ask(&breakers, now, &Fact::TagMissing));
        assert!(ask(&breakers, now, &failed(cause)));
        assert!(ask(&breakers, now, &failed(cause)));
        assert!(ask(&breakers, now, &failed(cause)));
        assert!(!ask(&breakers, now, &Fact::TagMissing));
    }
}

#[test]
fn old_doubts_do_not_add_up() {
    let breakers = Breakers::default();
    let start = Instant::now();
    for minutes in 0..10 {
        assert!(ask(&breakers, start + Duration::from_secs(61 * minutes), &failed(Unavailable::Timeout)));
    }
}

#[test]
fn what_is_said_of_an_image_or_of_us_says_nothing_of_the_registry() {
    let breakers = Breakers::default();
    let now = Instant::now();
    for _ in 0..10 {
        for fact in [
            failed(Unavailable::Unreadable),
            failed(Unavailable::BreakerOpen),
            Fact::MissingOrPrivate(Hidden::default()),
            Fact::AddressForbidden(Box::new(ForbiddenHost {
                authority: HOST.to_owned(),
                position: Position::Registry,
                registry: HOST.to_owned(),
                entry: None,
                own_entry: None,
                untrusted: false,
                never: false,
            })),
            Fact::RateLimited { retry_after: None, last_known: None },
        ] {
            assert!(ask(&breakers, now, &fact));
        }
        let late = breakers.enter(HOST, now).unwrap();
        late.learn(&failed(Unavailable::Timeout), false, now);
    }
}

#[test]
fn a_probe_that_is_given_up_leaves_the_door_to_the_next() {
    let breakers = Breakers::default();
    let start = Instant::now();
    ask(&breakers, start, &failed(Unavailable::Connect));
    let later = start + Duration::from_secs(34);
    drop(breakers.enter(HOST, later).unwrap());
    let silent = breakers.enter(HOST, later).unwrap();
    silent.learn(&failed(Unavailable::Timeout), false, later);
    assert!(breakers.enter(HOST, later).is_ok());
}

#[test]
fn questions_that_were_under_way_do_not_prolong_the_rest() {
    let breakers = Breakers::default();
    let start = Instant::now();
    let (first, second) = (breakers.enter(HOST, start).unwrap(), breakers.enter(HOST, start).unwrap());
    assert!(first.learn(&failed(Unavailable::Connect), true, start));
    assert!(!second.learn(&failed(Unavailable::Connect), true, start + Duration::from_secs(20)));
    assert!(breakers.enter(HOST, start + Duration::from_secs(34)).is_ok());
}

#[test]
fn hosts_that_nobody_should_name_fill_no_memory() {
    let breakers = Breakers::default();
    let now = Instant::now();
    for number in 0..100_000 {
        let host = format!("h{number}.example");
        breakers.enter(&host, now).unwrap().learn(&failed(Unavailable::Dns), true, now);
    }
    assert_eq!(breakers.lock().states.len(), HOSTS);
    let later = now + Duration::from_secs(34);
    assert!(ask(&breakers, later, &failed(Unavailable::Dns)));
    assert_eq!(breakers.lock().states.len(), 1);
}

#[test]
fn who_rests_is_told_for_as_long_as_it_does() {
    let (breakers, start) = (Breakers::default(), Instant::now());
    assert!(ask(&breakers, start, &failed(Unavailable::Status(500))));
    assert!(breakers.resting(start).is_empty());
    assert!(ask(&breakers, start, &failed(Unavailable::Connect)));
    assert_eq!(breakers.resting(start), [Box::from(HOST)]);
    assert!(breakers.resting(start + Duration::from_secs(34)).is_empty());
}
