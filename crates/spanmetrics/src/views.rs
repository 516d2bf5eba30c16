//! Answers metrics by names they are not stored under.
//!
//! A [`MetricStore`] around another: every call is the inner store's, and where a selector may select a view
//! (`docs/metrics.md` has the table) the view's series come after the stored ones. Whoever asks cannot tell a view from a
//! stored metric: names, labels, values, instants, start timestamps, stale markers and exemplars are what they would be.
//!
//! - Where a series of that very name and these labels is stored as well (somebody else sends it), the stored one is the
//!   answer.
//! - A view of floats is read as the store reads its source, grids included. One that is cut from native histograms is
//!   read raw. Aggregates are left to the engine, which joins the grids.
//! - A delete names stored series; what is made of them goes with them. One that names only a view is refused.

mod expand;
mod table;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use pharos_base::Completion;
use pharos_model::{
    Fingerprint, Labels, LabelsBuilder, METRIC_NAME, Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange,
};
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ChangeMark, ExemplarSeries, GridPlan, GridSeries,
    LabelQuery, LeafPlan, LeafSeries, LeafStream, MetricStore, MetricStoreStats, OpenLeaf, RawPlan, ReadContext,
    SeriesStream, StorageError, StoredBlock, WholeLeaf,
};

use crate::names::{LE, SERVICE_NAME};
use expand::Expanded;
use table::{Selection, Shape, VIEWS, bound_text, is_view, selections};

/// A store of metrics that also answers the classic and Tempo's names of what is made of spans.
pub struct SpanMetricViews {
    inner: Arc<dyn MetricStore>,
}

impl std::fmt::Debug for SpanMetricViews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpanMetricViews")
    }
}

impl SpanMetricViews {
    /// Views of what `inner` stores.
    #[must_use]
    pub fn new(inner: Arc<dyn MetricStore>) -> Self {
        Self { inner }
    }

    /// The stored series of a plan, then those of its views. `plan_of` makes the same plan of other matchers.
    fn with_views(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        found: Vec<Selection>,
        range: TimeRange,
        context: &ReadContext,
        plan_of: impl Fn(Vec<Matcher>) -> LeafPlan,
    ) -> Result<LeafStream, StorageError> {
        let stored = self.inner.leaf(tenant, plan, context)?;
        let mut views: Vec<LeafStream> = Vec::with_capacity(found.len());
        for selection in found {
            let plan = match selection.view.shape {
                Shape::Same => plan_of(selection.matchers.clone()),
                _ => LeafPlan::Raw(RawPlan { matchers: selection.matchers.clone(), range }),
            };
            let source = self.inner.leaf(tenant, &plan, context)?;
            views.push(view_of(Arc::new(selection), source, context.clone()));
        }
        Ok(stored_first(stored, views, series_labels, context.clone()))
    }

    /// The matcher sets of each view that may be selected by any of `sets`; no sets select all.
    fn selections_of(sets: &[Vec<Matcher>]) -> Vec<Selection> {
        if sets.is_empty() { selections(&[]).collect() } else { sets.iter().flat_map(|set| selections(set)).collect() }
    }
}

/// The labels of a series of an answer.
fn series_labels(series: &LeafSeries) -> &Labels {
    match series {
        LeafSeries::Raw(series) => &series.labels,
        LeafSeries::Grid(series) => &series.labels,
    }
}

