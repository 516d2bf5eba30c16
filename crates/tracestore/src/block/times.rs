//! When spans start and how long they take: the columns that searches ask most, read no further than asked.

use std::ops::RangeInclusive;

use super::open::Block;

impl Block {
    /// Start and end of every span, in order.
    pub(crate) fn times(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut traces = self.traces.iter();
        let (mut left, mut start_ns) = (0, 0_u64);
        self.core.start_steps.iter().zip(self.core.durations.iter()).map(move |(step, took)| {
            if left == 0
                && let Some(trace) = traces.next()
            {
                (left, start_ns) = (trace.spans.len(), trace.min_start_ns);
            }
            left -= 1;
            start_ns = start_ns.wrapping_add(step as u64);
            (start_ns, start_ns.wrapping_add(took as u64))
        })
    }

    /// Hands over the spans that take so many nanoseconds, ascending; one that ends before it starts takes none.
    pub(crate) fn visit_lasting(&self, wanted: RangeInclusive<u64>, mut hit: impl FnMut(usize)) {
        let lasting = |(start_ns, end_ns): (u64, u64)| wanted.contains(&end_ns.saturating_sub(start_ns));
        if wanted.contains(&0) {
            self.times().enumerate().filter(|(_, times)| lasting(*times)).for_each(|(span, _)| hit(span));
            return;
        }
        // What is stored is the duration, but where the end wrapped: a span that ends before it starts.
        let mut starts = self.span_starts();
        self.core.durations.visit_within(wanted, |span| {
            let took = self.core.durations.get(span) as u64;
            let is_within = |start_ns: u64| start_ns.checked_add(took).is_some();
            if is_within(self.starts().1) || starts.of(span).is_some_and(|(_, start_ns)| is_within(start_ns)) {
                hit(span);
            }
        });
    }

    /// Starts of spans that are asked for in ascending order.
    pub(crate) fn span_starts(&self) -> Starts<'_> {
        Starts { block: self, trace: 0, next: 0, start_ns: 0 }
    }
}

/// Starts of spans, read from the first span of the trace that is asked about.
pub(crate) struct Starts<'b> {
    block: &'b Block,
    /// The trace that was asked about last.
    trace: usize,
    /// The span behind the last that was asked for, and that one's start.
    next: usize,
    start_ns: u64,
}

impl Starts<'_> {
    /// The trace of a span, by its place among the block's, and the span's start. `None` behind the last span.
    pub(crate) fn of(&mut self, span: usize) -> Option<(usize, u64)> {
        let traces = &self.block.traces;
        if traces.get(self.trace)?.spans.end as usize <= span {
            self.trace += traces[self.trace..].partition_point(|trace| trace.spans.end as usize <= span);
        }
        let trace = traces.get(self.trace)?;
        let first = trace.spans.start as usize;
        if self.next <= first {
            (self.next, self.start_ns) = (first, trace.min_start_ns);
        }
        let steps = (self.next..=span).map(|span| self.block.core.start_steps.get(span) as u64);
        self.start_ns = steps.fold(self.start_ns, u64::wrapping_add);
        self.next = self.next.max(span + 1);
        Some((self.trace, self.start_ns))
    }
}
