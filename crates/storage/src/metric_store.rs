//! The contract of a store of metrics.

use pharos_base::Completion;
use pharos_model::{Exemplar, Labels, Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};

use crate::{
    AppendOutcome, BatchId, Capabilities, ChangeMark, LeafPlan, LeafStream, OpenLeaf, ReadContext, StorageError,
    WholeLeaf,
};

/// Label sets, each exactly once, in no particular order. After an error the stream ends.
pub type SeriesStream = Box<dyn Iterator<Item = Result<Labels, StorageError>> + Send>;

/// Which labels to list.
#[derive(Debug, Clone)]
pub struct LabelQuery {
    /// Series that pass all matchers of any set; no sets means all series.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Series with samples in `[start, end)`; a store may widen this to whole blocks.
    pub range: TimeRange,
    /// At most this many answers, the alphabetically first.
    pub limit: usize,
}

/// Exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarSeries {
    /// The series.
    pub labels: Labels,
    /// Its exemplars, ascending in time.
    pub exemplars: Vec<Exemplar>,
}

/// One name and its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardinalityEntry {
    /// A metric name, label name, or `name=value` pair.
    pub name: String,
    /// Series, values or bytes.
    pub value: u64,
}

/// Where a tenant's series come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CardinalityStatus {
    /// Series with samples in the head.
    pub series: u64,
    /// Distinct label pairs in the head.
    pub label_pairs: u64,
    /// Chunks in the head.
    pub chunks: u64,
    /// Oldest sample in the head, Unix milliseconds.
    pub min_time_ms: i64,
    /// Newest sample, Unix milliseconds.
    pub max_time_ms: i64,
    /// Metric names with the most series.
    pub series_by_metric: Vec<CardinalityEntry>,
    /// Label names with the most values.
    pub values_by_label: Vec<CardinalityEntry>,
    /// Label names whose values take the most bytes.
    pub bytes_by_label: Vec<CardinalityEntry>,
    /// Label pairs with the most series.
    pub series_by_pair: Vec<CardinalityEntry>,
}

/// An immutable piece of a store: what one tenant has of some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlock {
    /// Unique within the tenant for as long as the block exists, restarts included.
    pub number: u64,
    /// From the first sample to behind the last one, Unix milliseconds.
    pub range: TimeRange,
    /// How often its samples were merged.
    pub level: u32,
    /// Series in it.
    pub series: u64,
    /// Floats in it.
    pub floats: u64,
    /// Native histograms in it.
    pub histograms: u64,
    /// Compressed runs in it.
    pub chunks: u64,
}

/// What a store says about itself, for its own metrics; all tenants together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricStoreStats {
    /// Series with samples in the head.
    pub head_series: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Bytes of memory that samples, series and exemplars of the head take, roughly.
    pub head_bytes: u64,
    /// Bytes of log not yet in parts.
    pub log_bytes: u64,
    /// Parts on disk.
    pub parts: u64,
    /// Bytes of parts on disk.
    pub part_bytes: u64,
    /// Samples in parts.
    pub part_samples: u64,
    /// How often damaged files were met: at start, by queries, by merging.
    pub damage_met: u64,
    /// Deletes whose samples are hidden but still on disk.
    pub tombstones: u64,
    /// Flushes that failed since the start; what they should have brought to parts is in the log and in memory.
    pub flush_failures: u64,
    /// Merges of parts since the start.
    pub merges: u64,
    /// Merges that failed since the start; their sources are untouched.
    pub merge_failures: u64,
    /// Bytes that merges have read since the start.
    pub merge_bytes_read: u64,
    /// Bytes that merges have written since the start.
    pub merge_bytes_written: u64,
    /// Samples that merges have copied without decoding them since the start.
    pub merge_samples_copied: u64,
    /// Those of the bytes of parts that are rollups of samples.
    pub rollup_bytes: u64,
    /// Cells of rollups that queries read in place of samples since the start.
    pub rollup_cells_read: u64,
    /// Whether writes are refused at the moment (disk full, failed sync).
    pub read_only: bool,
}

/// A store of metrics. See the crate's rules S1 to S5.
pub trait MetricStore: Send + Sync {
    /// Which leaf plans it executes by itself.
    fn capabilities(&self) -> Capabilities;

    /// Stores a batch; completes when it is durable and visible.
    ///
    /// Validates nothing that the caller should have: labels are canonical, histograms are sound, and
    /// timestamps lie where the caller wants them, none at `i64::MAX`, which is in no half-open range. A completion that yields `None` means the store
    /// was closed before the batch was durable.
    ///
    /// Runs of a [group](MetricBatch::groups) are stored together or not at all: where there is no room for all new series of a
    /// group, its runs of known series are refused, too, none of its series counts against the limit, and the rejection counts the
    /// items of the group. [`AppendOutcome::refused_runs`] names the runs.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if the batch cannot be made durable now; series that a limit refuses
    /// are rejections in the outcome.
    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>>;

