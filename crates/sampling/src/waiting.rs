//! Traces that wait to be judged, and judgements that late spans ask for.
//!
//! Invariants
//! - T1 A tenant's queue holds each of its waiting traces once, deadlines ascending; the front of each queue is in `fronts`.
//! - T2 A file of the log is needed while a trace waits that has spans in it, or spans of it are on their way into the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use pharos_model::{Span, SpanGroup, TenantId, TraceId};

use crate::policy::Decision;
use crate::record::Position;
use crate::trace::WaitingTrace;

/// A tenant's trace.
pub(crate) type Key = (TenantId, TraceId);

/// All traces that wait, and what became of others.
#[derive(Debug)]
pub(crate) struct Waiting {
    tenants: HashMap<TenantId, Tenant>,
    fronts: BTreeSet<(Instant, TenantId)>,
    traces: usize,
    bytes: usize,
    decisions: usize,
    decisions_max: usize,
    /// How many traces need each file of the log.
    needed: BTreeMap<u64, usize>,
}

#[derive(Debug, Default)]
struct Tenant {
    traces: HashMap<TraceId, WaitingTrace>,
    queue: VecDeque<(Instant, TraceId)>,
    bytes: usize,
    recent: HashMap<TraceId, Decision>,
    older: HashMap<TraceId, Decision>,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) traces_max: usize,
    pub(crate) bytes_max: usize,
}

impl Waiting {
    pub(crate) fn new(decisions_max: usize) -> Self {
        Self {
            tenants: HashMap::new(),
            fronts: BTreeSet::new(),
            traces: 0,
            bytes: 0,
            decisions: 0,
            decisions_max,
            needed: BTreeMap::new(),
        }
    }

