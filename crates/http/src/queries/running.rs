//! One query under way.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pharos_base::{CancelToken, Clock, ErrorClass, HumanDuration, SystemClock};
use pharos_model::TenantId;
use tokio::sync::Notify;

use super::{Queries, QueryKind, QueryLimits, TEXT_BYTES_MAX};
use crate::Refusal;

/// What was asked, and by whom.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which question.
    pub kind: QueryKind,
    /// Its text: the expression, or the selectors. Use [`Asked::cut`] on what clients send.
    pub text: String,
    /// First and last evaluation time and the step, or start and end of a listing; Unix milliseconds.
    pub steps: Option<(i64, i64, i64)>,
    /// Whose data.
    pub tenant: TenantId,
    /// The name of the credential.
    pub principal: Arc<str>,
    /// From where, as far as it is known.
    pub remote_address: String,
    /// When its client wants it to end at the latest, the wait for its turn included.
    pub deadline: Option<Instant>,
    /// What its tenant or credential may.
    pub limits: QueryLimits,
}

impl Asked {
    /// `text`, cut to [`TEXT_BYTES_MAX`].
    #[must_use]
    pub fn cut(text: &str) -> String {
        if text.len() <= TEXT_BYTES_MAX {
            return text.to_owned();
        }
        format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
    }

    /// How long a time is asked for, whole seconds.
    #[must_use]
    pub fn range_seconds(&self) -> u64 {
        let (start_ms, end_ms, _) = self.steps.unwrap_or_default();
        end_ms.saturating_sub(start_ms).max(0).unsigned_abs() / 1_000
    }
}

/// What a query holds and has read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryLoad {
    /// Bytes held now.
    pub memory_bytes: u64,
    /// The most bytes held at once.
    pub memory_bytes_peak: u64,
    /// Samples held now.
    pub samples_held: u64,
    /// Samples read from the store.
    pub samples_read: u64,
    /// Series read from the store.
    pub series_read: u64,
    /// Of one that failed for a limit, its time, or its client: how long it went on after that was so.
    pub refusal: Option<Duration>,
}

/// Tells what a query holds, while it runs and after its end.
pub trait Watched: Send + Sync {
    /// What it holds now.
    fn load(&self) -> QueryLoad;
}

/// Not started yet.
const WAITING: u64 = u64::MAX;

/// A query under way. It ends with [`RunningQuery::finish`], or as cancelled when its last handle is dropped.
pub struct RunningQuery {
    id: u64,
    asked: Asked,
    begun_at: Instant,
    /// Nanoseconds it waited for its turn, or [`WAITING`].
    queued_ns: AtomicU64,
    cancel: CancelToken,
    /// Wakes it while it waits for its turn.
    cancel_told: Notify,
    cancelled_by: OnceLock<String>,
    cache: OnceLock<&'static str>,
    load: Arc<dyn Watched>,
    has_ended: AtomicBool,
    queries: Queries,
}

impl RunningQuery {
    pub(super) fn new(id: u64, asked: Asked, load: Arc<dyn Watched>, queries: Queries) -> Self {
        let begun_at = SystemClock.monotonic();
        let own_deadline = asked.limits.timeout.map(|timeout| begun_at + timeout);
        let deadline = [asked.deadline, own_deadline].into_iter().flatten().min();
        let cancel = deadline.map_or_else(CancelToken::new, CancelToken::with_deadline);
        Self {
            id,
            asked,
            begun_at,
            queued_ns: AtomicU64::new(WAITING),
            cancel,
            cancel_told: Notify::new(),
            cancelled_by: OnceLock::new(),
            cache: OnceLock::new(),
            load,
            has_ended: AtomicBool::new(false),
            queries,
        }
    }

    /// Its number, unique in this process and not used by one before it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its number as it is shown: 16 hexadecimal digits.
    #[must_use]
    pub fn id_text(&self) -> String {
        format!("{:016X}", self.id)
    }

    /// What was asked.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// When it arrived.
    #[must_use]
    pub fn begun_at(&self) -> Instant {
        self.begun_at
    }

    /// How long ago it arrived.
    #[must_use]
    pub fn running_for(&self) -> Duration {
        SystemClock.monotonic() - self.begun_at
    }

    /// How long it waited for its turn, so far or in all.
    #[must_use]
    pub fn queued_for(&self) -> Duration {
        match self.queued_ns.load(Ordering::Relaxed) {
            WAITING => self.running_for(),
            ns => Duration::from_nanos(ns),
        }
    }

    /// Whether it still waits for its turn.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.queued_ns.load(Ordering::Relaxed) == WAITING
    }

    /// What it holds now.
    #[must_use]
    pub fn load(&self) -> QueryLoad {
        self.load.load()
    }

    /// What its work has to look at.
    #[must_use]
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Who ended it from outside, if anyone did.
    #[must_use]
    pub fn cancelled_by(&self) -> Option<&str> {
        self.cancelled_by.get().map(String::as_str)
    }

    /// A refusal as its client reads it: who ended it, or which limit of its tenant or credential it met.
    #[must_use]
    pub fn explain(&self, refusal: Refusal) -> Refusal {
        match (refusal.class(), self.cancelled_by(), self.asked.limits.timeout) {
            (ErrorClass::Cancelled, Some(by), _) => refusal.with_message(format!("query was canceled by {by:?}")),
            (ErrorClass::Timeout, _, Some(limit)) if self.running_for() >= limit => refusal.with_message(format!(
                "query timed out: it took longer than limits.query_timeout = {} of its tenant or credential; narrow the selection or the time range, or raise it",
                HumanDuration(limit)
            )),
            _ => refusal,
        }
    }

    /// What a cache of answers did for it, in one word.
    #[must_use]
    pub fn cache(&self) -> &'static str {
        self.cache.get().copied().unwrap_or("off")
    }

    /// Notes what a cache of answers did for it.
    pub fn note_cache(&self, word: &'static str) {
        let _ = self.cache.set(word);
    }

    /// Notes that its turn has come; once more if it is run again.
    pub fn starts(&self) {
        let ns = u64::try_from(self.running_for().as_nanos()).unwrap_or(WAITING - 1);
        self.queued_ns.store(ns, Ordering::Relaxed);
    }

    pub(super) fn cancel_for(&self, by: &str) {
        let _ = self.cancelled_by.set(by.to_owned());
        self.cancel.cancel();
        self.cancel_told.notify_one();
    }

    /// Ends when somebody ended the query from outside.
    pub(crate) async fn cancelled(&self) {
        self.cancel_told.notified().await;
    }

    /// Ends it: well, or with a failure of this class. What comes after the first time is ignored.
    pub fn finish(&self, failed: Option<ErrorClass>) {
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            self.queries.ended(self, failed);
        }
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.finish(Some(ErrorClass::Cancelled));
    }
}

impl fmt::Debug for RunningQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningQuery").field("id", &self.id).field("asked", &self.asked).finish_non_exhaustive()
    }
}
