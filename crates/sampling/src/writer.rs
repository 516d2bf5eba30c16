//! The thread that writes the log: many requests, one write.
//!
//! Invariants
//! - R1 Nothing is written behind a write that failed: a write that succeeds is in a file that has no such place.
//! - R2 Spans are admitted, and traces deleted, in the order in which the log has them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use pharos_base::{Completer, full_message};
use pharos_model::{SpanBatch, TenantId, TraceId};
use pharos_storage::{AppendOutcome, Rejection, StorageError};

use crate::SamplingError;
use crate::log::Log;
use crate::record::{Fate, Judgement, Position, encode_judgements};
use crate::shared::Shared;

/// Bytes that are written together.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// A file of this size that nobody needs is followed by another.
const IDLE_FILE_BYTES: u64 = 256 << 10;

/// What is to be written.
pub(crate) enum Job {
    /// A request. Its spans are admitted when it is on disk.
    Request {
        tenant: TenantId,
        batch: SpanBatch,
        record: Vec<u8>,
        /// What of it the store would not take; is no part of the batch.
        rejections: Vec<Rejection>,
        completer: Completer<Result<AppendOutcome, StorageError>>,
    },
    /// What became of traces.
    Judgements { record: Vec<u8>, completer: Completer<Result<(), StorageError>> },
    /// A trace goes with all its spans so far.
    Deletion { tenant: TenantId, trace_id: TraceId, completer: Completer<Result<(), StorageError>> },
}

impl Job {
    pub(crate) fn record_bytes(&self) -> usize {
        match self {
            Self::Request { record, .. } | Self::Judgements { record, .. } => record.len(),
            Self::Deletion { .. } => 0,
        }
    }
}

pub(crate) fn unavailable(reason: &str) -> StorageError {
    StorageError::Unavailable { reason: reason.to_owned(), retry_after: Some(Duration::from_secs(1)) }
}

