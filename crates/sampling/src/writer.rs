//! The thread that writes the log: many requests, one write.
//!
//! Invariants
//! - R1 Nothing is written behind a write that failed: it would not be found there.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use pharos_base::{Completer, full_message};
use pharos_model::{SpanBatch, TenantId};
use pharos_storage::{AppendOutcome, StorageError};

use crate::SamplingError;
use crate::log::Log;
use crate::sampler::Shared;

/// Bytes that are written together.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// A file of this size that nobody needs is followed by another.
const IDLE_FILE_BYTES: u64 = 256 << 10;

/// A request on its way into the log.
pub(crate) struct Job {
    pub(crate) tenant: TenantId,
    pub(crate) batch: SpanBatch,
    pub(crate) record: Vec<u8>,
    pub(crate) completer: Completer<Result<AppendOutcome, StorageError>>,
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
            let (mut records, mut jobs) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(mut job) = next.take() {
                records.append(&mut job.record);
                jobs.push(job);
                if records.len() < GROUP_BYTES_MAX {
                    next = queue.try_recv().ok();
                }
            }
            self.write(&records, jobs);
            self.shared.queued_bytes.fetch_sub(records.len() as u64, Relaxed);
        }
    }

    fn write(&mut self, records: &[u8], jobs: Vec<Job>) {
        let written = self.append(records);
        if let Err(error) = &written {
            let error = full_message(error);
            tracing::error!(error, "the sampling log cannot be written: spans are refused until it can");
        }
        for job in jobs {
            let answer = match &written {
                Ok(()) => {
                    let items = job.batch.span_count() as u64;
                    self.shared.admit(&job.tenant, job.batch, self.log.number());
                    Ok(AppendOutcome { items, ..AppendOutcome::default() })
                }
                Err(error) => Err(unavailable(&full_message(error))),
            };
            job.completer.complete(answer);
        }
        let bytes = self.log.bytes();
        let is_idle = || bytes >= IDLE_FILE_BYTES && !self.shared.needs(self.log.number());
        if (bytes >= self.shared.log_segment_bytes() || is_idle())
            && let Err(error) = self.go_on_in_next_file()
        {
            // The file grows beyond its size until there is room for another.
            tracing::warn!(error = full_message(&error), "the sampling log cannot go on in a new file");
        }
    }

    fn append(&mut self, records: &[u8]) -> Result<(), SamplingError> {
        if self.is_broken {
            self.go_on_in_next_file()?;
        }
        self.log.append(records).inspect_err(|_| self.is_broken = true)
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
    use crate::sampler::Components;
    use crate::{TailSampler, TailSamplingSettings, log};

    fn write(writer: &mut Writer, body: &[u8]) -> Result<AppendOutcome, StorageError> {
        let (completer, completion) = Completion::pair();
        let mut record = Vec::new();
        log::encode(&TenantId::default(), 0, body, &mut record);
        let job = Job { tenant: TenantId::default(), batch: SpanBatch::default(), record: Vec::new(), completer };
        writer.write(&record, vec![job]);
        completion.wait().unwrap()
    }

    #[test]
    fn after_a_write_that_failed_the_log_goes_on_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let policies = r#"{"enabled": true, "policies": [{"name": "all", "rule": {"type": "always"}}]}"#;
        let settings: TailSamplingSettings = serde_json::from_str(policies).unwrap();
        let components = Components { store: Arc::new(MemoryTraceStore::new()), clock: SimClock::at_ms(0) };
        let sampler = TailSampler::open(folder.path(), settings, components, &|_, _| Ok(SpanBatch::default()));
        let sampler = sampler.unwrap().unwrap();
        let mut writer = Writer::new(sampler.shared(), Log::read_only(folder.path(), 1));
        let refused = write(&mut writer, b"lost").unwrap_err();
        assert!(matches!(refused, StorageError::Unavailable { .. }), "{refused}");
        assert!(write(&mut writer, b"kept").is_ok(), "R1");
        let (records, fault) = log::decode(&log::read(folder.path(), 2).unwrap());
        assert_eq!((records[0].body.as_slice(), fault), (&b"kept"[..], None));
        sampler.close();
    }
}
