//! The gate: takes requests, lets their spans wait, judges traces, and hands on what is kept.
//!
//! Threads: one writes the log. Judging is done by whoever calls [`TailSampler::step`], one at a time.
//!
//! Invariants
//! - S1 A request is acknowledged when it is in the log on disk. Its spans are in memory by then.
//! - S2 A file of the log is removed when every trace with spans in it was dropped, or is in the trace store on disk.
//! - S3 A start reads the log again: what waited waits anew. What was stored before is stored again, which changes nothing.
//!
//! Lock order: policies, state. Neither is held while the disk or the store is waited for.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pharos_base::{Clock, Completion, spawn_named};
use pharos_model::{SpanBatch, SpanGroup, TenantId};
use pharos_storage::{AppendOutcome, BatchId, SpanGate, SpanRequest, StorageError, TraceStore};

use crate::log::{self, Log};
use crate::policy::Policies;
use crate::replay::{read_file, store_all};
use crate::trace_state::record;
use crate::waiting::{Waiting, WaitingTrace};
use crate::writer::{Job, Writer, unavailable};
use crate::{SamplingError, TailSamplingSettings};

/// Requests that wait for the log.
const QUEUE_MAX: usize = 1_024;
/// Bytes of these.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Spans handed to the store at a time.
const HANDED_SPANS_MAX: usize = 8_192;
/// Traces judged while the lock is held.
const JUDGED_TOGETHER: usize = 64;

/// Makes spans of a request as it came; says why not.
pub type Decode = dyn Fn(u8, &[u8]) -> Result<SpanBatch, String>;

/// What a sampler is made of.
pub struct Components {
    /// Where what is kept goes.
    pub store: Arc<dyn TraceStore>,
    /// What "now" is.
    pub clock: Arc<dyn Clock>,
}

/// Tail sampling. Drop it after [`TailSampler::close`].
pub struct TailSampler {
    shared: Arc<Shared>,
    policies: Mutex<Policies>,
    queue: Mutex<Option<SyncSender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for TailSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TailSampler").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// Numbers for our own metrics, since the start where they are counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailSamplerStats {
    /// Traces that wait.
    pub traces_waiting: u64,
    /// Memory of these and of what the store has not taken yet.
    pub bytes_waiting: u64,
    /// Traces that were judged worth keeping.
    pub traces_kept: u64,
    /// Traces that were dropped.
    pub traces_dropped: u64,
    /// Traces judged before their time, as there was no room for more.
    pub traces_early: u64,
    /// Spans that came after their trace was judged.
    pub spans_late: u64,
    /// Times that the store did not take what was kept; it is offered again.
    pub store_failures: u64,
}

#[derive(Default)]
struct Counts {
    kept: AtomicU64,
    dropped: AtomicU64,
    early: AtomicU64,
    late: AtomicU64,
    store_failures: AtomicU64,
}

/// What the caller's threads and the writer share.
pub(crate) struct Shared {
    settings: TailSamplingSettings,
    components: Components,
    folder: PathBuf,
    state: Mutex<State>,
    pub(crate) queued_bytes: AtomicU64,
    counts: Counts,
}

struct State {
    waiting: Waiting,
    /// Kept, and not in the store yet.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// The file of the log that is being written.
    file: u64,
}

/// A kept trace on its way into the store.
struct Kept {
    tenant: TenantId,
    trace: WaitingTrace,
    threshold: u64,
}

