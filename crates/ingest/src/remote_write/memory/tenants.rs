//! The memories of all tenants, which share a budget: a request asks once for that of its tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;
use pharos_base::ByteSize;
use pharos_model::TenantId;

use super::SeriesMemory;
use crate::shares::{Budget, Shortage};

/// When memory is short, that of tenants that sent nothing for so long goes.
const IDLE_MINUTES: u32 = 10;

/// A memory for each tenant.
#[derive(Debug)]
pub(crate) struct SeriesMemories {
    budget: Arc<Budget>,
    tenants: RwLock<HashMap<TenantId, Arc<OfTenant>>>,
}

#[derive(Debug)]
pub(crate) struct OfTenant {
    pub(crate) memory: SeriesMemory,
    /// Of its last request.
    used_minute: AtomicU32,
}

impl SeriesMemories {
    /// Empty memories that may take so much together.
    pub(crate) fn new(memory_max: ByteSize) -> Self {
        Self { budget: Arc::new(Budget::new(memory_max.0)), tenants: RwLock::default() }
    }

    /// That of a tenant, whose request it is; empty at first, and after it made room for others.
    pub(crate) fn of(&self, tenant: &TenantId, minute: u32) -> Arc<OfTenant> {
        self.tidy(minute);
        if let Some(found) = self.tenants.read().get(tenant) {
            found.used_minute.store(minute, Ordering::Relaxed);
            return Arc::clone(found);
        }
        let new = || OfTenant { memory: SeriesMemory::within(&self.budget), used_minute: AtomicU32::new(minute) };
        Arc::clone(self.tenants.write().entry_ref(tenant).or_insert_with(|| Arc::new(new())))
    }

    /// Memory taken, bytes, as if no store shared the labels.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.budget.taken_bytes()
    }

    /// Series remembered.
    pub(crate) fn series_count(&self) -> usize {
        let tenants: Vec<_> = self.tenants.read().values().map(Arc::clone).collect();
        tenants.iter().map(|tenant| tenant.memory.series_count()).sum()
    }

    /// If memory was short since the last time, forgets who sent nothing for long, and who has the most if another has next to
    /// nothing and could not have more. What is forgotten goes when its last request is read.
    fn tidy(&self, minute: u32) {
        let shortage = self.budget.look(minute);
        if shortage == Shortage::None {
            return;
        }
        let tenants: Vec<_> =
            self.tenants.read().iter().map(|(tenant, known)| (tenant.clone(), Arc::clone(known))).collect();
        let oldest_minute = minute.saturating_sub(IDLE_MINUTES);
        let mut going: Vec<_> =
            tenants.iter().filter(|(_, known)| known.used_minute.load(Ordering::Relaxed) < oldest_minute).collect();
        if shortage == Shortage::Pressed && going.is_empty() {
            going.extend(tenants.iter().max_by_key(|(_, known)| known.memory.memory_bytes()));
        }
        for (tenant, _) in going {
            self.tenants.write().remove(tenant);
        }
        // What goes is given back here, where nobody waits for the lock: a million series take a while.
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::send;
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    /// Room for so many of the series of [`send`].
    fn memories(series_max: u64) -> SeriesMemories {
        let one = SeriesMemory::default();
        send(&one, [9999]);
        SeriesMemories::new(ByteSize(series_max * one.memory_bytes()))
    }

    #[test]
    fn tenants_have_memories_of_their_own() {
        let memories = memories(1_000);
        let (one, other) = (memories.of(&tenant("1"), 1), memories.of(&tenant("2"), 1));
        send(&one.memory, 0..100);
        assert_eq!(send(&other.memory, 0..100).1, 0);
        assert_eq!(send(&memories.of(&tenant("1"), 2).memory, 0..100).1, 99);
        assert_eq!(memories.series_count(), 200);
    }

    #[test]
    fn a_tenant_whose_labels_change_all_the_time_leaves_room_for_others() {
        let memories = memories(1_000);
        let churn = |minute: u32| {
            let first = 10_000 * minute as usize;
            send(&memories.of(&tenant("churning"), minute).memory, first..first + 2_000);
        };
        let steady = |minute| send(&memories.of(&tenant("steady"), minute).memory, 0..200).1;
        churn(1);
        let full = memories.memory_bytes();
        assert_eq!(steady(1), 0, "and there is no room");
        churn(2);
        steady(2);
        for minute in 3..40 {
            churn(minute);
            assert_eq!(steady(minute), 199, "minute {minute}");
            assert!(memories.memory_bytes() <= full + full / 100);
        }
    }

    #[test]
    fn who_sent_nothing_for_long_makes_room() {
        let memories = memories(1_000);
        send(&memories.of(&tenant("gone"), 1).memory, 0..990);
        send(&memories.of(&tenant("new"), 20).memory, 0..500);
        send(&memories.of(&tenant("new"), 21).memory, 0..500);
        assert!(send(&memories.of(&tenant("new"), 22).memory, 0..500).1 >= 499);
        assert_eq!(memories.series_count(), 500);
    }
}
