//! The gate: takes requests and lets their spans wait.
//!
//! Threads: one writes the log. Judging is done by whoever calls [`TailSampler::step`], one at a time.
//!
//! Invariants
//! - S1 A request is acknowledged when it is in the log on disk. Its spans are in memory by then.
//! - S2 A file of the log is removed when every trace with spans in it was dropped, or is in the trace store on disk.
//! - S3 What became of a trace is in the log before it is seen: a start takes up what is open and judges nothing again.
//! - S4 A deletion is in the log, and nothing of the trace waits or is on its way, before the store is asked to delete it.
//!
//! Lock order: judging, handing, state. The state's lock is never held while the disk or the store is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pharos_base::{ByteSize, Completion, HumanDuration, spawn_named};
use pharos_model::{SpanBatch, TenantId, TraceId};
use pharos_storage::{AppendOutcome, SpanGate, SpanRequest, StorageError};

use crate::judging::{Judging, Reading};
use crate::log::Log;
use crate::policy::Policies;
use crate::record::{RECORD_BYTES_MAX, Request, encode_request};
use crate::replay::Survey;
use crate::shared::{Components, Shared, State};
use crate::waiting::Waiting;
use crate::writer::{Job, Writer, unavailable};
use crate::{Policy, Rule, SamplingError, TailSamplingSettings};

/// Requests that wait for the log.
const QUEUE_MAX: usize = 1_024;
/// Bytes of these.
const QUEUE_BYTES_MAX: u64 = 64 << 20;

/// Tail sampling. Drop it after [`TailSampler::close`].
pub struct TailSampler {
    pub(crate) shared: Arc<Shared>,
    judging: Mutex<Judging>,
    pub(crate) queue: Mutex<Option<SyncSender<Job>>>,
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
    /// Spans that were acknowledged and are not stored, as the store would not have them or the log could not be read.
    pub spans_rejected: u64,
    /// Times that the store did not take what was kept; it is offered again.
    pub store_failures: u64,
    /// Damaged files of the log, those that were set aside included.
    pub damaged_files: u64,
}

impl TailSampler {
    /// Opens the log in `folder` and takes up what waits in it; `None` if sampling is off: then what waited is stored.
    ///
    /// # Errors
    /// [`SamplingError`] if the log cannot be read or written, settings make no sense, or, with sampling off, the store does not
    /// take what waited.
    pub fn open(
        folder: &Path,
        settings: TailSamplingSettings,
        components: Components,
    ) -> Result<Option<Self>, SamplingError> {
        settings.check()?;
        let mut settings = settings;
        let is_enabled = settings.enabled;
        if !is_enabled {
            // Everything that waits is due, and wanted.
            settings.decision_wait = HumanDuration::from_ms(0);
            settings.policies = vec![Policy { name: "off".to_owned(), rule: Rule::Always }];
        }
        let mut waiting = Waiting::new(settings.decisions_max);
        let survey = Survey::of(folder, |(tenant, trace_id), decision| match decision {
            Some(decision) => waiting.remember((tenant, trace_id), decision),
            None => waiting.delete(&tenant, trace_id),
        })?;
        if !is_enabled && survey.files.is_empty() {
            return Ok(None);
        }
        if survey.torn_bytes > 0 {
            let bytes = survey.torn_bytes;
            tracing::warn!(
                bytes,
                "the sampling log ends in a write that did not end, of requests that were not acknowledged"
            );
        }
        let log = Log::create(folder, survey.next_number, survey.last_bytes)?;
        let state = State {
            waiting,
            kept: BTreeMap::new(),
            kept_bytes: 0,
            unlogged: VecDeque::new(),
            file: survey.next_number,
            unread: Some((survey.files.front().copied().unwrap_or(survey.next_number), survey.pasts)),
            damaged: survey.damaged,
        };
        let reading = Reading { files: survey.files, offset: 0, last_received_at_ms: survey.last_received_at_ms };
        let judging = Judging { policies: Policies::new(&settings.policies), reading: Some(reading) };
        let shared = Arc::new(Shared::new(settings, components, folder.to_owned(), state));
        let (sender, receiver) = sync_channel::<Job>(QUEUE_MAX);
        let writer = Writer::new(Arc::clone(&shared), log);
        let thread = spawn_named("sampling-log", move || writer.run(&receiver))
            .map_err(SamplingError::io("start a thread for", folder))?;
        let sampler = Self {
            shared,
            judging: Mutex::new(judging),
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(thread)),
        };
        sampler.read_on(&mut sampler.judging.lock())?;
        if is_enabled {
            return Ok(Some(sampler));
        }
        sampler.empty()?;
        Ok(None)
    }

    /// Brings everything that waits to the store and ends the log.
    fn empty(self) -> Result<(), SamplingError> {
        let is_empty = self.settle(&mut self.judging.lock().policies) && !self.shared.is_reading.load(Relaxed);
        self.close();
        if !is_empty {
            return Err(SamplingError::Refused);
        }
        self.shared.goes_on_in(u64::MAX);
        self.trim();
        Ok(())
    }

    /// Judges traces whose time has come, hands on what is kept, and removes what is no longer needed of the log. To be
    /// called every second or so; waits for the store.
    pub fn step(&self) {
        let mut judging = self.judging.lock();
        let _poisons = PoisonsOnPanic(&self.shared.is_poisoned);
        if let Err(error) = self.read_on(&mut judging) {
            tracing::error!(error = pharos_base::full_message(&error), "the sampling log cannot be read on");
        }
        self.settle(&mut judging.policies);
        self.log_judgements();
        self.trim();
    }

    /// Ends the log; what waits stays in it for the next start.
    pub fn close(&self) {
        self.log_judgements();
        *self.queue.lock() = None;
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the thread of the sampling log panicked");
        }
    }

    /// Deletes a trace, from the store and from what waits. Spans of it that come later are those of a new trace.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if that cannot be made durable now; as the store's [`TraceStore::delete_trace`].
    ///
    /// [`TraceStore::delete_trace`]: pharos_storage::TraceStore::delete_trace
    pub fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        let _handing = self.shared.handing.lock();
        self.write(|completer| Job::Deletion { tenant: tenant.clone(), trace_id, completer })?;
        self.shared.components.store.delete_trace(tenant, trace_id)
    }

    /// Why no spans are taken at the moment, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        let has_ended = || self.writer.lock().as_ref().is_none_or(JoinHandle::is_finished);
        if self.shared.is_poisoned.load(Relaxed) || has_ended() {
            Some("tail sampling has stopped, see the log; a restart takes up what waits")
        } else if self.shared.is_reading.load(Relaxed) {
            Some("the sampling log of the last run is still being read: the trace store does not take what waited")
        } else if self.shared.log_fails.load(Relaxed) {
            Some("the sampling log cannot be written")
        } else {
            None
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
            spans_rejected: counts.rejected.load(Relaxed),
            store_failures: counts.store_failures.load(Relaxed),
            damaged_files: counts.damaged_files.load(Relaxed),
        }
    }
}