impl TailSampler {
    /// Opens the log in `folder` and takes up what waits in it; `None` if sampling is off: then what waited is stored.
    ///
    /// # Errors
    /// [`SamplingError`] if the log cannot be read or written, settings make no sense, or the store does not take what waited.
    pub fn open(
        folder: &Path,
        settings: TailSamplingSettings,
        components: Components,
        decode: &Decode,
    ) -> Result<Option<Self>, SamplingError> {
        settings.check()?;
        let files = log::files(folder)?;
        if !settings.enabled {
            let last = files.last().copied();
            files.iter().try_for_each(|file| store_all(folder, *file, last == Some(*file), &components, decode))?;
            return Ok(None);
        }
        let number = files.last().map_or(1, |last| last + 1);
        let log = Log::create(folder, number)?;
        let state =
            State { waiting: Waiting::new(settings.decisions_max), kept: VecDeque::new(), kept_bytes: 0, file: number };
        let policies = Mutex::new(Policies::new(&settings.policies));
        let shared = Arc::new(Shared {
            settings,
            components,
            folder: folder.to_owned(),
            state: Mutex::new(state),
            queued_bytes: AtomicU64::new(0),
            counts: Counts::default(),
        });
        let (sender, receiver) = sync_channel::<Job>(QUEUE_MAX);
        let sampler = Self { shared, policies, queue: Mutex::new(None), writer: Mutex::new(None) };
        for file in files {
            // What has not been read yet is needed.
            sampler.shared.goes_on_in(file);
            read_file(folder, file, file + 1 == number, decode, |record, batch| {
                sampler.shared.admit(&record.tenant, batch, file);
                Ok(())
            })?;
            sampler.step();
        }
        sampler.shared.goes_on_in(number);
        let writer = Writer::new(Arc::clone(&sampler.shared), log);
        let thread = spawn_named("sampling-log", move || writer.run(&receiver))
            .map_err(SamplingError::io("start a thread for", folder))?;
        *sampler.queue.lock() = Some(sender);
        *sampler.writer.lock() = Some(thread);
        Ok(Some(sampler))
    }

    /// Judges traces whose time has come, hands on what is kept, and removes what is no longer needed of the log. To be
    /// called every second or so; waits for the store.
    pub fn step(&self) {
        let mut policies = self.policies.lock();
        loop {
            if !self.shared.hand_on() {
                // The store does not take anything now. What is kept stays, in memory and in the log.
                break;
            }
            if !self.shared.judge(&mut policies) {
                break;
            }
        }
        self.shared.trim();
    }

    /// Ends the log; what waits stays in it for the next start.
    pub fn close(&self) {
        *self.queue.lock() = None;
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the thread of the sampling log panicked");
        }
    }

    /// What the writer shares with it.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Numbers for our own metrics.
    #[must_use]
    pub fn stats(&self) -> TailSamplerStats {
        let counts = &self.shared.counts;
        let state = self.shared.state.lock();
        TailSamplerStats {
            traces_waiting: state.waiting.len() as u64,
            bytes_waiting: (state.waiting.bytes() + state.kept_bytes) as u64,
            traces_kept: counts.kept.load(Relaxed),
            traces_dropped: counts.dropped.load(Relaxed),
            traces_early: counts.early.load(Relaxed),
            spans_late: counts.late.load(Relaxed),
            store_failures: counts.store_failures.load(Relaxed),
        }
    }
}

impl SpanGate for TailSampler {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        request: SpanRequest<'_>,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        if self.shared.held_bytes() >= 2 * self.shared.memory_max() {
            let reason = "spans that wait for a sampling decision take twice tail_sampling.memory_max";
            return Completion::ready(Err(unavailable(reason)));
        }
        let mut record = Vec::with_capacity(request.body.len() + 128);
        log::encode(tenant, request.form, request.body, &mut record);
        let bytes = record.len() as u64;
        if self.shared.queued_bytes.load(Relaxed) > QUEUE_BYTES_MAX {
            return Completion::ready(Err(unavailable("the sampling log does not keep up")));
        }
        let (completer, completion) = Completion::pair();
        let job = Job { tenant: tenant.clone(), batch, record, completer };
        let sent = match &*self.queue.lock() {
            Some(queue) => queue.try_send(job),
            None => return Completion::ready(Err(unavailable("stopping"))),
        };
        match sent {
            Ok(()) => {
                self.shared.queued_bytes.fetch_add(bytes, Relaxed);
                completion
            }
            Err(TrySendError::Full(_)) => Completion::ready(Err(unavailable("the sampling log does not keep up"))),
            Err(TrySendError::Disconnected(_)) => Completion::ready(Err(unavailable("stopping"))),
        }
    }
}

impl Shared {
    fn memory_max(&self) -> usize {
        usize::try_from(self.settings.memory_max.0).unwrap_or(usize::MAX / 2)
    }

    fn held_bytes(&self) -> usize {
        let state = self.state.lock();
        state.waiting.bytes() + state.kept_bytes
    }

    /// Size at which a file of the log is closed.
    pub(crate) fn log_segment_bytes(&self) -> u64 {
        self.settings.log_segment.0
    }

    /// Whether anyone waits for anything in `file` of the log or one before.
    pub(crate) fn needs(&self, file: u64) -> bool {
        self.state.lock().waiting.first_needed().is_some_and(|first| first <= file)
    }

