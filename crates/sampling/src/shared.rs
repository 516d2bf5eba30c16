//! What the gate, the writer of the log and whoever judges have in common.
//!
//! Lock order: `handing`, state. The state's lock is never held while the disk or the store is waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_base::Clock;
use pharos_model::{SpanBatch, SpanGroup, TenantId, TraceId};
use pharos_storage::TraceStore;

use crate::TailSamplingSettings;
use crate::policy::Decision;
use crate::record::{Fate, Judgement, Position};
use crate::replay::{Pasts, Route};
use crate::trace::WaitingTrace;
use crate::trace_state::record;
use crate::waiting::{Key, Waiting};

/// Makes spans of a request as it came, given what its body is written in; says why not.
pub type Decode = dyn Fn(u8, &[u8]) -> Result<SpanBatch, String> + Send + Sync;

/// What a sampler is made of.
pub struct Components {
    /// Where what is kept goes.
    pub store: Arc<dyn TraceStore>,
    /// What "now" is.
    pub clock: Arc<dyn Clock>,
    /// How requests in the log are read again.
    pub decode: Arc<Decode>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) kept: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) early: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) store_failures: AtomicU64,
    pub(crate) damaged_files: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) settings: TailSamplingSettings,
    pub(crate) components: Components,
    pub(crate) folder: PathBuf,
    pub(crate) state: Mutex<State>,
    /// Held while kept traces are on their way into the store: a deletion waits for that.
    pub(crate) handing: Mutex<()>,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) counts: Counts,
    /// Whether the last write to the log failed.
    pub(crate) log_fails: AtomicBool,
    /// Whether the log of the last run is still being read.
    pub(crate) is_reading: AtomicBool,
    /// Whether judging panicked: a bug, after which nothing here can be relied on.
    pub(crate) is_poisoned: AtomicBool,
}

pub(crate) struct State {
    pub(crate) waiting: Waiting,
    /// Judged, and not handed to the store yet: what is kept to be stored, what is dropped for its calls to be counted.
    pub(crate) kept: BTreeMap<TenantId, KeptQueue>,
    pub(crate) kept_bytes: usize,
    /// What became of traces and is not in the log yet.
    pub(crate) unlogged: VecDeque<Judgement>,
    /// The file of the log that is being written.
    pub(crate) file: u64,
    /// While the log of the last run is read: the first file that is not read to its end, and what became of traces then.
    pub(crate) unread: Option<(u64, Pasts)>,
    /// Files that are not removed but set aside when nobody needs them.
    pub(crate) damaged: BTreeSet<u64>,
}

/// Judged traces of one tenant, in the order in which they were judged.
#[derive(Default)]
pub(crate) struct KeptQueue {
    pub(crate) traces: VecDeque<Kept>,
    pub(crate) bytes: usize,
}

/// A judged trace on its way to the store. Of one that is dropped there is what tells who calls whom.
pub(crate) struct Kept {
    pub(crate) trace: WaitingTrace,
    pub(crate) decision: Decision,
}

impl Kept {
    fn new(mut trace: WaitingTrace, decision: Decision) -> Self {
        if decision.is_none() {
            trace.keep_calls();
        }
        Self { trace, decision }
    }

    /// Its spans, with the probability recorded where they are kept. Copies: a store that refuses a batch keeps it.
    pub(crate) fn groups(&self) -> impl Iterator<Item = SpanGroup> {
        self.trace.groups.iter().cloned().map(|mut group| {
            if let Some(threshold) = self.decision {
                group.spans.iter_mut().for_each(|span| record(&mut span.trace_state, threshold));
            }
            group
        })
    }
}

impl Shared {
    pub(crate) fn new(settings: TailSamplingSettings, components: Components, folder: PathBuf, state: State) -> Self {
        Self {
            settings,
            components,
            folder,
            state: Mutex::new(state),
            handing: Mutex::new(()),
            queued_bytes: AtomicU64::new(0),
            counts: Counts::default(),
            log_fails: AtomicBool::new(false),
            is_reading: AtomicBool::new(true),
            is_poisoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn memory_max(&self) -> usize {
        usize::try_from(self.settings.memory_max.0).unwrap_or(usize::MAX).min(usize::MAX / 2)
    }

    /// Size at which a file of the log is closed.
    pub(crate) fn log_segment_bytes(&self) -> u64 {
        self.settings.log_segment.0
    }

    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.settings.decision_wait.as_ms().unsigned_abs())
    }

    /// When a trace is judged that comes now.
    pub(crate) fn deadline(&self) -> Instant {
        self.components.clock.monotonic() + self.wait()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        let state = self.state.lock();
        state.waiting.bytes() + state.kept_bytes
    }

