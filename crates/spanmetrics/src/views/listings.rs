//! Listings in which views stand as if they were stored: series, names and values of labels, exemplars, metadata.

use std::collections::{BTreeSet, HashSet};

use pharos_model::{Fingerprint, Labels, LabelsBuilder, METRIC_NAME, Matcher, MetricMetadata, TenantId, TimeRange};
use pharos_storage::{ExemplarSeries, LabelQuery, MetricStore, ReadContext, SeriesStream, StorageError};

use super::leaves::stored_first;
use super::table::{Selection, Shape, VIEWS, bound_text, selections};
use crate::names::{LE, SERVICE, SERVICE_NAME};

/// Label sets, each once.
pub(super) fn series(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
    context: &ReadContext,
) -> Result<SeriesStream, StorageError> {
    let stored = inner.series(tenant, matcher_sets, range, context)?;
    let mut views: Vec<SeriesStream> = Vec::new();
    for selection in selections_of(matcher_sets) {
        let sets = std::slice::from_ref(&selection.matchers);
        let source = inner.series(tenant, sets, range, context)?;
        views.push(Box::new(source.flat_map(move |labels| listed(&selection, labels))));
    }
    if views.is_empty() {
        return Ok(stored);
    }
    Ok(stored_first(stored, views, |labels| labels, context.clone()))
}

/// Names of labels.
pub(super) fn label_names(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    query: &LabelQuery,
    context: &ReadContext,
) -> Result<Vec<String>, StorageError> {
    let mut names: BTreeSet<String> = inner.label_names(tenant, query, context)?.into_iter().collect();
    for selection in selections_of(&query.matcher_sets) {
        let found = inner.label_names(tenant, &of_source(&selection, query, usize::MAX), context)?;
        if !found.is_empty() && selection.view.shape == Shape::Bucket {
            names.insert(LE.to_owned());
        }
        names.extend(found.iter().map(|name| selection.view.label_name(name).to_owned()));
    }
    Ok(names.into_iter().take(query.limit).collect())
}

/// Values of a label.
pub(super) fn label_values(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    name: &str,
    query: &LabelQuery,
    context: &ReadContext,
) -> Result<Vec<String>, StorageError> {
    let mut values: BTreeSet<String> = inner.label_values(tenant, name, query, context)?.into_iter().collect();
    for selection in selections_of(&query.matcher_sets) {
        let view = selection.view;
        let limited = of_source(&selection, query, query.limit);
        let of_source = |name: &str| inner.label_values(tenant, name, &limited, context);
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
            SERVICE if view.is_tempo => values.extend(of_source(SERVICE_NAME)?),
            name => values.extend(of_source(name)?),
        }
    }
    Ok(values.into_iter().take(query.limit).collect())
}

/// Exemplars, by labels.
pub(super) fn exemplars(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
    context: &ReadContext,
) -> Result<Vec<ExemplarSeries>, StorageError> {
    let mut all = inner.exemplars(tenant, matcher_sets, range, context)?;
    let stored: HashSet<Fingerprint> = all.iter().map(|series| series.labels.fingerprint()).collect();
    let mut taken = stored.clone();
    for selection in selections_of(matcher_sets) {
        let sets = std::slice::from_ref(&selection.matchers);
        for source in inner.exemplars(tenant, sets, range, context)? {
            let made = exemplars_of(&selection, &source);
            all.extend(made.into_iter().filter(|series| taken.insert(series.labels.fingerprint())));
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(all)
}

/// Metadata, by name.
pub(super) fn metadata(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    metric: Option<&str>,
    limit: usize,
) -> Result<Vec<MetricMetadata>, StorageError> {
    let mut all = inner.metadata(tenant, metric, limit)?;
    for view in VIEWS.iter().filter(|view| metric.is_none_or(|metric| metric == view.name)) {
        let Some((name, kind, unit)) = view.family() else { continue };
        if all.iter().any(|found| found.metric == name) {
            continue;
        }
        if let Some(source) = inner.metadata(tenant, Some(view.source), 1)?.pop() {
            all.push(MetricMetadata { metric: name.to_owned(), kind, help: source.help, unit: unit.to_owned() });
        }
    }
    all.sort_by(|a, b| a.metric.cmp(&b.metric));
    all.truncate(limit);
    Ok(all)
}

/// The matcher sets of each view that may be selected by any of `sets`; no sets select all.
fn selections_of(sets: &[Vec<Matcher>]) -> Vec<Selection> {
    if sets.is_empty() { selections(&[]).collect() } else { sets.iter().flat_map(|set| selections(set)).collect() }
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
