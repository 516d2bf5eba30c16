//! The contract's listings: series, label names and label values, answered by the indexes alone.

use std::collections::BTreeSet;

use pharos_model::{Matcher, TenantId, TimeRange};
use pharos_storage::{LabelQuery, ReadContext, SeriesStream, StorageError};

use crate::index::LabelIndex;
use crate::read::{Selection, until_error};
use crate::shared::Shared;

impl Shared {
    pub(crate) fn series(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        let selection = self.select(tenant, sets, self.kept(range), context)?;
        Ok(Box::new(until_error(selection, Selection::next_labels)))
    }

    pub(crate) fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let range = self.kept(query.range);
        let view = self.view(tenant, range);
        let mut names = BTreeSet::new();
        for part in &view.parts {
            context.check()?;
            let Some(selected) = view.selected(part, &query.matcher_sets, range)? else {
                names.extend(part.index.label_names().map(str::to_owned));
                continue;
            };
            let of_part: BTreeSet<&str> = part.index.label_names().collect();
            for name in of_part {
                if !names.contains(name) && !part.index.any_of(name, &mut |_| true)?.is_disjoint(&selected) {
                    names.insert(name.to_owned());
                }
            }
        }
        for generation in &view.generations {
            context.check()?;
            if view.hiding.concerns_generation(generation, range) {
                for (labels, _) in view.selected_of_generation(generation, &query.matcher_sets, range)? {
                    names.extend(labels.iter().map(|(name, _)| name.to_owned()));
                }
                continue;
            }
            generation.label_names(&query.matcher_sets, range, |name| {
                names.insert(name.to_owned());
            })?;
        }
        Ok(names.into_iter().take(query.limit).collect())
    }

    pub(crate) fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        let range = self.kept(query.range);
        let view = self.view(tenant, range);
        let mut values: BTreeSet<String> = BTreeSet::new();
        let mut add = |value: &str| {
            if !values.contains(value) {
                values.insert(value.to_owned());
            }
        };
        for part in &view.parts {
            context.check()?;
            let selected = view.selected(part, &query.matcher_sets, range)?;
            part.index.label_values(name, selected.as_ref(), &mut add)?;
        }
        for generation in &view.generations {
            context.check()?;
            if view.hiding.concerns_generation(generation, range) {
                for (labels, _) in view.selected_of_generation(generation, &query.matcher_sets, range)? {
                    labels.get(name).into_iter().for_each(&mut add);
                }
                continue;
            }
            generation.label_values(name, &query.matcher_sets, range, &mut add)?;
        }
        Ok(values.into_iter().take(query.limit).collect())
    }
}
