//! The in-memory store of metrics.
//!
//! Owns sorted maps under one lock and clones what it hands out. Rule S1 holds without its
//! durability: what is acknowledged lives as long as the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_base::Completion;
use pharos_grid::GroupFold;
use pharos_model::{
    Exemplar, Histogram, HistogramSample, Labels, METRIC_NAME, Matcher, MetricBatch, MetricMetadata, SeriesRun,
    TenantId, TimeRange, matches_labels,
};

use crate::{
    Aggregation, AppendOutcome, BatchId, Capabilities, CardinalityEntry, CardinalityStatus, ChangeLog, ChangeMark,
    ExemplarSeries, GridEvaluator, GridPlan, GridSeries, Grouping, LabelQuery, LeafPieces, LeafPlan, LeafSeries,
    LeafStream, MetricStore, MetricStoreStats, OpenLeaf, RawPlan, RawSeries, ReadContext, RejectReason, SeriesStream,
    StorageError, WholeLeaf,
};

/// A store of metrics in memory.
#[derive(Debug, Default)]
pub struct MemoryMetricStore {
    tenants: RwLock<HashMap<TenantId, Tenant>>,
    /// Of each tenant; `None`: no limit.
    series_max: Option<usize>,
}

#[derive(Debug, Default)]
struct Tenant {
    changes: ChangeLog,
    series: BTreeMap<Labels, Series>,
    metadata: BTreeMap<String, MetricMetadata>,
}

#[derive(Debug, Default)]
struct Series {
    points: BTreeMap<i64, Point>,
    exemplars: BTreeMap<(i64, Labels), Exemplar>,
}

/// What a series holds at one instant: the sample appended last, of either kind.
#[derive(Debug, Clone)]
enum Point {
    Float { value: f64, start_ms: i64 },
    Histogram { histogram: Arc<Histogram>, start_ms: i64 },
}

impl MemoryMetricStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that takes so many series of each tenant.
    #[must_use]
    pub fn with_series_max(series_max: usize) -> Self {
        Self { series_max: Some(series_max), ..Self::default() }
    }

    fn with_selected<T>(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        context: &ReadContext,
        mut each: impl FnMut(&Labels, &Series) -> Option<T>,
    ) -> Result<Vec<T>, StorageError> {
        let tenants = self.tenants.read();
        let mut found = Vec::new();
        for (labels, series) in tenants.get(tenant).into_iter().flat_map(|tenant| &tenant.series) {
            context.check()?;
            if matcher_sets.is_empty() || matcher_sets.iter().any(|matchers| matches_labels(matchers, labels)) {
                found.extend(each(labels, series));
                context.check_series(found.len() as u64)?;
            }
        }
        Ok(found)
    }
}

impl MemoryMetricStore {
    fn raw(&self, tenant: &TenantId, plan: &RawPlan, context: &ReadContext) -> Result<Vec<RawSeries>, StorageError> {
        let sets = std::slice::from_ref(&plan.matchers);
        self.with_selected(tenant, sets, context, |labels, series| series.read(labels, plan.range))
    }
}

fn raw_of(plan: &GridPlan) -> RawPlan {
    RawPlan { matchers: plan.matchers.clone(), range: plan.read_range() }
}

/// Selected series, copied.
struct MemoryLeaf {
    found: Vec<RawSeries>,
    /// `None`: they are answered as they are.
    plan: Option<GridPlan>,
    context: ReadContext,
}

impl MemoryLeaf {
    fn answer(&self, found: Vec<RawSeries>) -> Result<LeafStream, StorageError> {
        match &self.plan {
            Some(plan) => grids(found, plan, &self.context),
            None => Ok(Box::new(found.into_iter().map(|series| Ok(LeafSeries::Raw(series))))),
        }
    }
}

impl OpenLeaf for MemoryLeaf {
    fn series_count(&self) -> usize {
        self.found.len()
    }

    fn stream(mut self: Box<Self>) -> LeafStream {
        let found = std::mem::take(&mut self.found);
        self.answer(found).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
    }

    fn pieces(mut self: Box<Self>, series: usize) -> LeafPieces {
        let mut left = std::mem::take(&mut self.found);
        Box::new(std::iter::from_fn(move || {
            if left.is_empty() {
                return None;
            }
            let behind = left.split_off(series.max(1).min(left.len()));
            Some(self.answer(std::mem::replace(&mut left, behind)))
        }))
    }
}

