//! Compares the globs of policies with globset and fast-glob, for matching image names and tags.
//!
//! Some globs mean something else in both crates. In neither of them `**` crosses segments when it is a part of one
//! (`ghcr.io/acme**`). In globset negated classes match a slash. fast-glob takes at most ten lists of alternatives, and
//! gives a leading `!` and a `\` a meaning of its own. The globs here mean the same everywhere.
//!
//! Memory decides: every replica holds the globs of every policy all the time, and anyone who may write a policy writes
//! them. Matching a name takes little time beside the rest of a review, and the goal keeps it so.

use std::hint::black_box;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use tagpin_domain::glob::Globs;
use tagpin_domain::work::Work;

use crate::figures::goal;
use crate::race::{self, Contender, EARNED, Time};

/// Texts to match. Half of them match the last globs of a policy, and half match none.
const TEXTS: [&str; 8] = [
    "docker.io/library/nginx",
    "ghcr.io/acme/api/worker",
    "registry.example.com/team-0/checkout",
    "eu.example.com/base/debian",
    "quay.io/prometheus/node-exporter",
    "docker.io/prom/statsd-exporter",
    "registry.example.com/other/checkout",
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/checkout",
];

pub(crate) fn measure() {
    println!("\nnames are matched with the globs of a policy, {} names a time", TEXTS.len());
    let compared =
        [1, 10, 64].map(|count| compare(&typical(count), 2_000_u32 / u32::try_from(count).unwrap()));
    let most = |figure: fn(&Compared) -> f64| compared.iter().map(figure).fold(0.0, f64::max);
    let least = compared.iter().map(|compared| compared.bytes).fold(f64::INFINITY, f64::min);
    let (each, time) = (most(|compared| compared.each), most(|compared| 1.0 / compared.time));
    println!("  ours takes up to {time:.1} times as long as globset");
    goal(format_args!("  ours takes up to {each:.2} µs a name"), "under 1 µs", each < 1.0);
    goal(
        format_args!("  globset holds at least {least:.1} times the bytes of ours"),
        format_args!("more than {EARNED}"),
        least > EARNED,
    );
    hostile();
}

/// Returns globs as policies have them.
fn typical(count: usize) -> Vec<String> {
    let some = [
        "docker.io/library/*",
        "ghcr.io/acme/**",
        "*.example.com/base/**",
        "{mirror,cache}.example.org/**",
        "gcr.io/distroless/*",
        "registry.k8s.io/**",
        "public.ecr.aws/docker/library/*",
        "docker.io/bitnami/[a-m]*",
        "quay.io/jetstack/cert-manager-*",
    ];
    let teams = (0..).map(|team| format!("registry.example.com/team-{team}/**"));
    some.iter().map(|glob| (*glob).to_owned()).chain(teams).take(count).collect()
}

/// The figures of tagpin's globs and of globset.
struct Compared {
    /// Microseconds of tagpin's globs for one name.
    each: f64,
    /// Time of globset, as a ratio to that of tagpin's globs.
    time: f64,
    /// Bytes of globset, as a ratio to those of tagpin's globs.
    bytes: f64,
}

fn compare(written: &[String], times: u32) -> Compared {
    let (ours, our_bytes) =
        held(|| Globs::new(written).unwrap(), |globs, text| globs.is_match(text, &Work::default()).unwrap());
    let (set, set_bytes) = held(|| set(written), |set, text| set.is_match(text));
    let (plain, plain_bytes) = held(|| written.to_vec(), |globs, text| fast_glob(globs, text));
    for text in TEXTS {
        assert_eq!(ours.is_match(text, &Work::default()).unwrap(), set.is_match(text), "{text}");
        assert_eq!(ours.is_match(text, &Work::default()).unwrap(), fast_glob(&plain, text), "{text}");
    }
    let each = |matches: &dyn Fn(&str) -> bool| {
        for text in TEXTS {
            used(matches(black_box(text)));
        }
    };
    let contenders = vec![
        Contender::new("ours", || each(&|text| ours.is_match(text, &Work::default()).unwrap())),
        Contender::new("globset", || each(&|text| set.is_match(text))),
        Contender::new("fast-glob", || each(&|text| fast_glob(&plain, text))),
    ];
    println!("  {} globs of {} bytes", written.len(), written.iter().map(String::len).sum::<usize>());
    let times = race::run(times, contenders);
    print(&times, [our_bytes, set_bytes, plain_bytes]);
    Compared {
        each: times[0].nanoseconds / 1e3 / TEXTS.len() as f64,
        time: times[1].ratio,
        bytes: set_bytes as f64 / our_bytes as f64,
    }
}

fn print(times: &[Time], bytes: [u64; 3]) {
    for (Time { name, nanoseconds, ratio }, bytes) in times.iter().zip(bytes) {
        println!("    {name:<12} {:>9.2} µs  {ratio:>6.2}   {bytes:>8} bytes held", nanoseconds / 1e3);
    }
}

/// Returns what `make` makes, and the bytes that it holds after it has matched each text.
fn held<T>(make: impl FnOnce() -> T, matches: impl Fn(&T, &str) -> bool) -> (T, u64) {
    let mut made = None;
    let counted = allocation_counter::measure(|| {
        let globs = make();
        for text in TEXTS {
            black_box(matches(&globs, text));
        }
        made = Some(globs);
    });
    (made.unwrap(), u64::try_from(counted.bytes_current).unwrap())
}

fn set(written: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in written {
        set.add(GlobBuilder::new(glob).literal_separator(true).empty_alternates(true).build().unwrap());
    }
    set.build().unwrap()
}

fn fast_glob(globs: &[String], text: &str) -> bool {
    globs.iter().any(|glob| fast_glob::glob_match(glob, text))
}

/// Compares the most expensive globs that somebody could write: one with as many alternatives as fast-glob takes, and
/// the longest glob of stars.
fn hostile() {
    let alternatives = (format!("{}c", "{*,*a}".repeat(10)), "a".repeat(255));
    let stars = ("*a*b".repeat(128), "ab".repeat(127));
    for (glob, text) in [alternatives, stars] {
        let glob = vec![glob];
        let (ours, our_bytes) =
            held(|| Globs::new(&glob).unwrap(), |globs, _| globs.is_match(&text, &Work::default()).unwrap());
        let (set, set_bytes) = held(|| set(&glob), |set, _| set.is_match(&text));
        let (plain, plain_bytes) = held(|| glob.clone(), |globs, _| fast_glob(globs, &text));
        let matches =
            [ours.is_match(&text, &Work::default()).unwrap(), set.is_match(&text), fast_glob(&plain, &text)];
        assert_eq!(matches, [matches[0]; 3]);
        let contenders = vec![
            Contender::new("ours", || used(ours.is_match(black_box(&text), &Work::default()).unwrap())),
            Contender::new("globset", || used(set.is_match(black_box(&text)))),
            Contender::new("fast-glob", || used(fast_glob(&plain, black_box(&text)))),
        ];
        println!("  a hostile glob of {} bytes, a name of {} bytes", glob[0].len(), text.len());
        print(&race::run(3, contenders), [our_bytes, set_bytes, plain_bytes]);
    }
}

/// Uses the result, so that the compiler does not leave the match out.
fn used(matched: bool) {
    black_box(matched);
}
