//! What a user tunes, and what the store is handed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pharos_base::{ByteSize, Clock, HumanDuration};
use pharos_model::TenantId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::TraceStoreError;

/// When an acknowledged batch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Before it is acknowledged; batches that arrive together share one sync. Written `batch`.
    #[default]
    Batch,
    /// At most this long after it is acknowledged: a power loss may cost so much. Written as a duration.
    Interval(HumanDuration),
}

impl Serialize for SyncPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Batch => serializer.serialize_str("batch"),
            Self::Interval(interval) => serializer.serialize_str(&interval.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for SyncPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "batch" => Ok(Self::Batch),
            other => other.parse().map(Self::Interval).map_err(de::Error::custom),
        }
    }
}

/// How long, and how many, of one tenant's spans are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRetentionRule {
    /// Whose.
    pub tenant: TenantId,
    /// Instead of [`Settings::retention`], longer or shorter. Minimum 1h; default: that of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<HumanDuration>,
    /// The tenant's oldest days are dropped while its spans of all days take more than this on disk, about; its newest day always
    /// stays, and nothing is taken for a dropped one any more. Default: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
}

/// What a user tunes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When an acknowledged batch is on disk: `batch`, or an interval such as `1s`. Default `batch`.
    pub sync: SyncPolicy,
    /// Spans that started longer ago are refused, and dropped by whole UTC days; where several days are too old at once, as after a
    /// long stop or with a wrong clock, an hour later. Default 7d, minimum 1h.
    pub retention: HumanDuration,
    /// Tenants with a retention of their own, each at most once. Default: none.
    pub retention_rules: Vec<TraceRetentionRule>,
    /// The oldest days are dropped while the spans and indexes of all days take more than this on disk (log, memory and snapshots
    /// do not count); the newest day always stays, and nothing is taken for a dropped one any more.
    /// Default: no limit.
    pub retention_size: Option<ByteSize>,
    /// Spans that start later than now plus this are refused. Default 10m.
    pub future_max: HumanDuration,
    /// Memory of RocksDB over all days: write buffers and block cache. A merge may take half as much beside it. Default 64MiB,
    /// minimum 8MiB.
    pub rows_memory: ByteSize,
    /// Memory of the filters that tell which segment may have a trace, 10 bits a trace; where they find no room, the
    /// oldest days' are given up, and the disk is asked. Default 64MiB.
    pub filter_memory: ByteSize,
    /// Memory of blocks that searches and reads keep open for the next ones, over all days and tenants; a block takes
    /// about 200KiB. 0 keeps none. Default 16MiB.
    pub open_blocks_memory: ByteSize,
    /// Memory of one index writer; the newest day has one, late spans open a second for a moment.
    /// Default 32MiB, minimum 16MiB (tantivy's).
    pub index_memory: ByteSize,
    /// Spans in memory that start an index commit. Default 50000, minimum 1.
    pub commit_spans: u64,
    /// Time after which an index commit starts, if there is anything to commit. Default 30s, minimum 10ms.
    pub commit_interval: HumanDuration,
    /// Spans in memory, not yet in the index, above which appends are answered "unavailable" until the
    /// index has caught up. Default 200000, at least twice `commit_spans`.
    pub tail_spans_max: u64,
    /// Memory of these spans, above which the same happens; a commit starts at a third, writers are kept waiting above half
    /// of either. Default 48MiB, minimum 1MiB.
    pub tail_memory: ByteSize,
    /// Memory of batches that wait for the log; more are answered "unavailable", and writers kept waiting while more than one
    /// takes above a thirty-second of it. Default 64MiB, minimum 1MiB.
    pub queue_max: ByteSize,
    /// A log file that is larger is closed and a new one begun. Default 64MiB.
    pub log_segment: ByteSize,
    /// Writes are answered "unavailable" while the file system has less free than this. Default 64MiB.
    pub free_space_min: ByteSize,
    /// Spans of one trace that a read returns; beyond, the trace carries a warning. Default 100000.
    pub trace_spans_max: u64,
    /// How long a search with regular expressions looks further into the past; then it answers what it found, with a warning.
    /// Default 10s, minimum 10ms.
    pub pattern_time_max: HumanDuration,
    /// Tenants of one UTC day; spans of further ones are refused, so that nobody who may write for any tenant makes up more than
    /// there is memory for. What is under way when the limit is reached may pass it. Default 10000.
    pub tenants_max: NonZeroUsize,
    /// Operations of one service, tenant and day that are listed; beyond, spans are stored and found, but
    /// their operations are not listed. Default 10000.
    pub operations_max: u64,
    /// Memory of the names of services and operations of one tenant and day, which are what lists show and are in memory for all
    /// days; beyond, spans are stored and found, but their new names are not listed, which is warned of. Default 16MiB,
    /// minimum 64KiB.
    pub names_memory: ByteSize,
    /// Origins (a resource with a scope) of one tenant and day whose hashes are kept in memory; of a tenant with more,
    /// the disk is asked whether a new one is known. Default 50000.
    pub origins_in_memory: u64,
    /// Whether calls between services are counted while spans come in. Off, what was counted before is answered. Default on.
    pub dependencies: bool,
    /// Pairs of caller and called of one tenant and day whose calls are counted, each once more for every 256 bytes of its
    /// names; calls of further ones are not, which is warned of. Default 10000, minimum 1.
    pub dependencies_max: u64,
    /// Spans whose ids are kept in memory to pair callers and called; older ones are looked up on disk.
    /// Default 200000.
    pub pairing_spans: u64,
}

