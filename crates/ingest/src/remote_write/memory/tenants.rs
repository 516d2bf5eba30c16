//! The memories of all tenants.

use super::SeriesMemory;
use super::known::Known;
use crate::shares::{Account, ByTenant, TenantMemory};

pub(crate) type SeriesMemories = ByTenant<SeriesMemory>;

impl TenantMemory for SeriesMemory {
    fn open(account: Account) -> Self {
        Self::with(pharos_model::fingerprint, Known::new(account))
    }

    fn memory_bytes(&self) -> u64 {
        Self::memory_bytes(self)
    }

    /// Where there is too little for it to be worth a look for this tenant alone: others do it by themselves.
    fn tidy(&self) {
        let mut known = self.known.write();
        if known.is_small() {
            known.sweep();
        }
    }
}

impl SeriesMemories {
    /// Series remembered.
    pub(crate) fn series_count(&self) -> usize {
        self.all().iter().map(|(_, memory)| memory.series_count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use pharos_base::ByteSize;
    use pharos_model::TenantId;

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
        send(&one, 0..100);
        assert_eq!(send(&other, 0..100).1, 0);
        assert_eq!(send(&memories.of(&tenant("1"), 2), 0..100).1, 99);
        assert_eq!(memories.series_count(), 200);
    }

    #[test]
    fn a_tenant_whose_labels_change_all_the_time_leaves_room_for_others() {
        let memories = memories(1_000);
        let churn = |minute: u32| {
            let first = 10_000 * minute as usize;
            send(&memories.of(&tenant("churning"), minute), first..first + 2_000);
        };
        let steady = |minute| send(&memories.of(&tenant("steady"), minute), 0..200).1;
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
        let churned = |minute, numbers| send(&memories.of(&tenant("churned"), minute), numbers).1;
        let growing = |minute, count| send(&memories.of(&tenant("growing"), minute), 0..count).1;
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
        send(&memories.of(&tenant("gone"), 1), 0..990);
        send(&memories.of(&tenant("new"), 20), 0..500);
        send(&memories.of(&tenant("new"), 21), 0..500);
        assert!(send(&memories.of(&tenant("new"), 22), 0..500).1 >= 499);
        assert_eq!(memories.series_count(), 500);
    }
}
