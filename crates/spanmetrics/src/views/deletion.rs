//! Deletes where views are selected: only what is stored can be deleted.

use pharos_model::{METRIC_NAME, Matcher, TenantId, TimeRange};
use pharos_storage::{LabelQuery, MetricStore, ReadContext, StorageError};

use super::table::{Selection, selections};

/// Refuses a delete that would leave behind what it names: a view that has series, is not made of a metric that is deleted
/// as well, and is not stored by that name, too.
pub(super) fn check(
    inner: &dyn MetricStore,
    tenant: &TenantId,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<(), StorageError> {
    let has_any = |matchers: Vec<Matcher>| {
        let query = LabelQuery { matcher_sets: vec![matchers], range, limit: 1 };
        Ok::<_, StorageError>(!inner.label_values(tenant, METRIC_NAME, &query, &ReadContext::unlimited())?.is_empty())
    };
    for set in matcher_sets {
        let names: Vec<&Matcher> =
            set.iter().filter(|matcher| matcher.name() == METRIC_NAME && !matcher.matches_empty()).collect();
        if names.is_empty() {
            continue;
        }
        for Selection { view, matchers, .. } in selections(set) {
            if names.iter().all(|matcher| matcher.matches(view.source)) {
                continue;
            }
            let of_that_name = set.iter().cloned().chain([Matcher::equal(METRIC_NAME, view.name)]).collect();
            if has_any(matchers)? && !has_any(of_that_name)? {
                let (name, source) = (view.name, view.source);
                let message = format!("{name} is not stored, it is made of {source}: delete that");
                return Err(StorageError::Invalid { message });
            }
        }
    }
    Ok(())
}