fn grids(found: Vec<RawSeries>, plan: &GridPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
    let mut evaluator = GridEvaluator::new(plan, None);
    let mut answer = Vec::with_capacity(found.len());
    for series in found {
        context.check()?;
        if evaluator.needs_raw(series.floats(), !series.histograms.is_empty()) {
            answer.push(LeafSeries::Raw(series));
        } else if let Some(values) = evaluator.evaluate(series.floats(), &[], context)? {
            answer.push(LeafSeries::Grid(GridSeries { values: values.to_vec(), labels: series.labels }));
        }
    }
    Ok(Box::new(answer.into_iter().map(Ok)))
}

fn aggregate(
    found: Vec<RawSeries>,
    plan: &GridPlan,
    aggregation: Aggregation,
    grouping: &Grouping,
    context: &ReadContext,
) -> Result<LeafStream, StorageError> {
    let mut evaluator = GridEvaluator::new(plan, Some(aggregation));
    let mut fold = GroupFold::new(aggregation, grouping, plan.steps.len());
    let mut held = context.memory.reserve(0)?;
    if found.iter().any(|series| evaluator.needs_raw(series.floats(), !series.histograms.is_empty())) {
        return Err(StorageError::Unsupported { what: "aggregates of these series".to_owned() });
    }
    for series in found {
        context.check()?;
        if let Some(values) = evaluator.evaluate(series.floats(), &series.histograms, context)? {
            fold.add(series.labels.encoded(), values, |bytes| held.grow(bytes))?;
        }
    }
    let groups = fold.finish().map(|(labels, values)| Ok(LeafSeries::Grid(GridSeries { labels, values })));
    Ok(Box::new(groups.collect::<Vec<_>>().into_iter()))
}

impl Tenant {
    fn append(&mut self, batch: &MetricBatch, series_max: usize) -> Result<AppendOutcome, StorageError> {
        // All labels before the first sample: a refused batch leaves nothing behind.
        let labels = batch.series.iter().map(|run| batch.labels(run)).collect::<Result<Vec<_>, _>>();
        let labels = labels.map_err(|error| StorageError::Invalid { message: error.to_string() })?;
        let mut outcome = AppendOutcome::default();
        let mut is_refused = vec![false; labels.len()];
        for unit in batch.units() {
            let new: BTreeSet<_> =
                unit.places().map(|at| &labels[at]).filter(|it| !self.series.contains_key(it)).collect();
            if !new.is_empty() && self.series.len() + new.len() > series_max {
                let message = || format!("the tenant has {series_max} active series, its limit");
                outcome.reject(RejectReason::SeriesLimit, unit.items, message);
                unit.places().for_each(|at| is_refused[at] = true);
            } else {
                self.series.extend(new.into_iter().map(|labels| (labels.clone(), Series::default())));
            }
        }
        for (at, (labels, run)) in labels.into_iter().zip(&batch.series).enumerate() {
            if is_refused[at] {
                outcome.refused_runs.push(at);
                continue;
            }
            self.series.entry(labels).or_default().append(batch, run);
            outcome.items += run.samples.len() as u64;
            outcome.histograms += run.histograms.len() as u64;
            outcome.exemplars += run.exemplars.len() as u64;
        }
        self.changes.appended(batch);
        for metadata in &batch.metadata {
            self.metadata.insert(metadata.metric.clone(), metadata.clone());
        }
        Ok(outcome)
    }
}

impl Series {
    fn append(&mut self, batch: &MetricBatch, run: &SeriesRun) {
        for index in run.samples.clone() {
            let sample = batch.samples[index];
            let start_ms = batch.start_ms.get(index).copied().unwrap_or(0);
            self.points.insert(sample.timestamp_ms, Point::Float { value: sample.value, start_ms });
        }
        for index in run.histograms.clone() {
            let sample = &batch.histograms[index];
            let start_ms = batch.histogram_start_ms.get(index).copied().unwrap_or(0);
            let point = Point::Histogram { histogram: Arc::clone(&sample.histogram), start_ms };
            self.points.insert(sample.timestamp_ms, point);
        }
        for exemplar in &batch.exemplars[run.exemplars.clone()] {
            self.exemplars.insert((exemplar.timestamp_ms, exemplar.labels.clone()), exemplar.clone());
        }
    }

    fn has_points(&self, range: TimeRange) -> bool {
        !range.is_empty() && self.points.range(range.start_ms..range.end_ms).next().is_some()
    }

