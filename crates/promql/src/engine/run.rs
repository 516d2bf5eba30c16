//! One query from text to answer.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use pharos_base::{CancelToken, Interrupted, sort_checked};
use pharos_model::{Labels, StepRange, TenantId};
use pharos_storage::{ReadContext, ReadCounts, ReadMeter};

use super::branch::{Leaves, Threads};
use super::cache::{Computed, Key, Reach};
use super::counts::{Looked, StepBooks};
use super::eval::{Evaluator, text};
use super::ledger::Ledger;
use super::pace::Pace;
use super::plan::{Node, Range, RangeSource, plan};
use super::result::{CacheUse, Held, MatrixSeries, SampleValue, VectorSample};
use super::series::{Cell as Sample, Merger, Series, duplicate_labels, without_metadata};
use super::{Engine, QueryError, QueryOptions, QueryResult, QueryStats, Value};
use crate::ast::{Expr, ValueType};

/// Evaluation times beyond this, some 73 million years from 1970, are refused: sums of times stay far from overflow.
const TIME_MS_MAX: i64 = 1 << 61;
/// Expressions up to this depth run on the caller's stack: about 5 KiB a level in a debug build.
const DEPTH_IN_PLACE_MAX: usize = 50;
/// Stack for deeper ones; [`crate::limits::EXPRESSION_DEPTH_MAX`] levels need a fraction of it.
const DEEP_STACK_BYTES: usize = 32 << 20;

fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    expr.for_each_child(|child| deepest = deepest.max(depth(child)));
    deepest + 1
}

/// What it costs to turn a series into one of the answer, in values.
const VALUES_PER_SERIES: usize = 64;

/// A planned query.
struct Question<'a> {
    tenant: &'a TenantId,
    query: &'a str,
    node: &'a Node,
    /// All steps, those that need not be evaluated included: what `start()` and its like tell.
    steps: StepRange,
    is_instant: bool,
    lookback_ms: i64,
    options: &'a QueryOptions,
    began: Instant,
}

/// Counts a query that is evaluated, until it is dropped.
struct Evaluating(Arc<AtomicUsize>);

impl Evaluating {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Evaluating {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    pub(super) fn run(
        &self,
        tenant: &TenantId,
        query: &str,
        steps: StepRange,
        options: &QueryOptions,
        is_instant: bool,
    ) -> Result<QueryResult, QueryError> {
        let settings = &*self.settings;
        if steps.start_ms < -TIME_MS_MAX || steps.end_ms > TIME_MS_MAX {
            return Err(QueryError::Invalid { message: "evaluation time is out of range".to_owned() });
        }
        if steps.step_ms < 1 || steps.is_empty() {
            return Err(QueryError::Invalid { message: "the range must not end before it starts".to_owned() });
        }
        if steps.len() > settings.steps_max {
            return Err(QueryError::TooManySteps { steps: steps.len(), limit: settings.steps_max });
        }
        let expr = crate::parse(query, settings.parser)?;
        let evaluate = || self.evaluate(tenant, query, &expr, steps, options, is_instant);
        let result = if depth(&expr) <= DEPTH_IN_PLACE_MAX {
            evaluate()
        } else {
            pharos_base::run_with_stack("deep-query", DEEP_STACK_BYTES, evaluate)
                .unwrap_or_else(|_| Err(QueryError::execution("no thread for an expression this deep")))
        };
        let ended_at = self.clock.monotonic();
        if let (Err(_), Some(watch)) = (&result, &options.watch) {
            watch.note_failure(ended_at);
        }
        result.map_err(|error| {
            let is_theirs = options.cancel.deadline().is_some_and(|deadline| deadline <= ended_at)
                || options.timeout.is_some_and(|wanted| wanted < settings.timeout);
            match error {
                QueryError::Interrupted(Interrupted::DeadlineExceeded) if !is_theirs => {
                    QueryError::TimedOut { limit: settings.timeout }
                }
                other => other,
            }
        })
    }