    /// Lets a span wait that is at `at` in the log, until `deadline` where it is the first of its trace.
    pub(crate) fn wait(&mut self, tenant: &TenantId, group: &SpanGroup, span: Span, at: Position, deadline: Instant) {
        let own = self.tenants.entry_ref(tenant).or_default();
        let trace = match own.traces.entry(span.trace_id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                // Where a start reads the log, times are made of those of requests, which may go back.
                let deadline = own.queue.back().map_or(deadline, |(last, _)| deadline.max(*last));
                if own.queue.is_empty() {
                    self.fronts.insert((deadline, tenant.clone()));
                }
                own.queue.push_back((deadline, span.trace_id));
                let new = WaitingTrace::new(span.trace_id);
                own.bytes += new.bytes;
                self.bytes += new.bytes;
                self.traces += 1;
                entry.insert(new)
            }
        };
        let before = trace.bytes;
        if trace.push(group, span, at) {
            *self.needed.entry(at.file).or_default() += 1;
        }
        own.bytes += trace.bytes - before;
        self.bytes += trace.bytes - before;
    }

    /// A trace that does not wait needs `file` of the log.
    pub(crate) fn need(&mut self, file: u64) {
        *self.needed.entry(file).or_default() += 1;
    }

    /// Takes out a trace whose time is over; else, where there is no room for all, the oldest of the tenant that takes most.
    /// True: before its time.
    pub(crate) fn pop(&mut self, now: Instant, room: Room) -> Option<(Key, WaitingTrace, bool)> {
        if let Some((deadline, tenant)) = self.fronts.first()
            && *deadline <= now
        {
            let tenant = tenant.clone();
            return self.pop_of(tenant, false);
        }
        let largest = |size: fn(&Tenant) -> usize| {
            self.tenants.iter().filter(|(_, own)| !own.queue.is_empty()).max_by_key(|(_, own)| size(own))
        };
        let (tenant, _) = if self.bytes > room.bytes_max {
            largest(|own| own.bytes)?
        } else if self.traces > room.traces_max {
            largest(|own| own.queue.len())?
        } else {
            return None;
        };
        let tenant = tenant.clone();
        self.pop_of(tenant, true)
    }

    fn pop_of(&mut self, tenant: TenantId, is_early: bool) -> Option<(Key, WaitingTrace, bool)> {
        let (_, trace_id) = self.tenants.get(&tenant)?.queue.front().copied()?;
        let trace = self.take(&tenant, trace_id)?;
        Some(((tenant, trace_id), trace, is_early))
    }

    /// Takes out a trace.
    fn take(&mut self, tenant: &TenantId, trace_id: TraceId) -> Option<WaitingTrace> {
        let own = self.tenants.get_mut(tenant)?;
        let trace = own.traces.remove(&trace_id)?;
        let front = own.queue.front().copied();
        if front.is_some_and(|(_, first)| first == trace_id) {
            own.queue.pop_front();
        } else {
            own.queue.retain(|(_, queued)| *queued != trace_id);
        }
        if let Some((deadline, _)) = front {
            self.fronts.remove(&(deadline, tenant.clone()));
        }
        if let Some((deadline, _)) = own.queue.front() {
            self.fronts.insert((*deadline, tenant.clone()));
        }
        own.bytes -= trace.bytes;
        self.bytes -= trace.bytes;
        self.traces -= 1;
        Some(trace)
    }

    /// Forgets a trace that waits, and what became of it before.
    pub(crate) fn delete(&mut self, tenant: &TenantId, trace_id: TraceId) {
        if let Some(trace) = self.take(tenant, trace_id) {
            self.release(&trace.files);
        }
        if let Some(own) = self.tenants.get_mut(tenant) {
            self.decisions -= usize::from(own.recent.remove(&trace_id).is_some());
            self.decisions -= usize::from(own.older.remove(&trace_id).is_some());
        }
    }

    /// Remembers what became of a trace, for late spans. A tenant is remembered for at least as much as its share of
    /// `decisions_max` among those that have any.
    pub(crate) fn remember(&mut self, (tenant, trace_id): Key, decision: Decision) {
        let share = self.decisions_max / self.tenants.len().max(1);
        let own = self.tenants.entry_ref(&tenant).or_default();
        let is_half = own.recent.len() >= self.decisions_max.div_ceil(2);
        if is_half || (self.decisions >= self.decisions_max && own.recent.len() >= share.div_ceil(2)) {
            self.decisions -= own.older.len();
            own.older = std::mem::take(&mut own.recent);
        }
        self.decisions -= usize::from(own.older.remove(&trace_id).is_some());
        self.decisions += usize::from(own.recent.insert(trace_id, decision).is_none());
        if self.decisions > self.decisions_max {
            self.forget_some();
        }
    }

    /// Forgets judgements of the tenant that has most of them, the older ones first; a tenant of which nothing is known goes.
    fn forget_some(&mut self) {
        let most = self.tenants.iter().max_by_key(|(_, own)| own.decisions()).map(|(tenant, _)| tenant.clone());
        if let Some(own) = most.and_then(|tenant| self.tenants.get_mut(&tenant)) {
            if own.older.is_empty() {
                own.older = std::mem::take(&mut own.recent);
            }
            self.decisions -= own.older.len();
            own.older = std::mem::take(&mut own.recent);
        }
        self.tenants.retain(|_, own| own.decisions() > 0 || !own.queue.is_empty());
    }

    /// What became of a trace, if that is remembered.
    pub(crate) fn decision(&self, tenant: &TenantId, trace_id: TraceId) -> Option<Decision> {
        let own = self.tenants.get(tenant)?;
        own.recent.get(&trace_id).or_else(|| own.older.get(&trace_id)).copied()
    }

    /// A trace no longer needs its files of the log.
    pub(crate) fn release(&mut self, files: &[u64]) {
        for file in files {
            if let Some(count) = self.needed.get_mut(file) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(file);
                }
            }
        }
    }

    /// The first file of the log that is needed.
    pub(crate) fn first_needed(&self) -> Option<u64> {
        self.needed.keys().next().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.traces
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory of a tenant's spans.
    pub(crate) fn bytes_of(&self, tenant: &TenantId) -> usize {
        self.tenants.get(tenant).map_or(0, |own| own.bytes)
    }
}

impl Tenant {
    fn decisions(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}