    fn read(&self, labels: &Labels, range: TimeRange) -> Option<RawSeries> {
        if !self.has_points(range) {
            return None;
        }
        let mut raw = RawSeries { labels: labels.clone(), ..RawSeries::default() };
        for (&timestamp_ms, point) in self.points.range(range.start_ms..range.end_ms) {
            match point {
                Point::Float { value, start_ms } => {
                    raw.timestamps_ms.push(timestamp_ms);
                    raw.values.push(*value);
                    raw.start_ms.push(*start_ms);
                }
                Point::Histogram { histogram, start_ms } => {
                    raw.histograms.push(HistogramSample { timestamp_ms, histogram: Arc::clone(histogram) });
                    raw.histogram_start_ms.push(*start_ms);
                }
            }
        }
        clear_if_unknown(&mut raw.start_ms);
        clear_if_unknown(&mut raw.histogram_start_ms);
        Some(raw)
    }
}

fn clear_if_unknown(starts: &mut Vec<i64>) {
    if starts.iter().all(|start_ms| *start_ms == 0) {
        starts.clear();
    }
}

impl MetricStore for MemoryMetricStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::exact()
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        _id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        let series_max = self.series_max.unwrap_or(usize::MAX);
        Completion::ready(self.tenants.write().entry(tenant.clone()).or_default().append(&batch, series_max))
    }

    fn change_mark(&self, tenant: &TenantId) -> Option<ChangeMark> {
        Some(self.tenants.read().get(tenant).map_or_else(ChangeMark::default, |tenant| tenant.changes.mark()))
    }

    fn changed_since(&self, tenant: &TenantId, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        self.tenants.read().get(tenant)?.changes.since(mark, range)
    }

    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        Ok(self.open_leaf(tenant, plan, context)?.stream())
    }

    fn open_leaf(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        let (found, plan) = match plan {
            LeafPlan::Raw(plan) => (self.raw(tenant, plan, context)?, None),
            LeafPlan::Grid(plan) => (self.raw(tenant, &raw_of(plan), context)?, Some(plan.clone())),
            LeafPlan::Aggregate { grid, aggregation, grouping } => {
                let found = self.raw(tenant, &raw_of(grid), context)?;
                let groups = aggregate(found, grid, *aggregation, grouping, context)?;
                return Ok(Box::new(WholeLeaf::new(groups)));
            }
        };
        Ok(Box::new(MemoryLeaf { found, plan, context: context.clone() }))
    }

    fn series(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        let found = self.with_selected(tenant, matcher_sets, context, |labels, series| {
            series.has_points(range).then(|| labels.clone())
        })?;
        Ok(Box::new(found.into_iter().map(Ok)))
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let mut names = BTreeSet::new();
        for labels in self.series(tenant, &query.matcher_sets, query.range, context)? {
            names.extend(labels?.iter().map(|(name, _)| name.to_owned()));
        }
        Ok(names.into_iter().take(query.limit).collect())
    }

    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let mut values = BTreeSet::new();
        for labels in self.series(tenant, &query.matcher_sets, query.range, context)? {
            values.extend(labels?.get(name).map(str::to_owned));
        }
        Ok(values.into_iter().take(query.limit).collect())
    }

    fn exemplars(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.with_selected(tenant, matcher_sets, context, |labels, series| {
            let inside = series.exemplars.values().filter(|exemplar| range.contains(exemplar.timestamp_ms));
            let exemplars: Vec<_> = inside.cloned().collect();
            (!exemplars.is_empty()).then(|| ExemplarSeries { labels: labels.clone(), exemplars })
        })
    }

    fn metadata(
        &self,
        tenant: &TenantId,
        metric: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetricMetadata>, StorageError> {
        let tenants = self.tenants.read();
        let all = tenants.get(tenant).into_iter().flat_map(|tenant| tenant.metadata.values());
        Ok(all.filter(|found| metric.is_none_or(|metric| found.metric == metric)).take(limit).cloned().collect())
    }

    fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError> {
        let tenants = self.tenants.read();
        let Some(tenant) = tenants.get(tenant) else { return Ok(CardinalityStatus::default()) };
        Ok(count_cardinality(&tenant.series, top))
    }

    fn delete(&self, tenant: &TenantId, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        if matcher_sets.is_empty() {
            return Err(StorageError::Invalid { message: "a deletion names the series it deletes".to_owned() });
        }
        if let Some(tenant) = self.tenants.write().get_mut(tenant) {
            tenant.series.retain(|labels, series| {
                if matcher_sets.iter().any(|matchers| matches_labels(matchers, labels)) {
                    series.points.retain(|at_ms, _| !range.contains(*at_ms));
                    series.exemplars.retain(|(at_ms, _), _| !range.contains(*at_ms));
                }
                !(series.points.is_empty() && series.exemplars.is_empty())
            });
            tenant.changes.changed_everywhere();
        }
        Ok(())
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn stats(&self) -> MetricStoreStats {
        let tenants = self.tenants.read();
        let series = || tenants.values().flat_map(|tenant| tenant.series.values());
        MetricStoreStats {
            head_series: series().count() as u64,
            head_samples: series().map(|series| series.points.len() as u64).sum(),
            ..MetricStoreStats::default()
        }
    }
}

fn count_cardinality(series: &BTreeMap<Labels, Series>, top: usize) -> CardinalityStatus {
    let mut by_metric: HashMap<&str, u64> = HashMap::new();
    let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
    for labels in series.keys() {
        for (name, value) in labels.iter() {
            *by_pair.entry((name, value)).or_default() += 1;
            if name == METRIC_NAME {
                *by_metric.entry(value).or_default() += 1;
            }
        }
    }
    let mut values_by_label: HashMap<&str, u64> = HashMap::new();
    let mut bytes_by_label: HashMap<&str, u64> = HashMap::new();
    for ((name, value), count) in &by_pair {
        *values_by_label.entry(name).or_default() += 1;
        *bytes_by_label.entry(name).or_default() += value.len() as u64 * count;
    }
    let instants = || series.values().flat_map(|series| series.points.keys());
    CardinalityStatus {
        series: series.len() as u64,
        label_pairs: by_pair.len() as u64,
        chunks: series.len() as u64,
        min_time_ms: instants().min().copied().unwrap_or(0),
        max_time_ms: instants().max().copied().unwrap_or(0),
        series_by_metric: largest(by_metric.iter().map(|(name, count)| ((*name).to_owned(), *count)), top),
        values_by_label: largest(values_by_label.iter().map(|(name, count)| ((*name).to_owned(), *count)), top),
        bytes_by_label: largest(bytes_by_label.iter().map(|(name, count)| ((*name).to_owned(), *count)), top),
        series_by_pair: largest(by_pair.iter().map(|((name, value), count)| (format!("{name}={value}"), *count)), top),
    }
}

fn largest(counts: impl Iterator<Item = (String, u64)>, top: usize) -> Vec<CardinalityEntry> {
    let mut entries: Vec<_> = counts.map(|(name, value)| CardinalityEntry { name, value }).collect();
    entries.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    entries.truncate(top);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_model::{BatchBuilder, LabelsBuilder, Sample};

    fn batch(name: &str, samples: &[(i64, f64)]) -> MetricBatch {
        let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        for &(timestamp_ms, value) in samples {
            builder.push_sample(Sample { timestamp_ms, value }, 0);
        }
        labels.push(METRIC_NAME, name);
        builder.finish_series(&mut labels).unwrap();
        builder.build()
    }

    #[test]
    fn samples_come_back_in_order_and_the_last_one_wins() {
        let (store, tenant) = (MemoryMetricStore::new(), TenantId::default());
        for samples in [[(20, 2.0), (10, 1.0)], [(20, 3.0), (30, 4.0)]] {
            store.append(&tenant, batch("m", &samples), BatchId::random()).wait().unwrap().unwrap();
        }
        let plan = RawPlan { matchers: vec![Matcher::equal(METRIC_NAME, "m")], range: TimeRange::new(10, 30) };
        let found: Vec<_> =
            store.leaf(&tenant, &LeafPlan::Raw(plan.clone()), &ReadContext::unlimited()).unwrap().collect();
        let [Ok(LeafSeries::Raw(series))] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (series.timestamps_ms.as_slice(), series.values.as_slice()),
            ([10, 20].as_slice(), [1.0, 3.0].as_slice())
        );
        let other: TenantId = "other".parse().unwrap();
        assert_eq!(store.leaf(&other, &LeafPlan::Raw(plan), &ReadContext::unlimited()).unwrap().count(), 0);
    }

    #[test]
    fn a_batch_with_broken_labels_leaves_nothing_behind() {
        let (store, tenant) = (MemoryMetricStore::new(), TenantId::default());
        let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        for name in ["a", "b"] {
            builder.push_sample(Sample { timestamp_ms: 1, value: 1.0 }, 0);
            labels.push(METRIC_NAME, name);
            builder.finish_series(&mut labels).unwrap();
        }
        let mut batch = builder.build();
        let last = batch.label_bytes.len() - 1;
        batch.label_bytes[last] = 0xff;
        let refused = store.append(&tenant, batch, BatchId::random()).wait().unwrap();
        assert!(matches!(refused, Err(StorageError::Invalid { .. })), "{refused:?}");
        assert_eq!(store.series(&tenant, &[], TimeRange::ALL, &ReadContext::unlimited()).unwrap().count(), 0);
    }
}