    fn evaluate(
        &self,
        tenant: &TenantId,
        query: &str,
        expr: &Expr,
        steps: StepRange,
        options: &QueryOptions,
        is_instant: bool,
    ) -> Result<QueryResult, QueryError> {
        let began = self.clock.monotonic();
        let settings = &*self.settings;
        let node = plan(query, expr, steps, settings)?;
        let kind = node.value_type();
        if !is_instant && matches!(kind, ValueType::Matrix | ValueType::String) {
            return Err(QueryError::RangeType { found: kind });
        }
        let lookback_ms = options.lookback_ms.filter(|lookback| *lookback > 0).unwrap_or(settings.lookback_ms);
        let question = Question { tenant, query, node: &node, steps, is_instant, lookback_ms, options, began };
        let cache = self.cache.as_ref().filter(|_| !is_instant && !options.no_cache && !options.step_counts);
        let Some(cache) = cache else { return Ok(self.compute(&question, steps)?.result) };
        let reach = Reach::of(&node, expr, lookback_ms);
        let key = Key::new(tenant, query, lookback_ms, steps, &reach);
        let Some(mut reused) = cache.look_up(&*self.store, &key, &reach, steps) else {
            return Ok(self.compute(&question, steps)?.result);
        };
        let mut computed = self.compute(&question, reused.missing(steps))?;
        if computed.is_indivisible && reused.is_partial(steps) {
            reused.forget();
            computed = self.compute(&question, steps)?;
        }
        computed.result.stats.cache = reused.cache_use(steps);
        let kept_some = reused.complete(&mut computed.result);
        if kept_some {
            // Together with what was kept it is larger.
            computed.result.held = Held::default();
            computed.result.held =
                Held::book(&computed.result.value, &self.memory_of_one(tenant, options.bounds.memory_bytes_max))?;
            self.check_points(&computed.result.value)?;
        }
        cache.keep(key, steps, &reused, &computed);
        Ok(computed.result)
    }

    /// Evaluates a plan at these of its steps; without any, an empty matrix.
    fn compute(&self, question: &Question<'_>, steps: StepRange) -> Result<Computed, QueryError> {
        let _at_work = Evaluating::begin(&self.evaluating);
        let threads = Cell::new(1);
        match self.compute_with(Threads::Several(&threads), question, steps) {
            // Several threads hold more at a time. Whether a query fits its limits shall not depend on how many are free.
            Err(QueryError::TooManySamples { .. } | QueryError::Memory(_)) if threads.get() > 1 => {
                self.compute_with(Threads::One, question, steps)
            }
            computed => computed,
        }
    }

    fn compute_with(
        &self,
        threads: Threads<'_>,
        question: &Question<'_>,
        steps: StepRange,
    ) -> Result<Computed, QueryError> {
        let settings = &*self.settings;
        let bounds = question.options.bounds;
        let memory = self.memory_of_one(question.tenant, bounds.memory_bytes_max);
        let samples_max = bounds.samples_max.map_or(settings.samples_max, |own| own.min(settings.samples_max));
        let context = ReadContext {
            cancel: self.cancel_token(question.options, question.began),
            memory: memory.clone(),
            series_max: bounds.series_max.map_or(settings.series_max, |own| own.min(settings.series_max)),
            meter: ReadMeter::default(),
        };
        let step_counts = question.options.step_counts.then(|| RefCell::new(StepBooks::new(question.steps.len())));
        let evaluator = Evaluator {
            engine: self,
            store: &*self.store,
            tenant: question.tenant,
            settings,
            query: question.query,
            steps: question.steps,
            lookback_ms: question.lookback_ms,
            context_of_once: ReadContext { meter: ReadMeter::default(), ..context.clone() },
            context_of_inner: ReadContext { meter: ReadMeter::default(), ..context.clone() },
            context,
            step_counts,
            shared: RefCell::default(),
            ledger: Ledger::new(memory.clone(), samples_max),
            notes: RefCell::default(),
            derived_hints: Cell::new(false),
            leaves: Leaves::default(),
            threads,
        };
        if let Some(watch) = &question.options.watch {
            watch.look_at(&evaluator.ledger, &evaluator.context, self.clock.monotonic());
        }
        evaluator.context.check()?;
        let prepared = self.clock.monotonic();
        let value = if steps.is_empty() {
            Value::Matrix(Vec::new())
        } else {
            evaluator.value(question.node, steps, question.is_instant)?
        };
        let evaluated = self.clock.monotonic();
        let value = evaluator.in_order(value, question.node.is_ordered())?;
        let sorted = self.clock.monotonic();
        self.check_points(&value).inspect_err(|_| memory.crossing().note())?;
        let held = Held::book(&value, &memory)?;
        let counts = evaluator.ledger.counts();
        let once = evaluator.context_of_once.meter.counts();
        let samples_queryable = once.samples_queryable.saturating_mul(question.steps.len() as u64);
        evaluator.context.meter.add(ReadCounts { samples_queryable, ..once });
        // Windows of results count, not what these are made of.
        let inner = evaluator.context_of_inner.meter.counts();
        evaluator.context.meter.add(ReadCounts { samples_queryable: 0, ..inner });
        let in_store = evaluator.context.meter.counts();
        let stats = QueryStats {
            series_read: counts.series_read + in_store.series,
            samples_read: counts.samples_read + in_store.samples,
            samples_queryable: counts.samples_queryable + in_store.samples_queryable,
            samples_peak: counts.samples_peak.max(in_store.samples_largest),
            memory_bytes_peak: memory.peak_bytes(),
            prepare_duration: prepared - question.began,
            evaluate_duration: evaluated - prepared,
            sort_duration: sorted - evaluated,
            threads: threads.most(),
            cache: CacheUse::Off,
            steps: evaluator.step_counts.map(|books| books.into_inner().counts),
        };
        let is_indivisible = evaluator.derived_hints.get();
        let annotations = evaluator.notes.into_inner().into_annotations();
        Ok(Computed { result: QueryResult { value, annotations, stats, held }, is_indivisible })
    }

