//! The limit on series, asked before anything is decoded.
//!
//! An index tells how many series a selection may have, and headers of chunks which of them have samples in the range.
//! Only where the first number passes the limit the second is asked for: a selection that stays below it costs
//! nothing, and one that does not is refused without a sample read.

use std::sync::Arc;

use pharos_model::{Matcher, TenantId, TimeRange};
use pharos_storage::{ReadContext, StorageError};

use crate::read::{Order, Selection};
use crate::rollup::Wanted;
use crate::shared::Shared;
use crate::source::Source;

impl Shared {
    /// As [`Shared::select_thin`] in label order, for a reader of many samples.
    ///
    /// # Errors
    /// As there, and the limit on series.
    pub(crate) fn select_counted(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        wanted: Option<&Arc<Wanted>>,
        context: &ReadContext,
    ) -> Result<Selection, StorageError> {
        let (sources, held) = self.sources(tenant, sets, range, (Order::Labels, wanted), context)?;
        self.count_candidates(&sources, tenant, sets, range, context)?;
        Ok(self.walk(sources, held, context))
    }

    /// Refuses the selection that these sources are made of if more series than allowed have samples in the range.
    ///
    /// # Errors
    /// The limit on series, and those of a selection.
    pub(crate) fn count_candidates(
        &self,
        sources: &[Source],
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<(), StorageError> {
        let most: u64 = sources.iter().map(|source| source.series_count() as u64).sum();
        if most <= context.series_max {
            return Ok(());
        }
        let mut selection = self.select(tenant, sets, range, Order::Labels, context)?;
        while selection.next_pulse(range)?.is_some() {}
        Ok(())
    }
}
