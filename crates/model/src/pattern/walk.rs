//! Many values against one pattern: an automaton that goes on where a value begins like the one before.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

/// An automaton and where it stands after each byte of the value it saw last. It knows when no continuation can match.
pub struct PatternWalk {
    dfa: dense::DFA<Vec<u32>>,
    value: Vec<u8>,
    /// One more than there are bytes; shorter if the automaton died.
    states: Vec<StateID>,
}

impl PatternWalk {
    /// `None` if the automaton would take more than `bytes_max` bytes, be it finished or in the making.
    pub(super) fn build(hir: &Hir, bytes_max: usize) -> Option<Self> {
        let nfa = thompson::Compiler::new()
            .configure(thompson::Config::new().nfa_size_limit(Some(bytes_max)))
            .build_from_hir(hir)
            .ok()?;
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(bytes_max))
            .determinize_size_limit(Some(bytes_max));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        let first = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        Some(Self { dfa, value: Vec::new(), states: vec![first] })
    }

    /// Whether the pattern matches the whole value; cheapest in an order in which neighbours begin alike.
    pub fn matches(&mut self, value: &str) -> bool {
        let value = value.as_bytes();
        let shared = self.value.iter().zip(value).take_while(|(a, b)| a == b).count();
        self.value.truncate(shared);
        self.value.extend_from_slice(&value[shared..]);
        self.states.truncate(shared + 1);
        let Some(mut state) = self.states.last().copied() else { return false };
        for byte in &value[self.states.len() - 1..] {
            if self.dfa.is_dead_state(state) {
                break;
            }
            state = self.dfa.next_state(state, *byte);
            self.states.push(state);
        }
        !self.dfa.is_dead_state(state) && self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }
}
