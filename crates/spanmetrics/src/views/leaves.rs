//! Series of views: what is stored comes first, then what is made of it.

use std::collections::HashSet;
use std::sync::Arc;

use pharos_model::{Fingerprint, Labels, LabelsBuilder, METRIC_NAME, Matcher, TenantId, TimeRange};
use pharos_storage::{
    GridPlan, GridSeries, LabelQuery, LeafPlan, LeafSeries, LeafStream, MetricStore, RawPlan, ReadContext, StorageError,
};

use super::expand::Expanded;
use super::table::{Selection, Shape, is_view, selections};

/// What a plan selects: what is stored, then what is made of it.
pub(super) fn leaf(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    plan: &LeafPlan,
    context: &ReadContext,
) -> Result<LeafStream, StorageError> {
    let (matchers, range) = raw_range(plan);
    let found: Vec<Selection> = selections(matchers).collect();
    if found.is_empty() {
        return inner.leaf(tenant, plan, context);
    }
    match plan {
        LeafPlan::Raw(_) => with_views(inner, tenant, plan, found, range, context, |matchers| {
            LeafPlan::Raw(RawPlan { matchers, range })
        }),
        LeafPlan::Grid(grid) => with_views(inner, tenant, plan, found, range, context, |matchers| {
            LeafPlan::Grid(GridPlan { matchers, ..grid.clone() })
        }),
        LeafPlan::Aggregate { .. } => {
            // Without any of our own series there is nothing to view.
            if has_any(inner, tenant, &found, range, context)? {
                Err(StorageError::Unsupported { what: "aggregates of metrics that are made of others".to_owned() })
            } else {
                inner.leaf(tenant, plan, context)
            }
        }
    }
}

/// Which series a plan reads, and when.
pub(super) fn raw_range(plan: &LeafPlan) -> (&[Matcher], TimeRange) {
    match plan {
        LeafPlan::Raw(plan) => (&plan.matchers, plan.range),
        LeafPlan::Grid(plan) | LeafPlan::Aggregate { grid: plan, .. } => (&plan.matchers, plan.read_range()),
    }
}

/// The stored series of a plan, then those of its views. `plan_of` makes the same plan of other matchers.
fn with_views(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    plan: &LeafPlan,
    found: Vec<Selection>,
    range: TimeRange,
    context: &ReadContext,
    plan_of: impl Fn(Vec<Matcher>) -> LeafPlan,
) -> Result<LeafStream, StorageError> {
    let stored = inner.leaf(tenant, plan, context)?;
    let mut views: Vec<LeafStream> = Vec::with_capacity(found.len());
    for selection in found {
        let plan = match selection.view.shape {
            Shape::Same => plan_of(selection.matchers.clone()),
            _ => LeafPlan::Raw(RawPlan { matchers: selection.matchers.clone(), range }),
        };
        let source = inner.leaf(tenant, &plan, context)?;
        views.push(view_of(Arc::new(selection), source, context.clone()));
    }
    Ok(stored_first(stored, views, series_labels, context.clone()))
}

/// Whether any of the views has a series in the range.
fn has_any(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    found: &[Selection],
    range: TimeRange,
    context: &ReadContext,
) -> Result<bool, StorageError> {
    let matcher_sets = found.iter().map(|selection| selection.matchers.clone()).collect();
    let query = LabelQuery { matcher_sets, range, limit: 1 };
    Ok(!inner.label_values(tenant, METRIC_NAME, &query, context)?.is_empty())
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
pub(super) fn stored_first<T: Send + 'static>(
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