/// What a view makes of its source.
fn view_of(selection: Arc<Selection>, source: LeafStream, context: ReadContext) -> LeafStream {
    let mut builder = LabelsBuilder::default();
    let made = source.flat_map(move |series| -> LeafStream {
        let series = match series {
            Ok(LeafSeries::Raw(series)) => series,
            Ok(LeafSeries::Grid(GridSeries { labels, values })) => {
                let labels = selection.view.labels(&labels, None, &mut builder);
                return Box::new(std::iter::once(Ok(LeafSeries::Grid(GridSeries { labels, values }))));
            }
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        // The source is held while its buckets are read.
        let bytes =
            series.histograms.iter().map(|sample| 128 + 8 * sample.histogram.positive.counts.len() as u64).sum();
        match context.memory.reserve(bytes) {
            Ok(held) => {
                let expanded = Expanded::new(&selection, series);
                Box::new(expanded.map(move |series| {
                    let _held = &held;
                    Ok(LeafSeries::Raw(series))
                }))
            }
            Err(error) => Box::new(std::iter::once(Err(error.into()))),
        }
    });
    Box::new(made)
}

/// Stored items, then those of views that no stored one has the labels of. Ends after an error.
fn stored_first<T: Send + 'static>(
    stored: impl Iterator<Item = Result<T, StorageError>> + Send + 'static,
    views: Vec<Box<dyn Iterator<Item = Result<T, StorageError>> + Send>>,
    labels: impl Fn(&T) -> &Labels + Send + Copy + 'static,
    context: ReadContext,
) -> Box<dyn Iterator<Item = Result<T, StorageError>> + Send> {
    let mut taken: HashSet<Fingerprint> = HashSet::new();
    let (mut stored, mut views) = (Some(stored), views.into_iter().flatten());
    let (mut count, mut is_over) = (0_u64, false);
    Box::new(std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let next = loop {
            if let Some(rest) = &mut stored {
                match rest.next() {
                    Some(Ok(item)) => {
                        if is_view(labels(&item).metric_name()) {
                            taken.insert(labels(&item).fingerprint());
                        }
                        break Some(Ok(item));
                    }
                    Some(Err(error)) => break Some(Err(error)),
                    None => stored = None,
                }
                continue;
            }
            match views.next() {
                // Two matcher sets may select one series.
                Some(Ok(item)) if !taken.insert(labels(&item).fingerprint()) => {}
                Some(Ok(item)) => {
                    count += 1;
                    let checked =
                        context.check().map_err(StorageError::from).and_then(|()| context.check_series(count));
                    break Some(checked.map(|()| item));
                }
                other => break other,
            }
        };
        is_over = !matches!(next, Some(Ok(_)));
        next
    }))
}

fn raw_range(plan: &LeafPlan) -> (&[Matcher], TimeRange) {
    match plan {
        LeafPlan::Raw(plan) => (&plan.matchers, plan.range),
        LeafPlan::Grid(plan) | LeafPlan::Aggregate { grid: plan, .. } => (&plan.matchers, plan.read_range()),
    }
}

