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

/// Maximum number of pairs of a place and a state that are visited for all globs of one policy.
const LIMIT: u32 = 100_000;

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

/// The state of the texts that were read: their place in the grammar, and in the other spellings.
type State = (Syntax, Spellings);

/// A search for globs that match nothing. It remembers the states of the texts, which all globs share.
pub struct Search {
    texts: Texts,
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
        let start = self.start();
        let (mut seen, mut open) = (HashSet::new(), vec![(0, start)]);
        while let Some((place, state)) = open.pop() {
            if !seen.insert((place, state)) {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return true };
            self.left = left;
            let Some(step) = glob.step_at(place) else {
                if self.is_whole(state) {
                    return true;
                }
                continue;
            };
            let base = glob.prefix.len();
            match step {
                Step::Jump(to) => open.push((base + usize::from(to), state)),
                Step::Fork(to) => open.extend([(base + usize::from(to), state), (place + 1, state)]),
                _ => {
                    let repeats = matches!(step, Step::Run | Step::Crossing);
                    for byte in self.texts.alphabet().filter(|byte| glob.takes(step, *byte)) {
                        let then = self.after(state, byte);
                        open.extend(then.map(|then| (if repeats { place } else { place + 1 }, then)));
                    }
                    // What comes last is tried first: the way to the end.
                    open.extend(repeats.then_some((place + 1, state)));
                }
            }
        }
        false
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

    fn after(&mut self, state: usize, byte: u8) -> Option<usize> {
        if let Some(known) = self.next.get(&(state, byte)) {
            return *known;
        }
        let then = self.states.get(state).and_then(|(syntax, spellings)| {
            let syntax = syntax.after(self.texts, byte)?;
            let spellings =
                COMPILED.iter().zip(spellings).map(|(glob, places)| glob.advance(places, byte, &mut 0));
            Some((syntax, spellings.collect()))
        });
        let then = then.map(|state| self.number(state));
        self.next.insert((state, byte), then);
        then
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
