//! The contract's listings: series, label names and label values, answered by the indexes alone.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use pharos_model::{Matcher, TenantId, TimeRange};
use pharos_storage::{LabelQuery, ReadContext, SeriesStream, StorageError};

use crate::read::{Order, labels_of, until_error};
use crate::shared::Shared;

impl Shared {
    pub(crate) fn series(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        let mut selection = self.select(tenant, sets, self.kept(tenant, range), Order::Labels, context)?;
        let mut count = 0;
        Ok(Box::new(until_error(move || {
            if !selection.next()? {
                return Ok(None);
            }
            count += 1;
            selection.context().check_series(count)?;
            labels_of(selection.labels()?).map(Some)
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
        let mut names = Distinct::default();
        for part in &view.parts {
            context.check()?;
            let selected = view.selected(part, &query.matcher_sets, range)?;
            part.index.label_names(selected.as_ref(), |name| names.add(name))?;
        }
        for generation in &view.generations {
            context.check()?;
            if view.hiding.concerns_generation(generation, range) {
                for (labels, _) in view.selected_of_generation(generation, &query.matcher_sets, range)? {
                    labels.iter().for_each(|(name, _)| names.add(name));
                }
            } else {
                generation.label_names(&query.matcher_sets, range, |name| names.add(name))?;
            }
        }
        Ok(names.first(query.limit))
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
        let mut values = Distinct::default();
        for part in &view.parts {
            context.check()?;
            let selected = view.selected(part, &query.matcher_sets, range)?;
            part.index.label_values(name, selected.as_ref(), |value| values.add(value))?;
        }
        for generation in &view.generations {
            context.check()?;
            if view.hiding.concerns_generation(generation, range) {
                for (labels, _) in view.selected_of_generation(generation, &query.matcher_sets, range)? {
                    labels.get(name).into_iter().for_each(|value| values.add(value));
                }
            } else {
                generation.label_values(name, &query.matcher_sets, range, |value| values.add(value))?;
            }
        }
        Ok(values.first(query.limit))
    }
}

/// Texts, each once.
#[derive(Debug, Default)]
struct Distinct {
    texts: Vec<String>,
    table: HashTable<u32>,
}

impl Distinct {
    fn add(&mut self, text: &str) {
        let hash = |text: &str| FixedState::default().hash_one(text);
        let (texts, hashed) = (&mut self.texts, hash(text));
        if self.table.find(hashed, |at| texts[*at as usize] == text).is_none() {
            self.table.insert_unique(hashed, texts.len() as u32, |at| hash(&texts[*at as usize]));
            texts.push(text.to_owned());
        }
    }

    /// The alphabetically first, sorted.
    fn first(mut self, limit: usize) -> Vec<String> {
        if limit < self.texts.len() {
            self.texts.select_nth_unstable(limit);
            self.texts.truncate(limit);
        }
        // They came in a few sorted runs, which this sort merges.
        self.texts.sort();
        self.texts
    }
}
