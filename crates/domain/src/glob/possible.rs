//! Finds globs that match nothing: no image has such a name, or no tag such a text. A policy with such a glob
//! would look as if it worked.
//!
//! The search walks the program of the glob and the grammar of the texts together. It allows a few texts that
//! cannot occur, such as names that are too long, and it has a limit, because anybody who may write a policy
//! writes globs. So it may miss a glob that matches nothing, and never names one that matches something.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::{Glob, Globs, Places, Step};
use grammar::Syntax;
pub use grammar::Texts;
pub use reason::Reason;

mod grammar;
mod reason;

/// Maximum number of steps for all globs on one kind of text in one policy, a few milliseconds. Every replica takes them
/// when a policy is changed, also for a policy that is refused afterwards.
const LIMIT: u32 = 50_000;
/// Number of steps that it takes to find a state for the first time.
const NEW_STATE: u32 = 16;

/// Names that [`ImageRef::policy_name`](crate::image::ImageRef::policy_name) never returns, because it returns another
/// spelling for the same repository. Each starts with a step, so that none has a prefix.
const OTHER_SPELLINGS: [&str; 5] = [
    "{index.docker.io,registry-1.docker.io,registry.hub.docker.com,ecr-public.aws.com}/**",
    "{docker.io}/*",
    "*.{dkr-ecr,dkr-ecr-fips}.*.{on.aws,on.amazonwebservices.com.cn}{,:*}/**",
    "*.{dkr.ecr-fips}.*.{amazonaws.com}{,:*}/**",
    "*{:443}/**",
];
static COMPILED: LazyLock<Vec<Glob>> =
    LazyLock::new(|| OTHER_SPELLINGS.into_iter().filter_map(|glob| Glob::new(glob).ok()).collect());

/// The places that a text has reached in the programs of [`OTHER_SPELLINGS`].
type Spellings = Box<[Places<2>]>;

/// No steps are left.
struct Exhausted;

/// The state of the texts that were read: their place in the grammar, and in the other spellings.
type State = (Syntax, Spellings);

/// A search for globs that match nothing. It remembers the states of the texts, which all globs share.
pub struct Search {
    texts: Texts,
    /// Number of steps that may still be taken: one for each visit of a place and a state, and one for each byte.
    left: u32,
    states: Vec<State>,
    numbers: HashMap<State, usize>,
    /// The state after a state and a byte; none if no text goes on so.
    next: HashMap<(usize, u8), Option<usize>>,
}

impl Search {
    /// Starts a search among globs for these texts.
    #[must_use]
    pub fn new(texts: Texts) -> Self {
        Self { texts, left: LIMIT, states: Vec::new(), numbers: HashMap::new(), next: HashMap::new() }
    }

    /// Returns the position of the first of these globs that matches no text, and the reason. `written` has the text of
    /// each glob.
    pub fn impossible(&mut self, globs: &Globs, written: &[String]) -> Option<(usize, Reason)> {
        let pairs = globs.globs.iter().zip(written).enumerate();
        let found = pairs.into_iter().find(|(_, (glob, _))| !self.is_possible(glob));
        found.map(|(index, (_, text))| (index, Reason::of(self.texts, text)))
    }

    /// Returns false if the glob matches no text. True if the limit is reached.
    fn is_possible(&mut self, glob: &Glob) -> bool {
        self.matches_some(glob).unwrap_or(true)
    }

    fn matches_some(&mut self, glob: &Glob) -> Result<bool, Exhausted> {
        let start = self.start();
        // The third part is the number of bytes that were tried.
        let (mut seen, mut open) = (HashSet::new(), vec![(0, start, 0)]);
        while let Some((place, state, tried)) = open.pop() {
            self.spend(1)?;
            if tried == 0 && !seen.insert((place, state)) {
                continue;
            }
            let Some(step) = glob.step_at(place) else {
                if self.is_whole(state) {
                    return Ok(true);
                }
                continue;
            };
            let base = glob.prefix.len();
            match step {
                Step::Jump(to) => open.push((base + usize::from(to), state, 0)),
                Step::Fork(to) => open.extend([(base + usize::from(to), state, 0), (place + 1, state, 0)]),
                _ => {
                    let repeats = matches!(step, Step::Run | Step::Crossing);
                    let rest = self.texts.alphabet().enumerate().skip(tried);
                    for (index, byte) in rest.filter(|(_, byte)| glob.takes(step, *byte)) {
                        if let Some(then) = self.after(state, byte)? {
                            let next = if repeats { place } else { place + 1 };
                            // What comes last is tried first.
                            open.extend([(place, state, index + 1), (next, then, 0)]);
                            break;
                        }
                    }
                    // The way to the end comes before all bytes.
                    open.extend((repeats && tried == 0).then_some((place + 1, state, 0)));
                }
            }
        }
        Ok(false)
    }

    /// Takes this number of steps. Fails if fewer are left, and from then on.
    fn spend(&mut self, steps: u32) -> Result<(), Exhausted> {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or_default();
        left.map(drop).ok_or(Exhausted)
    }

    fn start(&mut self) -> usize {
        let enter = |glob: &Glob| {
            let mut places = Places([0; 2]);
            glob.enter(0, &mut places);
            places
        };
        let spellings = match self.texts {
            Texts::Names => COMPILED.iter().map(enter).collect(),
            Texts::Tags => Spellings::default(),
        };
        self.number((Syntax::Start, spellings))
    }

    fn number(&mut self, state: State) -> usize {
        if let Some(number) = self.numbers.get(&state) {
            return *number;
        }
        let number = self.states.len();
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }

    fn after(&mut self, state: usize, byte: u8) -> Result<Option<usize>, Exhausted> {
        self.spend(1)?;
        if let Some(known) = self.next.get(&(state, byte)) {
            return Ok(*known);
        }
        self.spend(NEW_STATE)?;
        let then = self.states.get(state).and_then(|(syntax, spellings)| {
            let syntax = syntax.after(self.texts, byte)?;
            let spellings =
                COMPILED.iter().zip(spellings).map(|(glob, places)| glob.advance(places, byte, &mut 0));
            Some((syntax, spellings.collect()))
        });
        let then = then.map(|state| self.number(state));
        self.next.insert((state, byte), then);
        Ok(then)
    }

    /// Returns true if the text may end here.
    fn is_whole(&self, state: usize) -> bool {
        self.states.get(state).is_some_and(|(syntax, spellings)| {
            let is_other = |(glob, places): (&Glob, &Places<2>)| places.contains(glob.steps.len());
            syntax.is_whole(self.texts) && !COMPILED.iter().zip(spellings).any(is_other)
        })
    }
}

impl Glob {
    /// Returns the step at a place; the characters of the prefix are the first places. None past the last step.
    fn step_at(&self, place: usize) -> Option<Step> {
        match self.prefix.get(place) {
            Some(byte) => Some(Step::Byte(*byte)),
            None => self.steps.get(place - self.prefix.len()).copied(),
        }
    }

    fn takes(&self, step: Step, byte: u8) -> bool {
        match step {
            Step::Byte(wanted) => byte == wanted,
            Step::One | Step::Run => byte != b'/',
            Step::Crossing => true,
            Step::Class(class) => self.in_class(class, byte),
            Step::Fork(_) | Step::Jump(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