    /// The log goes on in `file`.
    pub(crate) fn goes_on_in(&self, file: u64) {
        self.state.lock().file = file;
    }

    /// Lets spans wait that are in `file` of the log.
    pub(crate) fn admit(&self, tenant: &TenantId, batch: SpanBatch, file: u64) {
        let deadline_ms = self.components.clock.unix_ms().saturating_add(self.settings.decision_wait.as_ms());
        let mut state = self.state.lock();
        let admitted = state.waiting.admit(tenant, batch, file, deadline_ms);
        let mut late = admitted.dropped;
        for (trace, threshold) in admitted.kept {
            late += trace.span_count as u64;
            state.keep(Kept { tenant: tenant.clone(), trace, threshold });
        }
        self.counts.late.fetch_add(late, Relaxed);
    }

    /// Judges some traces; false if there are no more whose time has come.
    fn judge(&self, policies: &mut Policies) -> bool {
        let now_ms = self.components.clock.unix_ms();
        let mut spans = 0;
        while spans < HANDED_SPANS_MAX {
            let mut state = self.state.lock();
            for _ in 0..JUDGED_TOGETHER {
                let waits = state.waiting.len() > self.settings.traces_max || state.waiting.bytes() > self.memory_max();
                let Some((key, trace)) = state.waiting.pop(now_ms, self.settings.traces_max, self.memory_max()) else {
                    return spans > 0;
                };
                self.counts.early.fetch_add(u64::from(waits), Relaxed);
                let decision = policies.decide(&trace, now_ms);
                spans += trace.span_count;
                if let Some(threshold) = decision {
                    self.counts.kept.fetch_add(1, Relaxed);
                    state.keep(Kept { tenant: key.0.clone(), trace, threshold });
                } else {
                    self.counts.dropped.fetch_add(1, Relaxed);
                    state.waiting.release(&trace.files);
                }
                state.waiting.remember(key, decision);
            }
        }
        true
    }

    /// Hands to the store what is kept; false if it does not take it.
    fn hand_on(&self) -> bool {
        loop {
            let (tenant, batch, count) = {
                let state = self.state.lock();
                let Some(first) = state.kept.front() else { return true };
                let mut spans = 0;
                let together = state.kept.iter().take_while(|kept| {
                    let fits = spans < HANDED_SPANS_MAX;
                    spans += kept.trace.span_count;
                    fits && kept.tenant == first.tenant
                });
                let mut groups = Vec::new();
                let mut count = 0;
                for kept in together {
                    count += 1;
                    groups.extend(kept.groups());
                }
                (first.tenant.clone(), SpanBatch { groups }, count)
            };
            match self.components.store.append(&tenant, batch, BatchId::random()).wait() {
                Some(Ok(_)) => self.forget(count),
                Some(Err(error)) => {
                    self.counts.store_failures.fetch_add(1, Relaxed);
                    tracing::warn!(%tenant, %error, "the trace store did not take sampled traces; they are offered again");
                    return false;
                }
                None => return false,
            }
        }
    }

    /// The first `count` of what was kept is in the store.
    fn forget(&self, count: usize) {
        let mut state = self.state.lock();
        for _ in 0..count {
            if let Some(kept) = state.kept.pop_front() {
                state.kept_bytes -= kept.trace.bytes;
                state.waiting.release(&kept.trace.files);
            }
        }
    }

    /// Removes files of the log that nobody needs.
    fn trim(&self) {
        let needed_from = {
            let state = self.state.lock();
            state.waiting.first_needed().map_or(state.file, |first| first.min(state.file))
        };
        let removed = log::files(&self.folder).and_then(|files| {
            files.iter().take_while(|file| **file < needed_from).try_for_each(|file| log::remove(&self.folder, *file))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "the sampling log cannot be trimmed");
        }
    }
}

impl State {
    fn keep(&mut self, kept: Kept) {
        self.kept_bytes += kept.trace.bytes;
        self.kept.push_back(kept);
    }
}

impl Kept {
    /// Its spans with the probability recorded. Copies: a store that refuses a batch keeps it.
    fn groups(&self) -> impl Iterator<Item = SpanGroup> {
        self.trace.groups.iter().cloned().map(|mut group| {
            group.spans.iter_mut().for_each(|span| record(&mut span.trace_state, self.threshold));
            group
        })
    }
}
