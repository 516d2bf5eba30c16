//! Series by series into groups.

use pharos_model::Labels;

use crate::{Aggregation, FoldColumn, Grouping, Groups, KeyLabels};

/// Folds grids of series into grids of groups; memory grows with groups, not with series.
#[derive(Debug)]
pub struct GroupFold {
    aggregation: Aggregation,
    steps: usize,
    groups: Groups,
    columns: Vec<(Labels, FoldColumn)>,
}

impl GroupFold {
    /// No groups yet.
    #[must_use]
    pub fn new(aggregation: Aggregation, grouping: &Grouping, steps: usize) -> Self {
        Self { aggregation, steps, groups: Groups::new(KeyLabels::from(grouping)), columns: Vec::new() }
    }

    /// Adds the grid of the series with these canonical label bytes. Before a new group is made, `reserve` is asked
    /// for its bytes.
    ///
    /// # Errors
    /// Those of `reserve`.
    pub fn add<E>(
        &mut self,
        encoded: &[u8],
        grid: &[f64],
        mut reserve: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (number, is_new) = self.groups.number(encoded);
        if is_new {
            let labels = self.groups.key_of(encoded);
            reserve((FoldColumn::bytes(self.aggregation, self.steps) + 2 * labels.encoded().len()) as u64)?;
            self.columns.push((labels, FoldColumn::new(self.aggregation, self.steps)));
        }
        self.columns[number].1.add(grid);
        Ok(())
    }

    /// The groups by labels ascending: an order that does not depend on which series have a value at these steps, so
    /// that what is folded out of the groups has the same bits whichever steps are evaluated together.
    pub fn finish(mut self) -> impl Iterator<Item = (Labels, Vec<f64>)> {
        self.columns.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.columns.into_iter().map(|(labels, column)| (labels, column.finish()))
    }
}
