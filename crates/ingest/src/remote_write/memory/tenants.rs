//! The memories of all tenants, which share a budget: a request asks once for that of its tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;
use pharos_base::ByteSize;
use pharos_model::TenantId;

use super::SeriesMemory;
use crate::shares::{Budget, Shortage};

/// When memory is short, that of tenants that sent nothing for so long goes, and what of the others was not named for so long.
const IDLE_MINUTES: u32 = 10;

/// A memory for each tenant.
#[derive(Debug)]
pub(crate) struct SeriesMemories {
    budget: Arc<Budget>,
    tenants: RwLock<HashMap<TenantId, Arc<OfTenant>>>,
    swept_minute: AtomicU32,
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
        let budget = Arc::new(Budget::new(memory_max.0));
        Self { budget, tenants: RwLock::default(), swept_minute: AtomicU32::new(0) }
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

    /// If memory was short since the last time, forgets who sent nothing for long, from time to time what nobody names any more, and
    /// who has the most if another has next to nothing and could not have more. What is forgotten goes when its last request is read.
    fn tidy(&self, minute: u32) {
        let shortage = self.budget.look(minute);
        if shortage == Shortage::None {
            return;
        }
        let oldest_minute = minute.saturating_sub(IDLE_MINUTES);
        let before_bytes = self.memory_bytes();
        let is_idle = |known: &OfTenant| known.used_minute.load(Ordering::Relaxed) < oldest_minute;
        let tenants: Vec<_> =
            self.tenants.read().iter().map(|(tenant, known)| (tenant.clone(), Arc::clone(known))).collect();
        let (idle, tenants): (Vec<_>, Vec<_>) = tenants.into_iter().partition(|(_, known)| is_idle(known));
        // What goes is given back where nobody waits for the lock: a million series take a while.
        for (tenant, _) in idle {
            drop(self.take_out(&tenant));
        }
        if self.swept_minute.load(Ordering::Relaxed) <= oldest_minute {
            self.swept_minute.store(minute, Ordering::Relaxed);
            for (_, known) in &tenants {
                known.memory.sweep_if_small();
            }
        }
        let is_relieved = self.memory_bytes() < before_bytes / 4 * 3;
        if shortage == Shortage::Pressed && !is_relieved {
            let most = tenants.iter().max_by_key(|(_, known)| known.memory.memory_bytes());
            most.inspect(|(tenant, _)| drop(self.take_out(tenant)));
        }
    }

    fn take_out(&self, tenant: &TenantId) -> Option<Arc<OfTenant>> {
        self.tenants.write().remove(tenant)
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

    /// Each has too few series to look through for itself.
    #[test]
    fn what_nobody_names_any_more_makes_room_for_other_tenants() {
        let memories = memories(1_000);
        let churned = |minute, numbers| send(&memories.of(&tenant("churned"), minute).memory, numbers).1;
        let growing = |minute, count| send(&memories.of(&tenant("growing"), minute).memory, 0..count).1;
        churned(20, 0..650);
        churned(20, 0..10);
        growing(20, 300);
        growing(20, 500);
        assert!(memories.series_count() > 980, "{}", memories.series_count());
        churned(21, 0..10);
        growing(21, 500);
        assert_eq!((growing(22, 500), churned(22, 0..10)), (499, 9));
        assert_eq!(memories.series_count(), 510);
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