impl Default for Settings {
    fn default() -> Self {
        const MS_PER_HOUR: u64 = 3_600_000;
        Self {
            sync: SyncPolicy::Batch,
            retention: HumanDuration::from_ms(7 * 24 * MS_PER_HOUR),
            retention_rules: Vec::new(),
            retention_size: None,
            future_max: HumanDuration::from_ms(MS_PER_HOUR / 6),
            rows_memory: ByteSize::mib(64),
            filter_memory: ByteSize::mib(64),
            open_blocks_memory: ByteSize::mib(16),
            index_memory: ByteSize::mib(32),
            commit_spans: 50_000,
            commit_interval: HumanDuration::from_ms(30_000),
            tail_spans_max: 200_000,
            tail_memory: ByteSize::mib(48),
            queue_max: ByteSize::mib(64),
            log_segment: ByteSize::mib(64),
            free_space_min: ByteSize::mib(64),
            trace_spans_max: 100_000,
            pattern_time_max: HumanDuration::from_ms(10_000),
            tenants_max: NonZeroUsize::new(10_000).expect("it is not 0"),
            operations_max: 10_000,
            names_memory: ByteSize::mib(16),
            origins_in_memory: 50_000,
            dependencies: true,
            dependencies_max: 10_000,
            pairing_spans: 200_000,
        }
    }
}

impl Settings {
    /// Checks every setting against its minimum.
    ///
    /// # Errors
    /// [`TraceStoreError::Setting`] with the first that makes no sense.
    pub fn check(&self) -> Result<(), TraceStoreError> {
        let rule = |holds: bool, setting: &'static str, message: &str| {
            if holds { Ok(()) } else { Err(TraceStoreError::Setting { setting, message: message.to_owned() }) }
        };
        rule(self.retention.0 >= Duration::from_hours(1), "retention", "at least 1h")?;
        for (index, TraceRetentionRule { tenant, keep, size }) in self.retention_rules.iter().enumerate() {
            let message = format!("{tenant} is kept at least 1h");
            rule(keep.is_none_or(|keep| keep.0 >= Duration::from_hours(1)), "retention_rules", &message)?;
            let message = format!("a rule for {tenant} says `keep` or `size`");
            rule(keep.is_some() || size.is_some(), "retention_rules", &message)?;
            let is_new = self.retention_rules[..index].iter().all(|other| other.tenant != *tenant);
            rule(is_new, "retention_rules", &format!("one rule for {tenant}"))?;
        }
        rule(self.rows_memory >= ByteSize::mib(8), "rows_memory", "at least 8MiB")?;
        rule(self.index_memory >= ByteSize::mib(16), "index_memory", "at least 16MiB")?;
        rule(self.index_memory <= ByteSize::gib(3), "index_memory", "at most 3GiB")?;
        rule(self.commit_spans >= 1, "commit_spans", "at least 1")?;
        rule(self.commit_interval.0 >= Duration::from_millis(10), "commit_interval", "at least 10ms")?;
        rule(self.tail_spans_max / 2 >= self.commit_spans, "tail_spans_max", "at least twice commit_spans")?;
        rule(self.tail_memory >= ByteSize::mib(1), "tail_memory", "at least 1MiB")?;
        rule(self.queue_max >= ByteSize::mib(1), "queue_max", "at least 1MiB")?;
        rule(self.log_segment >= ByteSize(4096), "log_segment", "at least 4KiB")?;
        rule(self.trace_spans_max >= 1, "trace_spans_max", "at least 1")?;
        rule(self.pattern_time_max.0 >= Duration::from_millis(10), "pattern_time_max", "at least 10ms")?;
        rule(self.operations_max >= 1, "operations_max", "at least 1")?;
        rule(self.names_memory >= ByteSize(64 << 10), "names_memory", "at least 64KiB")?;
        rule(self.dependencies_max >= 1, "dependencies_max", "at least 1")?;
        match self.sync {
            SyncPolicy::Interval(interval) => rule(!interval.0.is_zero(), "sync", "`batch` or more than 0"),
            SyncPolicy::Batch => Ok(()),
        }
    }
}

impl Settings {
    /// How long spans of a tenant are kept, nanoseconds.
    pub(crate) fn retention_ns(&self, tenant: &TenantId) -> u64 {
        let rule = self.retention_rules.iter().find(|rule| rule.tenant == *tenant);
        nanoseconds(rule.and_then(|rule| rule.keep).unwrap_or(self.retention))
    }

    /// How long spans of any tenant are kept, nanoseconds.
    pub(crate) fn retention_max_ns(&self) -> u64 {
        let keeps = self.retention_rules.iter().filter_map(|rule| rule.keep).map(nanoseconds);
        keeps.fold(nanoseconds(self.retention), u64::max)
    }
}

fn nanoseconds(duration: HumanDuration) -> u64 {
    u64::try_from(duration.0.as_nanos()).unwrap_or(u64::MAX)
}

/// What the store is handed.
#[derive(Debug, Clone)]
pub struct Components {
    /// Decides what is too old and too new.
    pub clock: Arc<dyn Clock>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_round_trip() {
        let settings = Settings { sync: SyncPolicy::Interval(HumanDuration::from_ms(1000)), ..Settings::default() };
        Settings::default().check().unwrap();
        settings.check().unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<Settings>(r#"{"retentoin":"7d"}"#).is_err());
    }

    #[test]
    fn settings_below_their_minimum_are_named() {
        let wrong = Settings { retention: HumanDuration::from_ms(5), ..Settings::default() };
        assert!(wrong.check().unwrap_err().to_string().contains("retention"));
    }
}
