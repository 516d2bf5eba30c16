//! The vocabulary of the field as types: labels, samples, histograms, spans, tenants, ranges.
//!
//! Units: metrics count Unix **milliseconds** as `i64`, traces Unix **nanoseconds** as `u64`; the
//! conversion between them is here and nowhere else. Ranges are half-open, `[start, end)`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod bucket_bounds;
mod exemplar;
mod histogram;
mod label_rewrite;
mod labels;
mod matcher;
mod metadata;
mod pattern;
mod run_group;
mod sample;
mod span;
mod tenant;
mod time;
mod trace_state;

pub use batch::{BatchBuilder, MetricBatch, RunLabels, SeriesRun};
pub use bucket_bounds::exponential_bound;
pub use exemplar::Exemplar;
pub use histogram::{BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, HistogramError, ResetHint};
pub use label_rewrite::LabelRewrite;
pub use labels::{
    Fingerprint, LabelError, Labels, LabelsBuilder, METRIC_NAME, encoded_pairs, fingerprint, iter_encoded,
    push_encoded_pair,
};
pub use matcher::{MatchOp, Matcher, matches_labels};
pub use metadata::{MetricKind, MetricMetadata};
pub use pattern::{
    PatternError, PatternWalk, Replacement, SEARCH_PATTERNS_BYTES_MAX, SEARCH_PATTERNS_MAX, SearchPattern,
    SearchPatterns,
};
pub use run_group::RunGroup;
pub use sample::{HistogramSample, STALE_NAN_BITS, Sample, is_stale_nan, stale_nan};
pub use span::{
    Attribute, AttributeValue, Attributes, Link, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId,
    SpanKind, SpanStatus, StatusCode, TraceId, UnknownId,
};
pub use tenant::{DEFAULT_TENANT, TenantId, TenantIdError};
pub use time::{MS_PER_DAY, NS_PER_DAY, NS_PER_MS, StepRange, TimeRange, TimeRangeNs, ms_to_ns, ns_to_ms};
pub use trace_state::{
    SAMPLING_THRESHOLDS, adjusted_count, sampling_randomness, sampling_threshold, trace_state_member,
};
