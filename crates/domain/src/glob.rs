//! Globs over image names and tags. Memory is linear in the text of the globs, and time in the length of the
//! glob times the length of the name, because anybody who may write a policy writes globs, and they are
//! matched during admission. All matches for one object share a limit ([`Work`]). `make bench` shows their cost
//! beside that of regular expressions, which hold tens of kilobytes for one policy.
//!
//! `*` matches any run of characters within a segment, and `**` also crosses segments (`a/**/b` also matches
//! `a/b`). `?` matches one character, `[a-z]` and `[!a-z]` are classes, and `{a,b}` matches either
//! alternative. There is no escape; `[*]` matches a star.

use crate::work::{Exhausted, Work};

mod possible;

pub use possible::{Reason, Search, Texts};

/// A list of compiled globs.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    globs: Vec<Glob>,
}

/// A glob that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{glob}\" is not a glob: {problem}")]
pub struct GlobError {
    /// The position of the glob in the list.
    pub index: usize,
    /// The glob as written.
    pub glob: String,
    /// The problem with the glob.
    pub problem: GlobProblem,
}

/// A problem with a glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobProblem {
    /// A character is not ASCII, but image names and tags are.
    #[error("only ASCII characters are understood")]
    NotAscii,
    /// The glob is longer than any name.
    #[error("it is longer than 512 characters")]
    TooLong,
    /// `[` without `]`.
    #[error("a class that [ opens is not closed by ]")]
    UnclosedClass,
    /// `[z-a]`.
    #[error("a range in a class runs backwards")]
    BackwardRange,
    /// `{` without `}`.
    #[error("alternatives that {{ opens are not closed by }}")]
    UnclosedAlternatives,
    /// `}` without `{`.
    #[error("}} closes alternatives that no {{ opened")]
    UnopenedAlternatives,
    /// `{a,{b,c}}`.
    #[error("alternatives within alternatives are not understood; write them in one list")]
    NestedAlternatives,
}