    /// Whether the store takes samples of this tenant: one that it knows, or one more of as many as it may have. A door asks before
    /// it reads anything for a tenant, so that names that are made up cost nothing. The default takes all.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`].
    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        let _ = tenant;
        Ok(())
    }

    /// Whether the store asks writers to wait a moment: what it has accepted is still to be written, and more would wait in memory
    /// for that or be refused. Who can wait asks before he hands a batch over, as a refused one is gone; it may be refused all
    /// the same. The default never is.
    fn is_busy(&self) -> bool {
        false
    }

    /// Executes a leaf plan. Plans outside [`MetricStore::capabilities`] are [`StorageError::Unsupported`].
    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError>;

    /// As [`MetricStore::leaf`], for a reader who may want to read the leaf with several threads. A store that cannot cut
    /// it, or has threads of its own, leaves it whole (the default).
    fn open_leaf(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        Ok(Box::new(WholeLeaf::new(self.leaf(tenant, plan, context)?)))
    }

    /// Where the history of the tenant's samples stands. A read that begins afterwards sees all that was acknowledged
    /// before; `None` from a store that does not follow changes (the default), whose answers are then not cached.
    fn change_mark(&self, tenant: &TenantId) -> Option<ChangeMark> {
        let _ = tenant;
        None
    }

    /// The first instant in `[start, end)` at which a read that began after `mark` was taken may have found other samples
    /// than one that begins now: appended, deleted, or gone with retention. `None` if both would find the same. A store may
    /// name an earlier instant than the true one; what is not acknowledged yet may be left out.
    fn changed_since(&self, tenant: &TenantId, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        let _ = (tenant, mark);
        Some(range.start_ms)
    }

    /// Series that pass all matchers of any set and have samples in the range (or its blocks).
    fn series(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError>;

    /// Label names, ascending.
    fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError>;

    /// Values of one label, ascending.
    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError>;

    /// Exemplars in `[start, end)` of the series that pass all matchers of any set; by labels ascending.
    fn exemplars(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError>;

    /// Metadata of one metric or of all, by name; the newest of each family.
    fn metadata(
        &self,
        tenant: &TenantId,
        metric: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetricMetadata>, StorageError>;

    /// Where the series come from, the `top` largest of each list.
    fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError>;

    /// The blocks in which the tenant's samples lie, ascending by range; none by a store that has no such pieces (the
    /// default), and nothing of what is in memory still. Tombstones are not taken off the counts.
    fn blocks(&self, tenant: &TenantId) -> Result<Vec<StoredBlock>, StorageError> {
        let _ = tenant;
        Ok(Vec::new())
    }

    /// Deletes what the series that pass all matchers of any set have in the range, samples and exemplars, of what was
    /// appended before the call. Returns when that is durable and no read sees them any more. A sample appended
    /// later is visible, even at an instant that was deleted. Listings may name a series without samples until
    /// [`MetricStore::compact`] or [`MetricStore::clean_tombstones`]. Metadata stays.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] without any matcher set; [`StorageError::Unavailable`] if it cannot be made durable
    /// now: it may then have happened or not; [`StorageError::Unsupported`] by a store that only appends (the default).
    fn delete(&self, tenant: &TenantId, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        let _ = (tenant, matcher_sets, range);
        Err(StorageError::Unsupported { what: "deleting series".to_owned() })
    }

    /// Takes everything that deletes have hidden off the disk, of all tenants; returns when done.
    fn clean_tombstones(&self) -> Result<(), StorageError> {
        Err(StorageError::Unsupported { what: "deleting series".to_owned() })
    }

    /// Brings everything in memory to its final place on disk and empties the log; returns when done.
    fn flush(&self) -> Result<(), StorageError>;

    /// Flushes, then merges as far as merging goes and takes off the disk what was deleted; returns when done.
    fn compact(&self) -> Result<(), StorageError>;

    /// Makes a snapshot called `name`, whole even after power loss; with `head`, everything acknowledged before
    /// the call is in it, else only what a flush has brought to its place already. All tenants together.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a name that is taken or cannot be one, [`StorageError::Unsupported`] by a store
    /// whose operator has other means (the default).
    fn create_snapshot(&self, name: &str, head: bool) -> Result<(), StorageError> {
        let _ = (name, head);
        Err(StorageError::Unsupported { what: "snapshots".to_owned() })
    }

    /// Names of all snapshots, ascending.
    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported { what: "snapshots".to_owned() })
    }

    /// Deletes a snapshot; false if there is none of that name.
    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        let _ = name;
        Err(StorageError::Unsupported { what: "snapshots".to_owned() })
    }

    /// Numbers for our own metrics.
    fn stats(&self) -> MetricStoreStats;
}
