//! The contracts of storage: what the query engines and the doors may ask of any store.
//!
//! Two engines stand behind these traits: the embedded one on local disk and a ClickHouse cluster.
//! Neither the PromQL engine nor an API crate knows which.
//!
//! Rules of every engine
//! - S1 **Acknowledged is durable.** An append completes with `Ok` only when a crash or power loss
//!   can no longer lose it; what it stored is visible to every later read.
//! - S2 **Idempotent.** Appending the same batch again, with the same [`BatchId`] or a new one, changes
//!   no answer: equal samples at equal instants are one sample, equal spans are one span. Where two
//!   samples of a series differ at one instant, the one appended later wins: later in the order of one store;
//!   between gateways that share a cluster it is one of the two, the same in every read.
//! - S3 **Any order.** Timestamps inside retention may arrive in any order.
//! - S4 **Tenants are walls.** Every call names one tenant and sees nothing of another.
//! - S5 **Limits have names.** A read that would pass a limit of its [`ReadContext`] fails with
//!   [`StorageError::LimitExceeded`] or is interrupted; it never shortens its answer silently.
//!
//! Reads are synchronous: they run on query threads, check [`ReadContext::check`] between series and
//! hand out owned data. An engine on the network blocks there. Appends hand out a [`Completion`],
//! so that many can wait for one group commit without a thread each. How each call maps to
//! ClickHouse is written in `docs/clickhouse.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod append;
mod attribute_lists;
mod changes;
pub mod conformance;
mod error;
mod evaluate;
mod leaf;
pub mod memory;
mod metric_store;
mod open_leaf;
mod predicate;
mod read;
mod render;
mod snapshot;
mod span_rules;
mod span_tap;
mod trace_store;

pub use append::{AppendOutcome, BatchId, RejectReason, Rejection};
pub use attribute_lists::{
    AttributeKey, AttributeKeyQuery, LISTED_KEY_BYTES_MAX, LISTED_VALUE_BYTES_MAX, Listed, ListedType, ListedValue,
    ValueQuery, is_meant, visit_attribute_keys, visit_listed_values, whole_days,
};
pub use changes::{ChangeLog, ChangeMark};
pub use error::{StorageError, memory_advice};
pub use evaluate::GridEvaluator;
pub use leaf::{Capabilities, GridPlan, GridSeries, LeafPlan, LeafSeries, LeafStream, Precision, RawPlan, RawSeries};
pub use metric_store::{
    CardinalityEntry, CardinalityStatus, ExemplarSeries, LabelQuery, MetricStore, MetricStoreStats, SeriesStream,
    StoredBlock,
};
pub use open_leaf::{LeafPieces, OpenLeaf, WholeLeaf};
pub use pharos_base::Completion;
pub use pharos_grid::{Aggregation, Grouping, RangeFunction, SharedWindows};
pub use predicate::{
    AttributeLevel, Comparison, PREDICATE_DEPTH_MAX, PREDICATE_NODES_MAX, SpanCollection, SpanConstant, SpanField,
    SpanOperand, SpanPredicate, SpanReference, SpanValue, predicate_holds,
};
pub use read::{ReadContext, ReadCounts, ReadMeter};
pub use render::render_attribute_value;
pub use snapshot::{UNFINISHED_PREFIX, check_snapshot_name};
pub use span_rules::{DEPENDENCY_STEP_NS, dependency_minutes, span_kind_name, span_passes};
pub use span_tap::{NoticedSpans, SpanGate, SpanRequest, SpanTap};
pub use trace_store::{
    DependencyLink, FoundTraces, Operation, OperationQuery, ServiceSpanCount, SpanFilter, Trace, TraceHit, TraceLookup,
    TracePart, TracePartStream, TraceQuery, TraceStore, TraceStoreStats, TraceStream, TraceSummary,
};