    fn check_points(&self, value: &Value) -> Result<(), QueryError> {
        let points = match value {
            Value::Matrix(series) => series.iter().map(MatrixSeries::points).sum(),
            Value::Vector(samples) => samples.len() as u64,
            Value::Scalar { .. } | Value::String { .. } => 1,
        };
        let limit = self.settings.points_max;
        if points > limit { Err(QueryError::TooManyPoints { points, limit }) } else { Ok(()) }
    }

    /// The caller's token; the earlier of its deadline and ours counts.
    fn cancel_token(&self, options: &QueryOptions, began: Instant) -> CancelToken {
        let timeout = options.timeout.map_or(self.settings.timeout, |wanted| wanted.min(self.settings.timeout));
        options.cancel.with_deadline_at(began + timeout)
    }
}

impl Evaluator<'_> {
    fn value(&self, node: &Node, steps: StepRange, is_instant: bool) -> Result<Value, QueryError> {
        let timestamp_ms = steps.start_ms;
        match (node.value_type(), node) {
            (ValueType::String, _) => Ok(Value::String { timestamp_ms, value: text(node)?.to_owned() }),
            (ValueType::Scalar, _) => {
                let column = self.scalar(node, steps)?;
                if is_instant {
                    return Ok(Value::Scalar { timestamp_ms, value: column.first().copied().unwrap_or(f64::NAN) });
                }
                let floats = steps.iter().zip(column).collect();
                Ok(Value::Matrix(vec![MatrixSeries { labels: Labels::empty(), floats, histograms: Vec::new() }]))
            }
            (ValueType::Vector, _) => {
                let series = self.finished(node, steps)?;
                if is_instant { self.instant_vector(series, timestamp_ms) } else { self.matrix(series, steps) }
            }
            (ValueType::Matrix, Node::Range(range)) => self.windows(range, steps),
            (ValueType::Matrix, _) => Err(super::eval::mistyped(node, ValueType::Matrix)),
        }
    }

    /// All series of the answer, names removed, each label set once.
    fn finished(&self, node: &Node, steps: StepRange) -> Result<Vec<Series>, QueryError> {
        let mut merger = Merger::default();
        for series in self.vector(node, steps)? {
            self.context.check()?;
            let mut series = series?;
            if series.drop_name {
                series.labels = without_metadata(&series.labels);
            }
            if !series.is_empty() {
                merger.push(series)?;
            }
        }
        Ok(merger.into_arrival())
    }