impl SpanGate for TailSampler {
    fn append(
        &self,
        tenant: &TenantId,
        mut batch: SpanBatch,
        request: SpanRequest<'_>,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        let shared = &self.shared;
        let refuse = |reason: &str| Completion::ready(Err(unavailable(reason)));
        if shared.is_reading.load(Relaxed) || shared.is_poisoned.load(Relaxed) {
            return refuse(self.refusal().unwrap_or("the sampling log was still being read"));
        }
        // The store will see what is acknowledged here only later: what it would reject is told now.
        let rejections = shared.components.store.screen(tenant, &mut batch);
        if batch.is_empty() {
            return Completion::ready(Ok(AppendOutcome { rejections, ..AppendOutcome::default() }));
        }
        if shared.is_full_for(tenant) {
            let limit = shared.settings.memory_max;
            return refuse(&format!(
                "spans that wait for a sampling decision take too much, tail_sampling.memory_max = {limit}; send again later, or raise it"
            ));
        }
        if shared.queued_bytes.load(Relaxed) > QUEUE_BYTES_MAX {
            return refuse(&log_is_late());
        }
        let mut record = Vec::with_capacity(request.body.len() + 256);
        let encoded = Request {
            tenant: tenant.clone(),
            received_at_ms: shared.components.clock.unix_ms(),
            span_count: batch.span_count() as u32,
            form: request.form,
            body: request.body,
        };
        if encode_request(&encoded, &mut record).is_none() {
            let hint = "send smaller requests where tail sampling is on";
            let limit = RECORD_BYTES_MAX as u64;
            return Completion::ready(Err(StorageError::LimitExceeded { what: "bytes of a request", limit, hint }));
        }
        let (completer, completion) = Completion::pair();
        let bytes = record.len() as u64;
        let job = Job::Request { tenant: tenant.clone(), batch, record, rejections, completer };
        shared.queued_bytes.fetch_add(bytes, Relaxed);
        let reason = match self.queue.lock().as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => return completion,
            Some(Err(TrySendError::Full(_))) => log_is_late(),
            Some(Err(TrySendError::Disconnected(_))) => "tail sampling has stopped, see the log".to_owned(),
            None => "stopping".to_owned(),
        };
        shared.queued_bytes.fetch_sub(bytes, Relaxed);
        refuse(&reason)
    }
}

fn log_is_late() -> String {
    let limit = ByteSize(QUEUE_BYTES_MAX);
    format!(
        "the disk does not keep up with the sampling log, for which {QUEUE_MAX} requests of {limit} together may wait; send again later, fewer at a time"
    )
}

/// A panic amid judging leaves what waits in a state that nobody knows: nothing more is taken then.
struct PoisonsOnPanic<'a>(&'a AtomicBool);

impl Drop for PoisonsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}
