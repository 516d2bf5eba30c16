//! What a user tunes.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use pharos_base::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

use crate::TsdbError;
use crate::retention::{Retention, RetentionRule};
use crate::rollup::Resolution;

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// After its log record is synced; appends that wait share one sync. Nothing acknowledged is lost at
    /// power loss.
    #[default]
    Batch,
    /// After its log record is written; a sync follows within this time. A killed process loses nothing,
    /// power loss up to this much.
    Interval(HumanDuration),
}

impl Serialize for SyncPolicy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Batch => serializer.serialize_str("batch"),
            Self::Interval(every) => every.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SyncPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for SyncPolicy {
    type Err = String;

    /// `batch` or a duration above zero.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "batch" {
            return Ok(Self::Batch);
        }
        match text.parse::<HumanDuration>() {
            Ok(every) if every.as_ms() > 0 => Ok(Self::Interval(every)),
            _ => Err(format!("{text:?} is no sync policy: write `batch` or a duration such as 100ms")),
        }
    }
}

impl std::fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Interval(every) => every.fmt(f),
        }
    }
}

/// Settings of the metrics store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When an append is acknowledged: `batch`, or a duration. Default `batch`.
    pub sync: SyncPolicy,
    /// Samples older than this are deleted. Default 30d, minimum 1h.
    pub retention: HumanDuration,
    /// Other retentions for single tenants and series. Of the rules whose matchers fit a series the shortest counts, else
    /// that of its tenant without matchers, else `retention`. Default: none, at most 100.
    pub retention_rules: Vec<RetentionRule>,
    /// Parts on disk take at most this much; the oldest are deleted first. Default: no limit.
    pub retention_size: Option<ByteSize>,
    /// What merged parts of 8 hours and more are rolled up to, beside their samples: `5m`, `1h`. Queries use it where the
    /// answer is the same to the bit. Default: nothing.
    pub downsampling: Vec<Resolution>,
    /// Merging in the background reads and writes at most this much per second. Default 64MiB, minimum 1MiB, null: no limit.
    pub merge_rate_max: Option<ByteSize>,
    /// The head is flushed at the latest after this time. Default 2h, minimum 1s.
    pub flush_interval: HumanDuration,
    /// Samples and exemplars of the head take at most about this much, or 256 bytes for each series where that is
    /// more (parts of few samples a series cost more than they free); above it they are flushed, at half as much again
    /// writers are kept waiting and at twice as much refused until a flush is done. Default 48MiB, minimum 1MiB.
    pub head_memory_max: ByteSize,
    /// Everything the head holds takes at most about this much: half may be series, above which new ones are
    /// refused, a quarter samples, the rest samples that a flush brings to parts. Default 2GiB, minimum four times
    /// `head_memory_max`.
    pub head_memory_limit: ByteSize,
    /// The log is flushed away when it is larger; at twice as much writes are refused until a flush is done. Bounds the
    /// time of recovery. Default 512MiB, minimum 1MiB.
    pub log_size_max: ByteSize,
    /// Size at which a log segment is closed and the next one begun. Default 128MiB, minimum 64KiB.
    pub log_segment_size: ByteSize,
    /// Batches that wait for the log take at most this much, and one batch more, so that a large one waits its turn as others do;
    /// then they are refused. Writers are kept waiting above a quarter of it. Default 16MiB, minimum 1MiB.
    pub queue_memory_max: ByteSize,
    /// Series of one tenant that may be active; samples of further ones are refused. Default: no limit.
    pub series_max_per_tenant: Option<NonZeroU64>,
    /// Tenants that may have samples; those of further ones are refused, so that nobody who may write for any tenant makes up more than
    /// the server has folders and memory for. Default 10000.
    pub tenants_max: NonZeroUsize,
    /// Exemplars of one tenant kept between two flushes; the oldest go first. Default 100000.
    pub exemplars_max: usize,
    /// Metric families of one tenant whose metadata is kept. Default 100000.
    pub metadata_max: usize,
    /// Decoded blocks of the samples' side of all parts kept in memory (chunk headers, instants, newest samples) take
    /// at most this much. Default 32MiB; `0B` keeps none.
    pub data_cache_max: ByteSize,
    /// Decoded blocks of the indexes of all parts kept in memory take at most this much. Default 32MiB; `0B` keeps none.
    pub index_cache_max: ByteSize,
    /// Writes are refused while the disk has less free space than this. Default 64MiB; `0B` turns it off.
    pub disk_free_min: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Batch,
            retention: HumanDuration::from_ms(30 * 86_400_000),
            retention_rules: Vec::new(),
            retention_size: None,
            downsampling: Vec::new(),
            merge_rate_max: Some(ByteSize::mib(64)),
            flush_interval: HumanDuration::from_ms(2 * 3_600_000),
            head_memory_max: ByteSize::mib(48),
            head_memory_limit: ByteSize::mib(2048),
            log_size_max: ByteSize::mib(512),
            log_segment_size: ByteSize::mib(128),
            queue_memory_max: ByteSize::mib(16),
            series_max_per_tenant: None,
            tenants_max: NonZeroUsize::new(10_000).expect("it is not 0"),
            exemplars_max: 100_000,
            metadata_max: 100_000,
            data_cache_max: ByteSize::mib(32),
            index_cache_max: ByteSize::mib(32),
            disk_free_min: ByteSize::mib(64),
        }
    }
}