impl Globs {
    /// Compiles a list of globs.
    ///
    /// # Errors
    /// Returns the first glob that does not compile.
    pub fn new(written: &[String]) -> Result<Self, GlobError> {
        let compile = |(index, glob): (usize, &String)| {
            Glob::new(glob).map_err(|problem| GlobError { index, glob: glob.clone(), problem })
        };
        let globs = written.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { globs })
    }

    /// Returns true if the list has no globs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// Returns true if a glob of the list matches the whole text. An empty list matches nothing.
    ///
    /// # Errors
    /// Fails if the globs before the first match take more steps than there are.
    pub fn is_match(&self, text: &str, work: &Work) -> Result<bool, Exhausted> {
        for glob in &self.globs {
            let (matches, steps) = glob.is_match(text, work.left());
            work.spend(steps)?;
            if matches {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the length of all programs. A glob that is a plain text, or ends with its only wildcard, has next to none.
    pub(crate) fn len(&self) -> usize {
        self.globs.iter().map(|glob| glob.steps.len()).sum()
    }
}

/// Maximum length of a glob in characters. It also keeps positions within sixteen bits.
const LENGTH_LIMIT: usize = 512;

/// One glob: the characters that every match begins with, and a small program for the rest. A text matches if
/// it leads from the program's first step past the last one.
#[derive(Debug, Clone)]
struct Glob {
    prefix: Box<[u8]>,
    steps: Box<[Step]>,
    /// The characters of each class, as bits.
    classes: Box<[u128]>,
}

/// A step of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Takes this character.
    Byte(u8),
    /// Takes one character of a segment.
    One,
    /// Takes any number of characters of a segment.
    Run,
    /// Takes any number of characters.
    Crossing,
    /// Takes a character of the class with this number.
    Class(u16),
    /// Goes on at the next step and at this one.
    Fork(u16),
    /// Goes on at this step.
    Jump(u16),
}

impl Glob {
    fn new(text: &str) -> Result<Self, GlobProblem> {
        if !text.is_ascii() {
            return Err(GlobProblem::NotAscii);
        }
        if text.len() > LENGTH_LIMIT {
            return Err(GlobProblem::TooLong);
        }
        let mut parser = Parser { rest: text.as_bytes(), ..Parser::default() };
        while let Some(byte) = parser.next() {
            parser.step(byte)?;
        }
        if parser.open.is_some() {
            return Err(GlobProblem::UnclosedAlternatives);
        }
        let Parser { prefix, steps, classes, .. } = parser;
        Ok(Self { prefix: prefix.into(), steps: steps.into(), classes: classes.into() })
    }

    /// Returns true if the whole text matches, and the number of steps that this took. The match ends unfinished after
    /// more than `most` steps.
    fn is_match(&self, text: &str, most: u32) -> (bool, u32) {
        let Some(rest) = text.as_bytes().strip_prefix(&*self.prefix) else { return (false, 1) };
        match *self.steps {
            [] => return (rest.is_empty(), 1),
            [Step::Crossing] => return (true, 1),
            [Step::Run] => return (!rest.contains(&b'/'), 1),
            _ => {}
        }
        let most = most as usize;
        // Most programs are short.
        if self.steps.len() < 64 { self.runs::<1>(rest, most) } else { self.runs::<WORDS>(rest, most) }
    }

    /// Returns true if the program accepts the text, and the number of steps that this took. `N` words hold the places
    /// that the text has reached.
    fn runs<const N: usize>(&self, text: &[u8], most: usize) -> (bool, u32) {
        let mut now = Places([0; N]);
        self.enter(0, &mut now);
        let mut visited = 1;
        for &byte in text {
            visited += N;
            now = self.advance(&now, byte, &mut visited);
            if now.is_empty() || visited > most {
                break;
            }
        }
        (now.contains(self.steps.len()), u32::try_from(visited).unwrap_or(u32::MAX))
    }

    /// Returns the places that are reached from these by one byte, and adds the number of these to `visited`.
    fn advance<const N: usize>(&self, now: &Places<N>, byte: u8, visited: &mut usize) -> Places<N> {
        let mut then = Places([0; N]);
        for at in now.iter() {
            *visited += 1;
            match self.steps.get(at) {
                Some(Step::Byte(wanted)) if *wanted == byte => self.enter(at + 1, &mut then),
                Some(Step::One) if byte != b'/' => self.enter(at + 1, &mut then),
                Some(Step::Run) if byte != b'/' => self.enter(at, &mut then),
                Some(Step::Crossing) => self.enter(at, &mut then),
                Some(Step::Class(class)) if self.in_class(*class, byte) => self.enter(at + 1, &mut then),
                _ => {}
            }
        }
        then
    }

    /// Notes every place that can be reached from this one without a character.
    fn enter<const N: usize>(&self, mut at: usize, places: &mut Places<N>) {
        while places.note(at) {
            match self.steps.get(at) {
                Some(Step::Run | Step::Crossing) => at += 1,
                Some(Step::Fork(other)) => {
                    self.enter(usize::from(*other), places);
                    at += 1;
                }
                Some(Step::Jump(to)) => at = usize::from(*to),
                Some(Step::Byte(_) | Step::One | Step::Class(_)) | None => {}
            }
        }
    }

    fn in_class(&self, class: u16, byte: u8) -> bool {
        byte != b'/' && self.classes.get(usize::from(class)).is_some_and(|bits| bits & bit(byte) != 0)
    }
}

/// Returns the bit of a character; zero for a character that is not ASCII.
fn bit(byte: u8) -> u128 {
    1_u128.checked_shl(byte.into()).unwrap_or_default()
}

/// Maximum number of steps: a comma between alternatives makes two, any other character at most one.
const STEP_LIMIT: usize = 2 * LENGTH_LIMIT;
/// Number of words that hold a place for each step and one past the last.
const WORDS: usize = STEP_LIMIT / 64 + 1;

/// The places of a program that a text has reached, as bits.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Places<const N: usize>([u64; N]);

impl<const N: usize> Places<N> {
    /// Notes a place; returns false if it was noted before.
    fn note(&mut self, at: usize) -> bool {
        let Some(word) = self.0.get_mut(at / 64) else { return false };
        let bit = 1 << (at % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn contains(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().zip((0..).step_by(64)).flat_map(|(word, first)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let at = rest.trailing_zeros() as usize;
                // Removes the lowest bit.
                rest &= rest.checked_sub(1)?;
                Some(first + at)
            })
        })
    }
}

