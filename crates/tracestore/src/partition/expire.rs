//! The end of one tenant's spans in a partition that goes on for others.

use std::sync::Arc;

use pharos_model::TenantId;
use rocksdb::WriteBatch;

use super::Partition;
use super::keys::{expired_key, tenant_range};
use super::segment::Segment;
use crate::TraceStoreError;

/// Entries that begin with a tenant's number.
const TENANT_KINDS: [u8; 8] = [b'O', b'N', b'C', b'E', b'S', b'F', b'L', b'V'];

impl Partition {
    /// Tenants with spans here.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.state.read().tenants.keys().cloned().collect()
    }

    /// How many tenants have spans here, if this one has none.
    pub(crate) fn tenants_besides(&self, tenant: &TenantId) -> Option<usize> {
        let state = self.state.read();
        (!state.tenants.contains_key(tenant)).then(|| state.tenants.len())
    }

    /// Bytes that a tenant's spans take on disk, about: blocks and what lies beside them, and as much of the search index as their
    /// share of all spans. `None` if it has none here.
    pub(crate) fn tenant_bytes(&self, tenant: &TenantId) -> Option<u64> {
        let (number, spans, all) = {
            let state = self.state.read();
            let number = state.tenants.get(tenant).copied()?;
            let count = |segment: &Arc<Segment>| segment.record.span_count;
            (number, state.segments.of(number).iter().map(count).sum::<u64>(), state.segments.iter().map(count).sum())
        };
        let small: Vec<_> = TENANT_KINDS.map(|kind| tenant_range(kind, number)).into();
        let share = u128::from(self.index.bytes()) * u128::from(spans) / u128::from(u64::max(all, 1));
        Some(self.database.tenant_bytes(number, &small) + share as u64)
    }

    /// Tenants whose spans were dropped while the day goes on for others.
    pub(crate) fn expired_tenants(&self) -> Vec<TenantId> {
        self.state.read().expired.keys().cloned().collect()
    }

    /// Drops all that a tenant has here, for good; nothing of it may come any more. The bytes go as soon as nobody reads
    /// them. Returns whether it was done: not while a checkpoint is under way.
    pub(crate) fn drop_tenant(&self, tenant: &TenantId) -> Result<bool, TraceStoreError> {
        let mut state = self.state.write();
        let Some(number) = state.tenants.get(tenant).copied().filter(|_| state.sealing.is_none()) else {
            return Ok(false);
        };
        let mut batch = WriteBatch::default();
        // Origins stay for those who read its spans now.
        for kind in [b'N', b'C', b'E', b'S', b'F', b'D'] {
            let (from, until) = tenant_range(kind, number);
            batch.delete_range(from, until);
        }
        batch.put(expired_key(number), []);
        self.database.write(batch)?;
        let state = &mut *state;
        state.tenants.remove(tenant);
        state.expired.insert(tenant.clone(), number);
        state.active.head.remove_tenant(number);
        state.active.tail.remove_tenant(number);
        state.edges.remove_tenant(number);
        state.active.edges.retain(|(of, ..)| *of != number);
        state.active.calls.retain(|(of, ..), _| *of != number);
        state.active.deletions.retain(|(of, _)| *of != number);
        state.deleted.remove(&number);
        state.names.remove(tenant);
        state.catalogue.remove(tenant);
        let dropped = Arc::make_mut(&mut state.segments).remove_tenant(number);
        state.departed.push(number);
        state.unlisted.extend(dropped.iter().map(|segment| (number, segment.number)));
        state.retired.extend(dropped);
        // So that the next checkpoint makes it durable.
        state.is_dirty = true;
        Ok(true)
    }
}