    /// An instant query for a range vector answers the samples of its window.
    fn windows(&self, range: &Range, steps: StepRange) -> Result<Value, QueryError> {
        let mut list: Vec<MatrixSeries> = Vec::new();
        let mut held = Vec::new();
        let end_ms = range.time.apply(steps.start_ms);
        let after_ms = end_ms.saturating_sub(range.length_ms);
        for samples in self.samples(range, steps)? {
            let samples = samples?;
            let samples = if range.edge.is_some() { super::edges::bare(samples, range, end_ms)? } else { samples };
            let inside = |time_ms: i64| range.edge.is_some() || (after_ms < time_ms && time_ms <= end_ms);
            if matches!(range.source, RangeSource::Samples(_)) {
                let looked =
                    samples.times_ms.iter().copied().chain(samples.histograms.iter().map(|one| one.timestamp_ms));
                let looked = Looked::afresh(looked.filter(|time_ms| inside(*time_ms)).count());
                self.count_looked_at(range.scope, looked.queryable, || vec![looked]);
            }
            let floats = samples.times_ms.iter().copied().zip(samples.values.iter().copied());
            let histograms = samples.histograms.iter().map(|sample| (sample.timestamp_ms, sample.histogram.clone()));
            let series = MatrixSeries {
                labels: if samples.drop_name { without_metadata(&samples.labels) } else { samples.labels.clone() },
                floats: floats.filter(|(time_ms, _)| inside(*time_ms)).collect(),
                histograms: histograms.filter(|(time_ms, _)| inside(*time_ms)).collect(),
            };
            if !series.floats.is_empty() || !series.histograms.is_empty() {
                list.push(series);
                // The answer takes as much as they did.
                held.push(samples.into_lease());
            }
        }
        let list = self.by_labels(list, |series| &series.labels)?;
        if list.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
            return Err(duplicate_labels());
        }
        Ok(Value::Matrix(list))
    }

    fn instant_vector(&self, series: Vec<Series>, timestamp_ms: i64) -> Result<Value, QueryError> {
        let mut samples: Vec<VectorSample> = Vec::with_capacity(series.len());
        let mut pace = Pace::new(&self.context);
        for mut series in series {
            pace.spend(VALUES_PER_SERIES)?;
            let value = match series.cells.first_mut().map(std::mem::take) {
                None | Some(Sample::Empty) => continue,
                Some(Sample::Float(value)) => SampleValue::Float(value),
                Some(Sample::Histogram(histogram)) => SampleValue::Histogram(histogram),
            };
            samples.push(VectorSample { labels: series.labels.clone(), timestamp_ms, value });
        }
        Ok(Value::Vector(samples))
    }

    fn matrix(&self, series: Vec<Series>, steps: StepRange) -> Result<Value, QueryError> {
        let mut list: Vec<MatrixSeries> = Vec::with_capacity(series.len());
        let mut pace = Pace::new(&self.context);
        for mut series in series {
            pace.spend(VALUES_PER_SERIES + series.cells.len())?;
            list.push(matrix_series(&mut series, steps));
        }
        Ok(Value::Matrix(list))
    }

    /// A value as it is answered: series by their labels, unless the query itself puts them in order.
    fn in_order(&self, value: Value, is_ordered: bool) -> Result<Value, QueryError> {
        Ok(match value {
            Value::Vector(samples) if !is_ordered => Value::Vector(self.by_labels(samples, |sample| &sample.labels)?),
            Value::Matrix(series) => Value::Matrix(self.by_labels(series, |series| &series.labels)?),
            other => other,
        })
    }

    fn by_labels<T>(&self, list: Vec<T>, labels: impl Fn(&T) -> &Labels) -> Result<Vec<T>, QueryError> {
        Ok(sort_checked(list, |a, b| labels(a).cmp(labels(b)), || self.context.check())?)
    }
}

fn matrix_series(series: &mut Series, steps: StepRange) -> MatrixSeries {
    let cells = std::mem::take(&mut series.cells);
    let float_count = cells.iter().filter(|cell| matches!(cell, Sample::Float(_))).count();
    let floats = Vec::with_capacity(float_count);
    let mut one = MatrixSeries { labels: series.labels.clone(), floats, histograms: Vec::new() };
    for (step, cell) in steps.iter().zip(cells) {
        match cell {
            Sample::Empty => {}
            Sample::Float(value) => one.floats.push((step, value)),
            Sample::Histogram(histogram) => one.histograms.push((step, histogram)),
        }
    }
    one
}
