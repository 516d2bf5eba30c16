//! Judging traces whose time has come, and handing on what is kept. Done by whoever calls [`TailSampler::step`], one at a time.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use pharos_base::{Completion, full_message};
use pharos_model::{SpanBatch, SpanGroup, TenantId};
use pharos_storage::{BatchId, StorageError};

use crate::policy::Policies;
use crate::record::{Judgement, Position, Record, Request, encode_judgements};
use crate::replay::decode;
use crate::sampler::TailSampler;
use crate::shared::Shared;
use crate::trace::span_bytes;
use crate::waiting::Room;
use crate::writer::{Job, unavailable};
use crate::{SamplingError, log};

/// Spans handed to the store at a time.
const HANDED_SPANS_MAX: usize = 8_192;
/// Memory of these; a trace that takes more goes in pieces.
const HANDED_BYTES_MAX: usize = 32 << 20;
/// Traces judged while the lock is held.
const JUDGED_TOGETHER: usize = 64;
/// Judgements in one record of the log.
const LOGGED_TOGETHER: usize = 16_384;

/// What whoever judges remembers.
pub(crate) struct Judging {
    pub(crate) policies: Policies,
    /// The log of the last run, as far as it has not been read yet.
    pub(crate) reading: Option<Reading>,
}

/// Files of the log that are still to be read.
pub(crate) struct Reading {
    pub(crate) files: VecDeque<u64>,
    /// Where in the first of them.
    pub(crate) offset: u64,
    /// When the last request in them came, Unix milliseconds.
    pub(crate) last_received_at_ms: i64,
}

impl TailSampler {
    /// Reads on in the log of the last run while there is room for its spans.
    pub(crate) fn read_on(&self, judging: &mut Judging) -> Result<(), SamplingError> {
        let Some(reading) = &mut judging.reading else { return Ok(()) };
        let shared = &self.shared;
        while let Some(&file) = reading.files.front() {
            if let Some((unread, _)) = &mut shared.state.lock().unread {
                *unread = file;
            }
            let bytes = log::read(&shared.folder, file)?;
            for (offset, record) in decode(&shared.folder, file, &bytes)?.records {
                let Record::Request(request) = record else { continue };
                if offset < reading.offset {
                    continue;
                }
                reading.offset = offset;
                let is_full = || shared.held_bytes() >= 2 * shared.memory_max();
                if is_full() {
                    self.settle(&mut judging.policies);
                    if is_full() {
                        tracing::warn!(file, "the trace store takes nothing: the sampling log is read on when it does");
                        return Ok(());
                    }
                }
                shared.read_request(&request, Position { file, offset }, reading.last_received_at_ms);
            }
            reading.files.pop_front();
            reading.offset = 0;
            self.settle(&mut judging.policies);
        }
        judging.reading = None;
        shared.state.lock().unread = None;
        shared.is_reading.store(false, Relaxed);
        Ok(())
    }

    /// Judges and hands on until nothing is due; false if the store does not take anything now. What is kept stays then, in
    /// memory and in the log.
    pub(crate) fn settle(&self, policies: &mut Policies) -> bool {
        loop {
            if !self.hand_on() {
                return false;
            }
            if !self.shared.judge(policies) {
                return true;
            }
        }
    }

    /// Hands to the store what is kept, and what is dropped for its calls to be counted, in turns of tenants; false if it does not
    /// take it.
    fn hand_on(&self) -> bool {
        loop {
            let tenants: Vec<_> = self.shared.state.lock().kept.keys().cloned().collect();
            if tenants.is_empty() {
                return true;
            }
            if !tenants.iter().all(|tenant| self.hand_on_of(tenant)) {
                return false;
            }
        }
    }

