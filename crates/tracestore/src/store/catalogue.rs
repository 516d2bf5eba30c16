//! Lists of attribute keys and values, over all days, newest first.

use std::sync::Arc;

use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{
    AttributeKey, AttributeKeyQuery, Listed, ListedValue, ReadContext, SpanPredicate, SpanReference, StorageError,
    TraceQuery, ValueQuery,
};

use super::Shared;
use crate::search::{Listing, Search, Wanted};

/// Blocks of about 2,000 spans that are read for one list, the newest; where more would have to be, the list is not complete.
/// Words of the index tell of all others without a look.
const BLOCKS_READ_MAX: usize = 500;

impl Shared {
    pub(super) fn attribute_keys(
        self: &Arc<Self>,
        tenant: &TenantId,
        query: &AttributeKeyQuery,
        context: &ReadContext,
    ) -> Result<Listed<AttributeKey>, StorageError> {
        let mut listing = Listing::new(Wanted::Keys(query.level), query.limit, BLOCKS_READ_MAX, context)?;
        self.list(tenant, query.range, query.predicate.clone(), &mut listing, context)?;
        Ok(listing.into_keys())
    }

    pub(super) fn listed_values(
        self: &Arc<Self>,
        tenant: &TenantId,
        query: &ValueQuery,
        context: &ReadContext,
    ) -> Result<Listed<ListedValue>, StorageError> {
        query.check()?;
        let mut listing = Listing::new(Wanted::Values(&query.of), query.limit, BLOCKS_READ_MAX, context)?;
        let predicate = query.predicate.clone().map(|predicate| with_value(predicate, &query.of));
        self.list(tenant, query.range, predicate, &mut listing, context)?;
        Ok(listing.into_values())
    }

    fn list(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        predicate: Option<SpanPredicate>,
        listing: &mut Listing<'_>,
        context: &ReadContext,
    ) -> Result<(), StorageError> {
        if range.start_ns >= range.end_ns {
            return Ok(());
        }
        let query = predicate.map(|predicate| TraceQuery {
            service: None,
            operation: None,
            filters: Vec::new(),
            predicate: Some(predicate),
            start: range,
            duration_min_ns: None,
            duration_max_ns: None,
            limit: 1,
        });
        let search = query.as_ref().map(Search::new);
        for partition in self.partitions_newest_first() {
            let day = partition.day();
            if day.start_ns() >= range.end_ns || day.last_ns() < range.start_ns {
                continue;
            }
            context.check()?;
            partition.list(tenant, search.as_ref(), listing, context)?;
            if listing.is_full() {
                break;
            }
        }
        Ok(())
    }
}

/// Blocks without a value of the subject need no look.
fn with_value(predicate: SpanPredicate, of: &SpanReference) -> SpanPredicate {
    SpanPredicate::And(vec![SpanPredicate::Exists(of.clone()), predicate])
}