/// Bytes of samples per series below which a flush is not worth its parts.
const FLUSH_SERIES_BYTES: u64 = 256;

impl Settings {
    /// Bytes of samples at which a head of so many series is flushed.
    pub(crate) fn flush_at(&self, series: u64) -> u64 {
        let worth_it = self.head_memory_max.0.max(series.saturating_mul(FLUSH_SERIES_BYTES));
        worth_it.min(self.head_memory_limit.0 / 4)
    }

    /// Bytes that the series of all heads may take.
    pub(crate) fn series_memory_max(&self) -> u64 {
        self.head_memory_limit.0 / 2
    }

    /// Small and quick, for tests of any crate.
    #[must_use]
    pub fn for_tests() -> Self {
        Self {
            disk_free_min: ByteSize(0),
            merge_rate_max: None,
            retention: HumanDuration::from_ms(400 * 365 * 86_400_000),
            ..Self::default()
        }
    }

    /// Checks every minimum.
    ///
    /// # Errors
    /// [`TsdbError::Settings`] with the first setting below its minimum.
    pub fn check(&self) -> Result<(), TsdbError> {
        let durations = [
            ("retention", self.retention, Duration::from_hours(1)),
            ("flush_interval", self.flush_interval, Duration::from_secs(1)),
        ];
        for (setting, value, min) in durations {
            if value.0 < min {
                return Err(TsdbError::Settings {
                    setting,
                    reason: format!("{value} is below the minimum {}", HumanDuration(min)),
                });
            }
        }
        if self.head_memory_limit.0 / 4 < self.head_memory_max.0 {
            let reason =
                format!("{} is below four times head_memory_max, {}", self.head_memory_limit, self.head_memory_max);
            return Err(TsdbError::Settings { setting: "head_memory_limit", reason });
        }
        let sizes = [
            ("head_memory_max", self.head_memory_max, ByteSize::mib(1)),
            ("log_size_max", self.log_size_max, ByteSize::mib(1)),
            ("log_segment_size", self.log_segment_size, ByteSize(64 << 10)),
            ("queue_memory_max", self.queue_memory_max, ByteSize::mib(1)),
        ];
        if self.downsampling.iter().enumerate().any(|(at, one)| self.downsampling[..at].contains(one)) {
            let reason = "it names a resolution twice".to_owned();
            return Err(TsdbError::Settings { setting: "downsampling", reason });
        }
        let rate = self.merge_rate_max.map(|rate| ("merge_rate_max", rate, ByteSize::mib(1)));
        for (setting, value, min) in sizes.into_iter().chain(rate) {
            if value < min {
                return Err(TsdbError::Settings { setting, reason: format!("{value} is below the minimum {min}") });
            }
        }
        Retention::build(self.retention, &self.retention_rules).map(|_| ())
    }

    /// The longest time that any sample is kept: older ones need not be taken.
    #[must_use]
    pub fn retention_longest(&self) -> HumanDuration {
        let rules = self.retention_rules.iter().map(|rule| rule.keep);
        rules.fold(self.retention, |longest, keep| if keep.0 > longest.0 { keep } else { longest })
    }
}