    fn hand_on_of(&self, tenant: &TenantId) -> bool {
        let _handing = self.shared.handing.lock();
        let (groups, dropped, count) = {
            let state = self.shared.state.lock();
            let Some(queue) = state.kept.get(tenant) else { return true };
            let (mut spans, mut bytes) = (0, 0);
            let together = queue.traces.iter().take_while(|kept| {
                let fits = spans < HANDED_SPANS_MAX && bytes < HANDED_BYTES_MAX;
                spans += kept.trace.span_count;
                bytes += kept.trace.bytes;
                fits
            });
            let (mut groups, mut dropped, mut count) = (Vec::new(), Vec::new(), 0);
            for kept in together {
                count += 1;
                let of_fate = if kept.decision.is_some() { &mut groups } else { &mut dropped };
                of_fate.extend(kept.groups());
            }
            (groups, dropped, count)
        };
        // A judgement is in the log before anyone may see what came of it: the next start must not judge otherwise. Those of
        // all that was just taken are known by now.
        self.log_judgements();
        for batch in pieces(groups) {
            match self.shared.components.store.append(tenant, batch, BatchId::random()).wait() {
                Some(Ok(outcome)) => self.shared.count_rejected(tenant, outcome.rejected(), || {
                    outcome.rejections.first().map_or_else(String::new, |rejection| rejection.message.clone())
                }),
                Some(Err(error)) => {
                    self.shared.counts.store_failures.fetch_add(1, Relaxed);
                    let error = error.full_message();
                    tracing::warn!(%tenant, error, "the trace store did not take sampled traces; they are offered again");
                    return false;
                }
                None => return false,
            }
        }
        if !dropped.is_empty() && !self.count_calls(tenant, &SpanBatch { groups: dropped }) {
            return false;
        }
        self.shared.state.lock().stored(tenant, count);
        true
    }

    /// Has the store count the calls of spans that are dropped, as dependencies tell of all spans that came; false if it does
    /// not now.
    fn count_calls(&self, tenant: &TenantId, batch: &SpanBatch) -> bool {
        match self.shared.components.store.count_calls(tenant, batch).wait() {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                self.shared.counts.store_failures.fetch_add(1, Relaxed);
                let goes_on = !matches!(error, StorageError::Unavailable { .. });
                let error = error.full_message();
                tracing::warn!(%tenant, error, "the trace store did not count calls of traces that are dropped");
                goes_on
            }
            None => false,
        }
    }

    /// Writes down what became of traces. Where that fails they go their way all the same, which is what makes room in a log
    /// that has filled the disk; it is tried again, and a crash before that has them judged anew.
    pub(crate) fn log_judgements(&self) {
        let judgements = std::mem::take(&mut self.shared.state.lock().unlogged);
        // After a failure an empty record finds out whether the log can be written again.
        if judgements.is_empty() && !self.shared.log_fails.load(Relaxed) {
            return;
        }
        let mut record = Vec::new();
        let judgements = Vec::from(judgements);
        if judgements.is_empty() {
            encode_judgements(&[], &mut record);
        }
        for some in judgements.chunks(LOGGED_TOGETHER) {
            encode_judgements(some, &mut record);
        }
        if let Err(error) = self.write(|completer| Job::Judgements { record, completer }) {
            tracing::warn!(
                error = full_message(&error),
                "judgements are not in the sampling log; they are written later"
            );
            self.shared.unlogged_again(judgements);
        }
    }

    /// Sends a job to the writer and waits for it.
    pub(crate) fn write(
        &self,
        job: impl FnOnce(pharos_base::Completer<Result<(), StorageError>>) -> Job,
    ) -> Result<(), StorageError> {
        let sender: Option<SyncSender<Job>> = self.queue.lock().clone();
        let sender = sender.ok_or_else(|| unavailable("stopping"))?;
        let (completer, completion) = Completion::pair();
        let job = job(completer);
        self.shared.queued_bytes.fetch_add(job.record_bytes() as u64, Relaxed);
        let broken = || unavailable("the thread of the sampling log has ended");
        sender.send(job).map_err(|_| broken())?;
        completion.wait().unwrap_or_else(|| Err(broken()))
    }

    /// Removes files of the log that nobody needs.
    pub(crate) fn trim(&self) {
        let shared = &self.shared;
        let needed_from = {
            let state = shared.state.lock();
            let unread = state.unread.as_ref().map_or(state.file, |(unread, _)| *unread);
            state.waiting.first_needed().unwrap_or(u64::MAX).min(unread).min(state.file)
        };
        let goes = |file: u64| {
            let is_damaged = shared.state.lock().damaged.contains(&file);
            if is_damaged { log::set_aside(&shared.folder, file) } else { log::remove(&shared.folder, file) }
        };
        let removed = log::files(&shared.folder)
            .and_then(|files| files.into_iter().take_while(|file| *file < needed_from).try_for_each(goes))
            .and_then(|()| log::damaged_files(&shared.folder));
        match removed {
            Ok(set_aside) => {
                let mut state = shared.state.lock();
                state.damaged.retain(|file| *file >= needed_from);
                shared.counts.damaged_files.store((set_aside.len() + state.damaged.len()) as u64, Relaxed);
            }
            Err(error) => tracing::warn!(error = full_message(&error), "the sampling log cannot be trimmed"),
        }
    }
}