/// The thread's state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    /// Whether the last write to `log` failed.
    is_broken: bool,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Self {
        Self { shared, log, is_broken: false }
    }

    /// Writes until the other end of `queue` is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let (mut bytes, mut jobs) = (0, Vec::new());
            let mut next = Some(first);
            while let Some(job) = next.take() {
                bytes += job.record_bytes();
                jobs.push(job);
                if bytes < GROUP_BYTES_MAX {
                    next = queue.try_recv().ok();
                }
            }
            self.write(jobs);
            self.shared.queued_bytes.fetch_sub(bytes as u64, Relaxed);
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let written = self.append(&jobs);
        self.shared.log_fails.store(written.is_err(), Relaxed);
        // Whoever waits for these looks next for files that nobody needs: the one that is full shall be among them.
        let mut judgements = Vec::new();
        match written {
            Ok(positions) => {
                for (job, at) in jobs.into_iter().zip(positions) {
                    match job {
                        Job::Judgements { completer, .. } => judgements.push(completer),
                        job => self.is_written(job, at),
                    }
                }
            }
            Err(error) => {
                let error = full_message(&error);
                tracing::error!(error, "the sampling log cannot be written: spans are refused until it can");
                for job in jobs {
                    let refusal = unavailable(&format!("the sampling log cannot be written: {error}"));
                    match job {
                        Job::Request { completer, .. } => completer.complete(Err(refusal)),
                        Job::Judgements { completer, .. } | Job::Deletion { completer, .. } => {
                            completer.complete(Err(refusal));
                        }
                    }
                }
            }
        }
        let bytes = self.log.bytes();
        let is_idle = || bytes >= IDLE_FILE_BYTES && !self.shared.needs(self.log.number());
        if !self.is_broken
            && (bytes >= self.shared.log_segment_bytes() || is_idle())
            && let Err(error) = self.go_on_in_next_file()
        {
            // The file grows beyond its size until there is room for another.
            tracing::warn!(error = full_message(&error), "the sampling log cannot go on in a new file");
        }
        for completer in judgements {
            completer.complete(Ok(()));
        }
    }

    fn is_written(&self, job: Job, at: Position) {
        match job {
            Job::Request { tenant, batch, rejections, completer, .. } => {
                let items = batch.span_count() as u64;
                self.shared.admit(&tenant, batch, at, self.shared.deadline());
                completer.complete(Ok(AppendOutcome { items, rejections, ..AppendOutcome::default() }));
            }
            Job::Judgements { completer, .. } => completer.complete(Ok(())),
            Job::Deletion { tenant, trace_id, completer } => {
                self.shared.is_deleted(&tenant, trace_id, at);
                completer.complete(Ok(()));
            }
        }
    }

    /// Brings the records of all jobs to disk; says where each is.
    fn append(&mut self, jobs: &[Job]) -> Result<Vec<Position>, SamplingError> {
        if self.is_broken {
            self.go_on_in_next_file()?;
        }
        let (mut records, mut positions) = (Vec::new(), Vec::new());
        for job in jobs {
            let at = Position { file: self.log.number(), offset: self.log.bytes() + records.len() as u64 };
            positions.push(at);
            match job {
                Job::Request { record, .. } | Job::Judgements { record, .. } => records.extend_from_slice(record),
                Job::Deletion { tenant, trace_id, .. } => {
                    let (tenant, trace_id) = (tenant.clone(), *trace_id);
                    let deletion = Judgement { tenant, trace_id, up_to: at, fate: Fate::Deleted };
                    encode_judgements(&[deletion], &mut records);
                }
            }
        }
        self.log.append(&records).inspect_err(|_| self.is_broken = true)?;
        Ok(positions)
    }

    fn go_on_in_next_file(&mut self) -> Result<(), SamplingError> {
        self.log = self.log.next()?;
        self.is_broken = false;
        self.shared.goes_on_in(self.log.number());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pharos_base::{Completion, SimClock};
    use pharos_storage::memory::MemoryTraceStore;

    use super::*;
    use crate::record::{Request, encode_request};
    use crate::{Components, TailSampler, TailSamplingSettings, log, record};

    fn write(writer: &mut Writer, body: &[u8]) -> Result<AppendOutcome, StorageError> {
        let (completer, completion) = Completion::pair();
        let (mut record, tenant) = (Vec::new(), TenantId::default());
        let request = Request { tenant: tenant.clone(), received_at_ms: 0, span_count: 0, form: 0, body };
        encode_request(&request, &mut record).unwrap();
        writer.write(vec![Job::Request {
            tenant,
            batch: SpanBatch::default(),
            record,
            rejections: Vec::new(),
            completer,
        }]);
        completion.wait().unwrap()
    }

    /// A disk that was full leaves half of a record, and half of the file that was begun next.
    #[test]
    fn after_writes_that_failed_the_log_goes_on_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let policies = r#"{"enabled": true, "policies": [{"name": "all", "rule": {"type": "always"}}]}"#;
        let settings: TailSamplingSettings = serde_json::from_str(policies).unwrap();
        let components = Components {
            store: Arc::new(MemoryTraceStore::new()),
            clock: SimClock::at_ms(0),
            decode: Arc::new(|_, _| Ok(SpanBatch::default())),
        };
        let sampler = TailSampler::open(folder.path(), settings, components).unwrap().unwrap();
        let mut writer = Writer::new(sampler.shared(), Log::read_only(folder.path(), 1));
        std::fs::create_dir(log::path_of(folder.path(), 2)).unwrap();
        for _ in 0..2 {
            let refused = write(&mut writer, b"lost").unwrap_err();
            assert!(matches!(refused, StorageError::Unavailable { .. }), "{refused}");
            assert!(sampler.refusal().unwrap().contains("log"), "R1, and it is told");
        }
        std::fs::remove_dir(log::path_of(folder.path(), 2)).unwrap();
        std::fs::write(log::path_of(folder.path(), 2), b"PHSM").unwrap();
        write(&mut writer, b"kept").unwrap();
        assert_eq!(sampler.refusal(), None);
        let bytes = log::read(folder.path(), 2).unwrap();
        let contents = record::decode(&bytes).unwrap();
        let record::Record::Request(request) = &contents.records[0].1 else { panic!("{contents:?}") };
        assert_eq!((request.body, contents.fault), (&b"kept"[..], None));
        sampler.close();
    }
}