    /// Whether nothing more of `tenant` is taken: everyone's memory is at its end, or nearly so and most of it is `tenant`'s.
    pub(crate) fn is_full_for(&self, tenant: &TenantId) -> bool {
        let state = self.state.lock();
        let all = state.waiting.bytes() + state.kept_bytes;
        let own = state.waiting.bytes_of(tenant) + state.kept.get(tenant).map_or(0, |kept| kept.bytes);
        let memory_max = self.memory_max();
        all >= 2 * memory_max || (all >= memory_max + memory_max / 2 && own > all / 2)
    }

    /// Whether anyone waits for anything in `file` of the log or one before.
    pub(crate) fn needs(&self, file: u64) -> bool {
        self.state.lock().waiting.first_needed().is_some_and(|first| first <= file)
    }

    /// The log goes on in `file`.
    pub(crate) fn goes_on_in(&self, file: u64) {
        self.state.lock().file = file;
    }

    /// Lets spans wait that are at `at` in the log, unless something became of their traces already.
    pub(crate) fn admit(&self, tenant: &TenantId, batch: SpanBatch, at: Position, deadline: Instant) {
        let mut state = self.state.lock();
        let state = &mut *state;
        // Spans of traces that were judged, and whether that is in the log for them, too.
        let mut late: HashMap<TraceId, (Decision, WaitingTrace, bool)> = HashMap::new();
        for mut group in batch.groups {
            for span in std::mem::take(&mut group.spans) {
                let route = state.unread.as_ref().map(|(_, pasts)| pasts.route(tenant, span.trace_id, at));
                let (decision, is_logged) = match route {
                    Some(Route::Settled) => continue,
                    Some(Route::Kept(threshold)) => (Some(Some(threshold)), true),
                    Some(Route::Open) | None => (state.waiting.decision(tenant, span.trace_id), false),
                };
                let Some(decision) = decision else {
                    state.waiting.wait(tenant, &group, span, at, deadline);
                    continue;
                };
                let entry = late.entry(span.trace_id);
                let (_, trace, _) = entry.or_insert_with(|| (decision, WaitingTrace::new(span.trace_id), is_logged));
                trace.push(&group, span, at);
            }
        }
        for (trace_id, (decision, trace, is_logged)) in late {
            if !is_logged {
                self.counts.late.fetch_add(trace.span_count as u64, Relaxed);
                state.judged(tenant, trace_id, at, decision);
            }
            state.waiting.need(at.file);
            state.keep(tenant, Kept::new(trace, decision));
        }
    }

    /// The log says that a trace is deleted.
    pub(crate) fn is_deleted(&self, tenant: &TenantId, trace_id: TraceId, at: Position) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.waiting.delete(tenant, trace_id);
        state.unlogged.retain(|judgement| judgement.trace_id != trace_id || judgement.tenant != *tenant);
        if let Some((_, pasts)) = &mut state.unread {
            pasts.delete(tenant, trace_id, at);
        }
        if let Some(queue) = state.kept.get_mut(tenant) {
            queue.traces.retain(|kept| {
                let goes = kept.trace.trace_id == trace_id;
                if goes {
                    queue.bytes -= kept.trace.bytes;
                    state.kept_bytes -= kept.trace.bytes;
                    state.waiting.release(&kept.trace.files);
                }
                !goes
            });
        }
    }

    /// A trace was judged.
    pub(crate) fn decided(&self, state: &mut State, (tenant, trace_id): Key, trace: WaitingTrace, decision: Decision) {
        state.judged(&tenant, trace_id, trace.last, decision);
        let count = if decision.is_some() { &self.counts.kept } else { &self.counts.dropped };
        count.fetch_add(1, Relaxed);
        state.keep(&tenant, Kept::new(trace, decision));
        state.waiting.remember((tenant, trace_id), decision);
    }
}

impl State {
    fn keep(&mut self, tenant: &TenantId, kept: Kept) {
        let queue = self.kept.entry(tenant.clone()).or_default();
        queue.bytes += kept.trace.bytes;
        self.kept_bytes += kept.trace.bytes;
        queue.traces.push_back(kept);
    }

    fn judged(&mut self, tenant: &TenantId, trace_id: TraceId, up_to: Position, decision: Decision) {
        let fate = decision.map_or(Fate::Dropped, Fate::Kept);
        self.unlogged.push_back(Judgement { tenant: tenant.clone(), trace_id, up_to, fate });
    }

    /// The store has taken the first `count` of what was judged of a tenant.
    pub(crate) fn stored(&mut self, tenant: &TenantId, count: usize) {
        let Some(queue) = self.kept.get_mut(tenant) else { return };
        for kept in queue.traces.drain(..count) {
            queue.bytes -= kept.trace.bytes;
            self.kept_bytes -= kept.trace.bytes;
            self.waiting.release(&kept.trace.files);
            if kept.decision.is_some() {
                let (trace_id, up_to) = (kept.trace.trace_id, kept.trace.last);
                self.unlogged.push_back(Judgement { tenant: tenant.clone(), trace_id, up_to, fate: Fate::Stored });
            }
        }
        if queue.traces.is_empty() {
            self.kept.remove(tenant);
        }
    }
}
