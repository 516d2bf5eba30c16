//! The newest traces seen so far.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use hashbrown::HashMap;
use pharos_model::TraceId;
use pharos_storage::TraceHit;

/// Keeps the `limit` newest traces of all that are offered, in any order, each as often as one likes.
///
/// Exact because a trace's start only ever grows: a trace that was pushed out had `limit` newer ones
/// before it and comes back only with a span that is newer.
#[derive(Debug)]
pub(crate) struct TopTraces {
    limit: usize,
    newest: HashMap<TraceId, u64>,
    order: BTreeSet<(Reverse<u64>, TraceId)>,
}

impl TopTraces {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, newest: HashMap::new(), order: BTreeSet::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.order.len() >= self.limit
    }

    /// Whether a span that starts at `start_ns` can still change anything; once `false`, it is so for all
    /// older spans too.
    pub(crate) fn could_take(&self, start_ns: u64) -> bool {
        !self.is_full() || self.order.last().is_some_and(|(Reverse(oldest_ns), _)| start_ns >= *oldest_ns)
    }

    /// Whether a span of the trace that starts at `start_ns` changes nothing.
    pub(crate) fn knows(&self, trace_id: TraceId, start_ns: u64) -> bool {
        self.newest.get(&trace_id).is_some_and(|known_ns| *known_ns >= start_ns)
    }

    pub(crate) fn offer(&mut self, trace_id: TraceId, start_ns: u64) {
        if self.limit == 0 {
            return;
        }
        let entry = (Reverse(start_ns), trace_id);
        match self.newest.get(&trace_id) {
            Some(known_ns) if *known_ns >= start_ns => return,
            Some(known_ns) => {
                self.order.remove(&(Reverse(*known_ns), trace_id));
            }
            None if self.is_full() && self.order.last().is_some_and(|last| entry > *last) => return,
            None => {}
        }
        self.newest.insert(trace_id, start_ns);
        self.order.insert(entry);
        if self.order.len() > self.limit
            && let Some((_, pushed_out)) = self.order.pop_last()
        {
            self.newest.remove(&pushed_out);
        }
    }

    /// Newest first, then by trace id.
    pub(crate) fn into_hits(self) -> Vec<TraceHit> {
        self.order.into_iter().map(|(Reverse(start_ns), trace_id)| TraceHit { trace_id, start_ns }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> TraceId {
        TraceId([number; 16])
    }

    #[test]
    fn a_trace_that_was_pushed_out_comes_back_with_a_newer_span() {
        let mut top = TopTraces::new(2);
        for (number, start_ns) in [(1, 10), (2, 20), (3, 30), (1, 25), (3, 5), (1, 25)] {
            top.offer(id(number), start_ns);
        }
        let hits: Vec<_> = top.into_hits().iter().map(|hit| (hit.trace_id, hit.start_ns)).collect();
        assert_eq!(hits, [(id(3), 30), (id(1), 25)]);
    }

    #[test]
    fn equal_starts_are_decided_by_the_trace_id() {
        let mut top = TopTraces::new(1);
        top.offer(id(9), 10);
        assert!(top.could_take(10) && !top.could_take(9));
        top.offer(id(3), 10);
        top.offer(id(5), 10);
        assert_eq!(top.into_hits(), [TraceHit { trace_id: id(3), start_ns: 10 }]);
    }
}
