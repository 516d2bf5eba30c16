//! The contract's listings: series, label names and label values, answered by the indexes alone.

use pharos_model::{Labels, Matcher, TenantId, TimeRange};
use pharos_storage::{LabelQuery, ReadContext, SeriesStream, StorageError};

use crate::distinct::Distinct;
use crate::read::{Order, until_error};
use crate::shared::Shared;

impl Shared {
    pub(crate) fn series(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        let mut selection = self.select(tenant, sets, self.kept(tenant, range), Order::Any, context)?;
        let mut count = 0;
        Ok(Box::new(until_error(move || {
            if !selection.next()? {
                return Ok(None);
            }
            count += 1;
            selection.context().check_series(count)?;
            Ok(Some(Labels::from_canonical(selection.labels()?)))
        })))
    }

    pub(crate) fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let range = self.kept(tenant, query.range);
        let view = self.view(tenant, range);
        let mut names = Distinct::new(query.limit, context)?;
        for part in &view.parts {
            context.check()?;
            let listed = view
                .selected(part, &query.matcher_sets, range, &context.cancel)
                .and_then(|selected| part.index.label_names(selected.as_ref(), |name| names.add(name)));
            listed.map_err(|error| self.damaged.met_in_query(error))?;
        }
        for generation in &view.generations {
            context.check()?;
            if view.hiding.concerns_generation(generation, range) {
                for (labels, _) in
                    view.selected_of_generation(generation, &query.matcher_sets, range, &context.cancel)?
                {
                    labels.iter().for_each(|(name, _)| _ = names.add(name));
                }
            } else {
                generation.label_names(&query.matcher_sets, (range, &context.cancel), |name| names.add(name))?;
            }
        }
        names.first()
    }

    pub(crate) fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let range = self.kept(tenant, query.range);
        let view = self.view(tenant, range);
        let mut values = Distinct::new(query.limit, context)?;
        for part in &view.parts {
            context.check()?;
            let listed = view
                .selected(part, &query.matcher_sets, range, &context.cancel)
                .and_then(|selected| part.index.label_values(name, selected.as_ref(), |value| values.add(value)));
            listed.map_err(|error| self.damaged.met_in_query(error))?;
        }
        for generation in &view.generations {
            context.check()?;
            if view.hiding.concerns_generation(generation, range) {
                for (labels, _) in
                    view.selected_of_generation(generation, &query.matcher_sets, range, &context.cancel)?
                {
                    labels.get(name).into_iter().for_each(|value| _ = values.add(value));
                }
            } else {
                generation
                    .label_values(name, &query.matcher_sets, (range, &context.cancel), |value| values.add(value))?;
            }
        }
        values.first()
    }
}