#[derive(Default)]
struct Parser<'a> {
    rest: &'a [u8],
    /// The characters before the first step.
    prefix: Vec<u8>,
    steps: Vec<Step>,
    classes: Vec<u128>,
    /// The alternatives in `{…}` that are being read.
    open: Option<Alternatives>,
}

/// The steps that have to be filled in when `{…}` goes on and ends.
struct Alternatives {
    /// The fork before the alternative that is being read.
    fork: usize,
    /// The jumps at the ends of the alternatives that were read.
    ends: Vec<usize>,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Takes the next character if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.rest.first() == Some(&byte);
        if taken {
            self.next();
        }
        taken
    }

    fn step(&mut self, byte: u8) -> Result<(), GlobProblem> {
        match byte {
            b'?' => self.steps.push(Step::One),
            b'*' => self.stars(),
            b'[' => self.class()?,
            b'{' if self.open.is_some() => return Err(GlobProblem::NestedAlternatives),
            b'{' => {
                self.open = Some(Alternatives { fork: self.steps.len(), ends: Vec::new() });
                self.steps.push(Step::Fork(0));
            }
            b',' if let Some(mut open) = self.open.take() => {
                open.ends.push(self.steps.len());
                self.steps.push(Step::Jump(0));
                self.fill(open.fork, Step::Fork(self.here()));
                open.fork = self.steps.len();
                self.steps.push(Step::Fork(0));
                self.open = Some(open);
            }
            b'}' => {
                let open = self.open.take().ok_or(GlobProblem::UnopenedAlternatives)?;
                for end in open.ends {
                    self.fill(end, Step::Jump(self.here()));
                }
                // No alternative follows the last one, so its fork becomes a jump to the next step.
                let next = u16::try_from(open.fork + 1).unwrap_or(u16::MAX);
                self.fill(open.fork, Step::Jump(next));
            }
            byte if self.steps.is_empty() => self.prefix.push(byte),
            byte => self.steps.push(Step::Byte(byte)),
        }
        Ok(())
    }

    fn stars(&mut self) {
        if !self.take(b'*') {
            self.steps.push(Step::Run);
            return;
        }
        while self.take(b'*') {}
        let starts_segment = match self.steps.last() {
            Some(last) => *last == Step::Byte(b'/'),
            None => self.prefix.last().is_none_or(|last| *last == b'/'),
        };
        if starts_segment && self.take(b'/') {
            // `**/` also matches no segment at all.
            let over = u16::try_from(self.steps.len() + 3).unwrap_or(u16::MAX);
            self.steps.extend([Step::Fork(over), Step::Crossing, Step::Byte(b'/')]);
        } else {
            self.steps.push(Step::Crossing);
        }
    }

    fn class(&mut self) -> Result<(), GlobProblem> {
        let negated = self.take(b'!') || self.take(b'^');
        let mut bits = 0_u128;
        let mut first = true;
        loop {
            let low = self.next().ok_or(GlobProblem::UnclosedClass)?;
            if low == b']' && !first {
                break;
            }
            first = false;
            let range =
                self.rest.first() == Some(&b'-') && self.rest.get(1).is_some_and(|high| *high != b']');
            let high = if range {
                self.next();
                self.next().ok_or(GlobProblem::UnclosedClass)?
            } else {
                low
            };
            if high < low {
                return Err(GlobProblem::BackwardRange);
            }
            bits |= (low..=high).map(bit).fold(0, |all, bit| all | bit);
        }
        self.steps.push(Step::Class(u16::try_from(self.classes.len()).unwrap_or(u16::MAX)));
        self.classes.push(if negated { !bits } else { bits });
        Ok(())
    }

    /// Returns the place of the next step.
    fn here(&self) -> u16 {
        u16::try_from(self.steps.len()).unwrap_or(u16::MAX)
    }

    fn fill(&mut self, at: usize, step: Step) {
        if let Some(place) = self.steps.get_mut(at) {
            *place = step;
        }
    }
}

#[cfg(test)]
mod tests;