impl MetricStore for SpanMetricViews {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.inner.append(tenant, batch, id)
    }

    fn is_busy(&self) -> bool {
        self.inner.is_busy()
    }

    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        let (matchers, range) = raw_range(plan);
        let found: Vec<Selection> = selections(matchers).collect();
        if found.is_empty() {
            return self.inner.leaf(tenant, plan, context);
        }
        match plan {
            LeafPlan::Raw(_) => self
                .with_views(tenant, plan, found, range, context, |matchers| LeafPlan::Raw(RawPlan { matchers, range })),
            LeafPlan::Grid(grid) => self.with_views(tenant, plan, found, range, context, |matchers| {
                LeafPlan::Grid(GridPlan { matchers, ..grid.clone() })
            }),
            LeafPlan::Aggregate { .. } => {
                // Without any of our own series there is nothing to view.
                if self.has_any(tenant, &found, range, context)? {
                    Err(StorageError::Unsupported { what: "aggregates of metrics that are made of others".to_owned() })
                } else {
                    self.inner.leaf(tenant, plan, context)
                }
            }
        }
    }

    fn open_leaf(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        if selections(raw_range(plan).0).next().is_none() {
            return self.inner.open_leaf(tenant, plan, context);
        }
        Ok(Box::new(WholeLeaf::new(self.leaf(tenant, plan, context)?)))
    }

    fn change_mark(&self, tenant: &TenantId) -> Option<ChangeMark> {
        self.inner.change_mark(tenant)
    }

    fn changed_since(&self, tenant: &TenantId, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        self.inner.changed_since(tenant, mark, range)
    }

    fn series(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        let stored = self.inner.series(tenant, matcher_sets, range, context)?;
        let mut views: Vec<SeriesStream> = Vec::new();
        for selection in Self::selections_of(matcher_sets) {
            let sets = std::slice::from_ref(&selection.matchers);
            let source = self.inner.series(tenant, sets, range, context)?;
            views.push(Box::new(source.flat_map(move |labels| listed(&selection, labels))));
        }
        if views.is_empty() {
            return Ok(stored);
        }
        Ok(stored_first(stored, views, |labels| labels, context.clone()))
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let mut names: BTreeSet<String> = self.inner.label_names(tenant, query, context)?.into_iter().collect();
        for selection in Self::selections_of(&query.matcher_sets) {
            let found = self.inner.label_names(tenant, &of_source(&selection, query, usize::MAX), context)?;
            if !found.is_empty() && selection.view.shape == Shape::Bucket {
                names.insert(LE.to_owned());
            }
            names.extend(found.iter().map(|name| selection.view.label_name(name).to_owned()));
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
        let mut values: BTreeSet<String> = self.inner.label_values(tenant, name, query, context)?.into_iter().collect();
        for selection in Self::selections_of(&query.matcher_sets) {
            let view = selection.view;
            let limited = of_source(&selection, query, query.limit);
            let of_source = |name: &str| self.inner.label_values(tenant, name, &limited, context);
            match name {
                METRIC_NAME if values.contains(view.name) => {}
                METRIC_NAME => values.extend((!of_source(METRIC_NAME)?.is_empty()).then(|| view.name.to_owned())),
                LE if view.shape == Shape::Bucket => {
                    if !of_source(METRIC_NAME)?.is_empty() {
                        values.extend(view.bound_texts().filter(|bound| selection.takes_bound(bound)));
                    }
                }
                // Hidden behind the other naming's label.
                SERVICE_NAME if view.is_tempo => {}
                crate::names::SERVICE if view.is_tempo => values.extend(of_source(SERVICE_NAME)?),
                name => values.extend(of_source(name)?),
            }
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
        let mut all = self.inner.exemplars(tenant, matcher_sets, range, context)?;
        let stored: HashSet<Fingerprint> = all.iter().map(|series| series.labels.fingerprint()).collect();
        let mut taken = stored.clone();
        for selection in Self::selections_of(matcher_sets) {
            let sets = std::slice::from_ref(&selection.matchers);
            for source in self.inner.exemplars(tenant, sets, range, context)? {
                let made = exemplars_of(&selection, &source);
                all.extend(made.into_iter().filter(|series| taken.insert(series.labels.fingerprint())));
            }
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(all)
    }

    fn metadata(
        &self,
        tenant: &TenantId,
        metric: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetricMetadata>, StorageError> {
        let mut all = self.inner.metadata(tenant, metric, limit)?;
        for view in VIEWS.iter().filter(|view| metric.is_none_or(|metric| metric == view.name)) {
            let Some((name, kind, unit)) = view.family() else { continue };
            if all.iter().any(|found| found.metric == name) {
                continue;
            }
            if let Some(source) = self.inner.metadata(tenant, Some(view.source), 1)?.pop() {
                all.push(MetricMetadata { metric: name.to_owned(), kind, help: source.help, unit: unit.to_owned() });
            }
        }
        all.sort_by(|a, b| a.metric.cmp(&b.metric));
        all.truncate(limit);
        Ok(all)
    }

    fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError> {
        self.inner.cardinality(tenant, top)
    }

    fn blocks(&self, tenant: &TenantId) -> Result<Vec<StoredBlock>, StorageError> {
        self.inner.blocks(tenant)
    }

    fn delete(&self, tenant: &TenantId, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        for set in matcher_sets {
            let names: Vec<&Matcher> =
                set.iter().filter(|matcher| matcher.name() == METRIC_NAME && !matcher.matches_empty()).collect();
            let takes = |metric: &str| names.iter().all(|matcher| matcher.matches(metric));
            let view = selections(set).map(|selection| selection.view).find(|view| !takes(view.source));
            if let Some(view) = view.filter(|_| !names.is_empty()) {
                let (name, source) = (view.name, view.source);
                let message = format!("{name} is not stored, it is made of {source}: delete that");
                return Err(StorageError::Invalid { message });
            }
        }
        self.inner.delete(tenant, matcher_sets, range)
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        self.inner.clean_tombstones()
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.inner.flush()
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.inner.compact()
    }

    fn create_snapshot(&self, name: &str, head: bool) -> Result<(), StorageError> {
        self.inner.create_snapshot(name, head)
    }

    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        self.inner.snapshots()
    }

    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        self.inner.delete_snapshot(name)
    }

    fn stats(&self) -> MetricStoreStats {
        self.inner.stats()
    }
}

impl SpanMetricViews {
    /// Whether any of the views has a series in the range.
    fn has_any(
        &self,
        tenant: &TenantId,
        found: &[Selection],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<bool, StorageError> {
        let matcher_sets = found.iter().map(|selection| selection.matchers.clone()).collect();
        let query = LabelQuery { matcher_sets, range, limit: 1 };
        Ok(!self.inner.label_values(tenant, METRIC_NAME, &query, context)?.is_empty())
    }
}

/// The question a view's source is asked in place of the view.
fn of_source(selection: &Selection, query: &LabelQuery, limit: usize) -> LabelQuery {
    LabelQuery { matcher_sets: vec![selection.matchers.clone()], range: query.range, limit }
}

/// The label sets made of one of the source.
fn listed(selection: &Selection, labels: Result<Labels, StorageError>) -> Vec<Result<Labels, StorageError>> {
    let labels = match labels {
        Ok(labels) => labels,
        Err(error) => return vec![Err(error)],
    };
    let (view, mut builder) = (selection.view, LabelsBuilder::default());
    if view.shape != Shape::Bucket {
        return vec![Ok(view.labels(&labels, None, &mut builder))];
    }
    let bounds = view.bound_texts().filter(|bound| selection.takes_bound(bound));
    bounds.map(|bound| Ok(view.labels(&labels, Some(&bound), &mut builder))).collect()
}

/// The exemplars of a view: of its buckets each has those that fall into it. Sums and counts have none.
fn exemplars_of(selection: &Selection, source: &ExemplarSeries) -> Vec<ExemplarSeries> {
    let (view, mut builder) = (selection.view, LabelsBuilder::default());
    let in_unit = || {
        source.exemplars.iter().cloned().map(|mut exemplar| {
            exemplar.value /= view.divisor;
            exemplar
        })
    };
    match view.shape {
        Shape::Sum | Shape::Count => Vec::new(),
        Shape::Same | Shape::Native => {
            let labels = view.labels(&source.labels, None, &mut builder);
            vec![ExemplarSeries { labels, exemplars: in_unit().collect() }]
        }
        Shape::Bucket => {
            let mut made = Vec::new();
            let mut lower = f64::NEG_INFINITY;
            for bound in view.bounds() {
                let exemplars: Vec<_> =
                    in_unit().filter(|exemplar| lower < exemplar.value && exemplar.value <= bound).collect();
                lower = bound;
                let text = bound_text(bound);
                if !exemplars.is_empty() && selection.takes_bound(&text) {
                    made.push(ExemplarSeries {
                        labels: view.labels(&source.labels, Some(&text), &mut builder),
                        exemplars,
                    });
                }
            }
            made
        }
    }
}
