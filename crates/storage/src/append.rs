//! What an append is called and what it answers.

use std::fmt;

use pharos_base::random_bytes;

/// Names one batch, so that a retry by our own code can be recognized and traced. Clients' retries come with a
/// new id and are harmless by rule S2. Engines may ignore it: the embedded ones deduplicate by content, and one
/// that joins batches to larger inserts names those.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId(pub u128);

impl BatchId {
    /// A new, unique id.
    #[must_use]
    pub fn random() -> Self {
        Self(u128::from_le_bytes(random_bytes()))
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Why a part of a batch was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Older than retention keeps.
    TooOld,
    /// Too far in the future.
    TooNew,
    /// Labels break a rule.
    InvalidLabels,
    /// A histogram breaks a rule.
    InvalidHistogram,
    /// A span breaks a rule.
    InvalidSpan,
    /// Its kind is not supported.
    Unsupported,
    /// The tenant's limit of active series is reached.
    SeriesLimit,
    /// Another limit with a name is reached.
    Limit,
}

impl RejectReason {
    /// The reason as a label value of our own metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::InvalidLabels => "invalid_labels",
            Self::InvalidHistogram => "invalid_histogram",
            Self::InvalidSpan => "invalid_span",
            Self::Unsupported => "unsupported",
            Self::SeriesLimit => "series_limit",
            Self::Limit => "limit",
        }
    }
}

/// Items of a batch that were not stored, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// How many items: samples, points of the sender's, or spans. 0 if nothing of what was sent is lost, only what was made of it.
    pub count: u64,
    /// In words for the sender, with one example.
    pub message: String,
}

/// What an append did; everything not rejected is durable and visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Float samples stored or already there; for traces, spans.
    pub items: u64,
    /// Native histograms stored or already there.
    pub histograms: u64,
    /// Exemplars stored or already there.
    pub exemplars: u64,
    /// What was not stored.
    pub rejections: Vec<Rejection>,
    /// Which runs of a batch of samples were not stored, by their places in [`MetricBatch::series`](pharos_model::MetricBatch::series),
    /// ascending.
    pub refused_runs: Vec<usize>,
}

impl AppendOutcome {
    /// Items not stored.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejections.iter().map(|rejection| rejection.count).sum()
    }

    /// Adds a rejection, joining it with one of the same reason.
    pub fn reject(&mut self, reason: RejectReason, count: u64, message: impl FnOnce() -> String) {
        match self.rejections.iter_mut().find(|rejection| rejection.reason == reason) {
            Some(rejection) => rejection.count += count,
            None => self.rejections.push(Rejection { reason, count, message: message() }),
        }
    }
}
