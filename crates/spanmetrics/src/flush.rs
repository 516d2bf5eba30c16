//! Writes all that is counted of one tenant, in batches of bounded size, and learns which of them the metrics store took.
//!
//! The lock of the tenant is held for some series at a time. A batch that was refused changes nothing: its beginnings, ends
//! and metadata are written again at the next flush (`life.rs`), its counts go on; its exemplars are lost.

use pharos_model::MetricBatch;

use crate::SpanMetricsSettings;
use crate::graph::Graph;
use crate::output::Output;
use crate::red::Red;
use crate::targets::Targets;
use crate::tenant::{State, Tenant};

/// Series written before the lock is let go for a moment.
const STEP_PLACES: usize = 256;

/// The instants of a flush.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instants {
    pub(crate) now_ms: i64,
    /// Series that were last seen before this end.
    pub(crate) idle_since_ms: i64,
}

/// How many links to traces a flush may still write, and where the next one begins with them: if there are more than
/// fit, all series get some in turn.
#[derive(Debug)]
pub(crate) struct ExemplarTurn {
    left: usize,
    refused_from: Option<usize>,
}

impl ExemplarTurn {
    fn new(max: usize) -> Self {
        Self { left: max, refused_from: None }
    }

    /// Whether the series at place number `index` may have one more.
    pub(crate) fn takes(&mut self, index: usize) -> bool {
        if self.left == 0 {
            self.refused_from.get_or_insert(index);
            return false;
        }
        self.left -= 1;
        true
    }
}

/// Places in the order of one flush: all of them, from one on.
#[derive(Debug, Clone, Copy)]
struct Places {
    from: usize,
    count: usize,
}

impl Places {
    fn at(self, step: usize) -> Option<usize> {
        (step < self.count).then(|| (self.from + step) % self.count)
    }
}

/// A flush under way.
struct Flush {
    at: Instants,
    exemplars: ExemplarTurn,
    series: Places,
    edges: Places,
    targets: Places,
    output: Output,
}

impl Tenant {
    /// Writes everything to `append`, which says whether the store took it. Nothing if time has not gone on.
    /// Not to be called by two at a time.
    pub(crate) fn flush(&self, now_ms: i64, append: &mut dyn FnMut(MetricBatch) -> bool) {
        self.count_answered();
        let Some(mut flush) = self.begin_flush(now_ms) else { return };
        let (mut first, mut unsettled) = (0, 0);
        loop {
            flush.write(&mut self.state.lock(), first);
            first += STEP_PLACES;
            let is_done = first >= flush.series.count.max(flush.edges.count).max(flush.targets.count);
            if is_done || flush.output.is_full() {
                let batch = flush.output.take();
                let is_stored = batch.is_empty() || append(batch);
                flush.settle(self, unsettled..first, is_stored);
                unsettled = first;
            }
            if is_done {
                break;
            }
        }
        self.state.lock().exemplars_from = flush.exemplars.refused_from.unwrap_or(flush.series.from);
    }

    fn begin_flush(&self, now_ms: i64) -> Option<Flush> {
        let idle_max = self.red.as_ref().map_or_else(|| SpanMetricsSettings::default().idle_max, |red| red.idle_max);
        let mut output = Output::default();
        let mut state = self.state.lock();
        if now_ms <= state.flushed_ms {
            return None;
        }
        state.flushed_ms = now_ms;
        state.names.forget_unused();
        if let Some(graph) = &mut state.graph {
            graph.expire(now_ms);
        }
        if !state.has_metadata {
            crate::metadata::write(self.red.is_some(), state.targets.is_some(), self.graph.is_some(), &mut output);
        }
        Some(Flush {
            at: Instants { now_ms, idle_since_ms: now_ms.saturating_sub(idle_max.as_ms()) },
            exemplars: ExemplarTurn::new(self.red.as_ref().map_or(0, |red| red.exemplars_max)),
            series: Places { from: state.exemplars_from, count: state.red.as_ref().map_or(0, Red::places) },
            edges: Places { from: 0, count: state.graph.as_ref().map_or(0, Graph::places) },
            targets: Places { from: 0, count: state.targets.as_ref().map_or(0, Targets::places) },
            output,
        })
    }
}

impl Flush {
    /// Writes some series from step `first` on.
    fn write(&mut self, state: &mut State, first: usize) {
        for step in first..first + STEP_PLACES {
            if let (Some(red), Some(index)) = (&mut state.red, self.series.at(step)) {
                red.flush(index, self.at, &mut self.exemplars, &mut self.output);
            }
            if let (Some(graph), Some(index)) = (&mut state.graph, self.edges.at(step)) {
                graph.flush(index, self.at, &mut self.output);
            }
            if let (Some(targets), Some(index)) = (&mut state.targets, self.targets.at(step)) {
                targets.flush(index, self.at, &mut self.output);
            }
        }
    }

    /// Tells the series of these steps whether the store took what was written of them.
    fn settle(&self, tenant: &Tenant, steps: std::ops::Range<usize>, is_stored: bool) {
        for first in steps.clone().step_by(STEP_PLACES) {
            let mut state = tenant.state.lock();
            // Metadata goes with the first batch.
            state.has_metadata |= is_stored && first == 0;
            for step in first..first + STEP_PLACES {
                if let (Some(red), Some(index)) = (&mut state.red, self.series.at(step)) {
                    red.settle(index, is_stored);
                }
                if let (Some(graph), Some(index)) = (&mut state.graph, self.edges.at(step)) {
                    graph.settle(index, is_stored);
                }
                if let (Some(targets), Some(index)) = (&mut state.targets, self.targets.at(step)) {
                    targets.settle(index, is_stored);
                }
            }
        }
    }
}
