//! The log read again at a start: first what became of traces, then the requests, so far as their spans still wait.
//!
//! Invariants
//! - E1 A file is left as it is while anyone needs it, whatever is wrong with it: the next start reads it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use hashbrown::HashMap;
use pharos_model::{TenantId, TraceId};

use crate::policy::Decision;
use crate::record::{self, Fate, Fault, Judgement, Position, Record};
use crate::waiting::Key;
use crate::{SamplingError, log};

/// What became of spans of a trace before the start.
#[derive(Debug, Clone, Default)]
struct Past {
    /// Up to here they were stored or deleted.
    settled: Option<Position>,
    /// Up to each place, from the one before on, it was judged so; ascending.
    judged: Vec<(Position, Decision)>,
}

/// What is known of the traces in a log before its requests are read.
#[derive(Debug, Default)]
pub(crate) struct Pasts {
    of: HashMap<TenantId, HashMap<TraceId, Past>>,
}

/// Where a span of the log goes at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nowhere: it was stored, dropped or deleted.
    Settled,
    /// To the store.
    Kept(u64),
    /// Nothing became of it yet.
    Open,
}

impl Pasts {
    fn note(&mut self, judgement: &Judgement) {
        let past = self.of.entry_ref(&judgement.tenant).or_default().entry(judgement.trace_id).or_default();
        let decision = match judgement.fate {
            Fate::Kept(threshold) => Some(threshold),
            Fate::Dropped => None,
            Fate::Stored | Fate::Deleted => {
                past.settled = past.settled.max(Some(judgement.up_to));
                return;
            }
        };
        match past.judged.last_mut() {
            Some((up_to, last)) if *last == decision => *up_to = judgement.up_to,
            _ => past.judged.push((judgement.up_to, decision)),
        }
    }

    /// What becomes of a span that is at `at`.
    pub(crate) fn route(&self, tenant: &TenantId, trace_id: TraceId, at: Position) -> Route {
        let Some(past) = self.of.get(tenant).and_then(|traces| traces.get(&trace_id)) else { return Route::Open };
        if past.settled.is_some_and(|settled| at <= settled) {
            return Route::Settled;
        }
        match past.judged.iter().find(|(up_to, _)| at <= *up_to) {
            Some((_, Some(threshold))) => Route::Kept(*threshold),
            Some((_, None)) => Route::Settled,
            None => Route::Open,
        }
    }

    /// A trace is deleted with all its spans up to `at`.
    pub(crate) fn delete(&mut self, tenant: &TenantId, trace_id: TraceId, at: Position) {
        self.note(&Judgement { tenant: tenant.clone(), trace_id, up_to: at, fate: Fate::Deleted });
    }
}

/// What the first pass over a log finds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) files: VecDeque<u64>,
    /// Those with bytes that are not what was written.
    pub(crate) damaged: BTreeSet<u64>,
    pub(crate) pasts: Pasts,
    /// The last request came then, Unix milliseconds.
    pub(crate) last_received_at_ms: i64,
    /// The number of the next file.
    pub(crate) next_number: u64,
    /// Where the last sound record of the last file ends.
    pub(crate) last_bytes: u64,
    /// Bytes behind that: a write that did not end.
    pub(crate) torn_bytes: u64,
}

impl Survey {
    /// Reads all files for what became of traces. `judged` is told of each, in the order it came to pass; `None`: forget it.
    pub(crate) fn of(folder: &Path, mut judged: impl FnMut(Key, Option<Decision>)) -> Result<Self, SamplingError> {
        let mut files: VecDeque<_> = log::files(folder)?.into();
        let mut survey = Self { last_received_at_ms: i64::MIN, ..Self::default() };
        let (mut sound, mut lengths) = (BTreeMap::new(), BTreeMap::new());
        let (mut faults, mut before) = (BTreeMap::new(), BTreeMap::new());
        for &file in &files {
            let bytes = log::read(folder, file)?;
            let contents = decode(folder, file, &bytes)?;
            sound.insert(file, contents.sound_bytes);
            faults.insert(file, contents.fault);
            before.extend(contents.before_bytes.map(|bytes| (file, bytes)));
            lengths.insert(file, bytes.len() as u64);
            for (_, record) in contents.records {
                match record {
                    Record::Request(request) => {
                        survey.last_received_at_ms = survey.last_received_at_ms.max(request.received_at_ms);
                    }
                    Record::Judgements(judgements) => {
                        for judgement in judgements {
                            survey.pasts.note(&judgement);
                            let decision = match judgement.fate {
                                Fate::Dropped => Some(None),
                                Fate::Kept(threshold) => Some(Some(threshold)),
                                Fate::Deleted => None,
                                Fate::Stored => continue,
                            };
                            judged((judgement.tenant, judgement.trace_id), decision);
                        }
                    }
                }
            }
        }
        let mut unborn = None;
        if let Some(&last) = files.back().filter(|last| sound[*last] == 0) {
            // Its making did not end: it holds nothing, and is made again.
            unborn = Some(last);
            files.pop_back();
        }
        for (at, &file) in files.iter().enumerate() {
            // Of the last one nobody knows how much was acknowledged: a torn end is what a crash leaves.
            let end = files.get(at + 1).map_or(Some(sound[&file]), |next| before.get(next).copied());
            let is_whole = match end {
                Some(end) => faults[&file] != Some(Fault::Damaged) && end <= sound[&file],
                None => faults[&file].is_none(),
            };
            if !is_whole {
                survey.damaged.insert(file);
                tracing::error!(
                    file = %log::path_of(folder, file).display(),
                    "a file of the sampling log is damaged: what is sound in it is read, and it is kept for inspection"
                );
            }
        }
        let highest = files.back().copied().max(log::damaged_files(folder)?.last().copied());
        survey.next_number = unborn.unwrap_or_else(|| highest.map_or(1, |highest| highest + 1));
        if let Some(last) = files.back() {
            survey.last_bytes = sound[last];
            survey.torn_bytes = lengths[last] - sound[last];
        }
        survey.files = files;
        Ok(survey)
    }
}

/// The contents of a file's bytes.
pub(crate) fn decode<'a>(folder: &Path, file: u64, bytes: &'a [u8]) -> Result<record::Contents<'a>, SamplingError> {
    record::decode(bytes).map_err(|_| SamplingError::Version { path: log::path_of(folder, file) })
}
