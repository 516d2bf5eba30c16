//! What a query answers.

use std::sync::Arc;
use std::time::Duration;

use pharos_base::{BudgetExceeded, MemoryBudget, Reservation};
use pharos_model::{Histogram, Labels};

use super::Annotations;
use super::series::histogram_bytes;
use crate::ast::ValueType;

/// The answer of a query.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: QueryStats,
    /// The memory that the value takes: keep it as long as the value.
    pub held: Held,
}

/// Memory booked for an answer in the budget of all queries; given back when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct Held(Option<Arc<Reservation>>);

impl Held {
    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |reservation| reservation.bytes())
    }

    /// What the value takes in a query's budget.
    pub(super) fn book(value: &Value, memory: &MemoryBudget) -> Result<Self, BudgetExceeded> {
        let bytes = match value {
            Value::Matrix(series) => series.iter().map(MatrixSeries::bytes).sum(),
            Value::Vector(samples) => samples.iter().map(VectorSample::bytes).sum(),
            Value::Scalar { .. } => 0,
            Value::String { value, .. } => value.len() as u64,
        };
        let reservation = memory.reserve(bytes)?;
        Ok(Self(Some(Arc::new(reservation))))
    }
}

impl MatrixSeries {
    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let histograms: usize = self.histograms.iter().map(|(_, histogram)| 16 + histogram_bytes(histogram)).sum();
        let floats = self.floats.len() * size_of::<(i64, f64)>();
        (size_of::<Self>() + self.labels.encoded().len() + floats + histograms) as u64
    }

    /// Floats and histograms together.
    pub(super) fn points(&self) -> u64 {
        (self.floats.len() + self.histograms.len()) as u64
    }
}

impl VectorSample {
    fn bytes(&self) -> u64 {
        let histogram = match &self.value {
            SampleValue::Float(_) => 0,
            SampleValue::Histogram(histogram) => histogram_bytes(histogram),
        };
        (size_of::<Self>() + self.labels.encoded().len() + histogram) as u64
    }
}

/// The value of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of an instant query: at most one sample per series. Sorted by `sort` and its kin, otherwise in no order.
    Vector(Vec<VectorSample>),
    /// Of a range query, or of an instant query for a range selector. Sorted by labels.
    Matrix(Vec<MatrixSeries>),
    /// One number.
    Scalar {
        /// Evaluation time, Unix milliseconds.
        timestamp_ms: i64,
        /// The number.
        value: f64,
    },
    /// One text.
    String {
        /// Evaluation time, Unix milliseconds.
        timestamp_ms: i64,
        /// The text.
        value: String,
    },
}

impl Value {
    /// The type, for API answers.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Vector(_) => ValueType::Vector,
            Self::Matrix(_) => ValueType::Matrix,
            Self::Scalar { .. } => ValueType::Scalar,
            Self::String { .. } => ValueType::String,
        }
    }
}

/// A float or a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

/// One series of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// The series.
    pub labels: Labels,
    /// Evaluation time, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value.
    pub value: SampleValue,
}

/// One series of a matrix; both lists ascend in time and share no instant.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// The series.
    pub labels: Labels,
    /// Float samples: Unix milliseconds and value.
    pub floats: Vec<(i64, f64)>,
    /// Native histograms: Unix milliseconds and value.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// What earlier answers did for a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Not asked: an instant query, no cache, or the caller wanted none.
    #[default]
    Off,
    /// Every step was taken over.
    Hit,
    /// Some steps were taken over.
    Partial,
    /// No step was taken over.
    Miss,
}

impl CacheUse {
    /// In one word, for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Hit => "hit",
            Self::Partial => "partial",
            Self::Miss => "miss",
        }
    }
}

/// Samples counted step by step; as many numbers as the query has steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// As [`QueryStats::samples_queryable`].
    pub queryable: Vec<u64>,
    /// As [`QueryStats::samples_read`], each sample at the step that was the first to need it.
    pub read: Vec<u64>,
}

/// What a query cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Series read from the store, once per selector.
    pub series_read: u64,
    /// Samples read from the store.
    pub samples_read: u64,
    /// Samples that windows and lookbacks touched, over all steps; upstream calls them queryable samples.
    pub samples_queryable: u64,
    /// The most samples held at once.
    pub samples_peak: u64,
    /// The most bytes held at once.
    pub memory_bytes_peak: u64,
    /// Parsing and planning.
    pub prepare_duration: Duration,
    /// Reading and computing.
    pub evaluate_duration: Duration,
    /// Putting the answer in order.
    pub sort_duration: Duration,
    /// Threads that evaluated it at a time, at most; those that help within a store are not counted.
    pub threads: usize,
    /// What earlier answers did for it.
    pub cache: CacheUse,
    /// Step by step; only if [`super::QueryOptions::step_counts`] asked for it.
    pub steps: Option<StepCounts>,
}