impl Shared {
    /// Judges some traces; false if there are no more whose time has come.
    fn judge(&self, policies: &mut Policies) -> bool {
        let now = self.components.clock.monotonic();
        let room = Room { traces_max: self.settings.traces_max, bytes_max: self.memory_max() };
        let mut spans = 0;
        while spans < HANDED_SPANS_MAX {
            let mut state = self.state.lock();
            for _ in 0..JUDGED_TOGETHER {
                let Some((key, trace, is_early)) = state.waiting.pop(now, room) else { return spans > 0 };
                self.counts.early.fetch_add(u64::from(is_early), Relaxed);
                spans += trace.span_count;
                let decision = policies.decide(&trace, now);
                self.decided(&mut state, key, trace, decision);
            }
        }
        true
    }

    /// Takes up a request of the log.
    fn read_request(&self, request: &Request<'_>, at: Position, last_received_at_ms: i64) {
        let Request { tenant, span_count, received_at_ms, form, body } = request;
        let mut batch = match (self.components.decode)(*form, body) {
            Ok(batch) => batch,
            Err(error) => {
                self.state.lock().damaged.insert(at.file);
                tracing::error!(%tenant, error, "a request in the sampling log cannot be read any more");
                SpanBatch::default()
            }
        };
        let rejections = self.components.store.screen(tenant, &mut batch);
        let missing = u64::from(*span_count).saturating_sub(batch.span_count() as u64);
        self.count_rejected(tenant, missing, || {
            rejections.first().map_or_else(|| "it cannot be read".to_owned(), |rejection| rejection.message.clone())
        });
        // What came before the last request has waited since; that the process was down is no reason to wait less.
        let waited_ms = last_received_at_ms.saturating_sub(*received_at_ms).max(0);
        let waited = Duration::from_millis(waited_ms.unsigned_abs()).min(self.wait());
        let deadline = self.components.clock.monotonic() + self.wait().saturating_sub(waited);
        self.admit(tenant, batch, at, deadline);
    }

    /// Spans are lost that were acknowledged: the store says why.
    fn count_rejected(&self, tenant: &TenantId, count: u64, reason: impl FnOnce() -> String) {
        if count > 0 {
            self.counts.rejected.fetch_add(count, Relaxed);
            tracing::warn!(%tenant, spans = count, reason = reason(), "acknowledged spans are not stored");
        }
    }

    /// What could not be written comes first at the next attempt; beyond what late spans may ask for, the oldest go.
    fn unlogged_again(&self, judgements: Vec<Judgement>) {
        let mut state = self.state.lock();
        let newer = std::mem::replace(&mut state.unlogged, judgements.into());
        state.unlogged.extend(newer);
        let surplus = state.unlogged.len().saturating_sub(self.settings.decisions_max);
        state.unlogged.drain(..surplus);
    }
}

/// Groups in batches of about [`HANDED_BYTES_MAX`].
fn pieces(groups: Vec<SpanGroup>) -> Vec<SpanBatch> {
    let (mut done, mut batch, mut bytes) = (Vec::new(), SpanBatch::default(), 0);
    for SpanGroup { resource, scope, spans } in groups {
        let mut piece = SpanGroup { resource, scope, spans: Vec::new() };
        for span in spans {
            bytes += span_bytes(&span);
            piece.spans.push(span);
            if bytes >= HANDED_BYTES_MAX {
                let (resource, scope) = (piece.resource.clone(), piece.scope.clone());
                batch.groups.push(std::mem::replace(&mut piece, SpanGroup { resource, scope, spans: Vec::new() }));
                done.push(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
        if !piece.spans.is_empty() {
            batch.groups.push(piece);
        }
    }
    if !batch.groups.is_empty() {
        done.push(batch);
    }
    done
}
