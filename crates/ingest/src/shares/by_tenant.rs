//! A memory for each tenant, all of one budget: a request asks once for that of its tenant.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::RwLock;
use pharos_base::ByteSize;
use pharos_model::TenantId;

use super::{Account, Budget, Shortage};

/// When memory is short, that of tenants that sent nothing for so long goes, and the others are tidied if they were not for so long.
const IDLE_MINUTES: u32 = 10;

/// What is remembered of a tenant; it takes its bytes from the account, and gives them back.
pub(crate) trait TenantMemory {
    /// An empty one.
    fn open(account: Account) -> Self;

    /// Bytes taken.
    fn memory_bytes(&self) -> u64;

    /// Forgets what nobody names any more.
    fn tidy(&self);
}

/// The memories of all tenants.
#[derive(Debug)]
pub(crate) struct ByTenant<M> {
    budget: Arc<Budget>,
    tenants: RwLock<HashMap<TenantId, Arc<OfTenant<M>>>>,
    tidied_minute: AtomicU32,
}

/// The memory of one.
#[derive(Debug)]
pub(crate) struct OfTenant<M> {
    memory: M,
    /// Of its last request.
    used_minute: AtomicU32,
}

impl<M> Deref for OfTenant<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.memory
    }
}

impl<M: TenantMemory> ByTenant<M> {
    /// Empty memories that may take so much together.
    pub(crate) fn new(memory_max: ByteSize) -> Self {
        let budget = Arc::new(Budget::new(memory_max.0));
        Self { budget, tenants: RwLock::default(), tidied_minute: AtomicU32::new(0) }
    }

    /// That of a tenant, whose request it is; empty at first, and after it made room for others.
    pub(crate) fn of(&self, tenant: &TenantId, minute: u32) -> Arc<OfTenant<M>> {
        self.make_room(minute);
        if let Some(found) = self.tenants.read().get(tenant) {
            found.used_minute.store(minute, Relaxed);
            return Arc::clone(found);
        }
        let open = || OfTenant { memory: M::open(Account::open(&self.budget)), used_minute: AtomicU32::new(minute) };
        Arc::clone(self.tenants.write().entry_ref(tenant).or_insert_with(|| Arc::new(open())))
    }

    /// Bytes taken by all.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.budget.taken_bytes()
    }

    /// Those there are.
    pub(crate) fn all(&self) -> Vec<(TenantId, Arc<OfTenant<M>>)> {
        self.tenants.read().iter().map(|(tenant, memory)| (tenant.clone(), Arc::clone(memory))).collect()
    }

    /// If memory was short since the last time, forgets who sent nothing for long, from time to time what nobody names any more, and
    /// who has the most if another has next to nothing and could not have more. What is forgotten goes when its last request is read.
    fn make_room(&self, minute: u32) {
        let shortage = self.budget.look(minute);
        if shortage == Shortage::None {
            return;
        }
        let oldest_minute = minute.saturating_sub(IDLE_MINUTES);
        let before_bytes = self.memory_bytes();
        let is_idle = |of: &OfTenant<M>| of.used_minute.load(Relaxed) < oldest_minute;
        let (idle, tenants): (Vec<_>, Vec<_>) = self.all().into_iter().partition(|(_, of)| is_idle(of));
        // What goes is given back where nobody waits for the lock: a million series take a while.
        for (tenant, _) in idle {
            drop(self.take_out(&tenant));
        }
        if self.tidied_minute.load(Relaxed) <= oldest_minute {
            self.tidied_minute.store(minute, Relaxed);
            for (_, of) in &tenants {
                of.tidy();
            }
        }
        let is_relieved = self.memory_bytes() < before_bytes / 4 * 3;
        if shortage == Shortage::Pressed && !is_relieved {
            let most = tenants.iter().max_by_key(|(_, of)| of.memory_bytes());
            most.inspect(|(tenant, _)| drop(self.take_out(tenant)));
        }
    }

    fn take_out(&self, tenant: &TenantId) -> Option<Arc<OfTenant<M>>> {
        self.tenants.write().remove(tenant)
    }
}
