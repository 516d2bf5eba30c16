//! Places that are given out fairly: who waits is served tenant by tenant, in turn.
//!
//! Nobody is kept waiting while a place is free: a tenant that is alone has them all. What it has beyond half of them goes
//! to others first, as soon as it is given back; and where nobody else may wait any more for it, its own newest waiter goes.
//!
//! A tenant's lane has the tenant's limits. Who comes with a credential that has limits of its own is counted for that credential
//! as well, over all lanes, and lets those behind it in its lane go first while its credential holds what it may.
//!
//! Invariants
//! - F1 Places that are held and free ones are as many as there are; `held` of a lane counts its own, that of a credential those
//!   that were taken with it.
//! - F2 A lane, or a credential, is kept while it holds or waits: there are never more than places and waiters.
//! - F3 A lane is in `turns` exactly once if somebody waits in it, else not.
//! - F4 While a place is free nobody waits but whose tenant or credential has as many as its own limit allows.
//!
//! Lock: one, never held over an await.

mod limits;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pharos_model::TenantId;
use tokio::sync::oneshot;

pub use limits::{LaneLimits, LimitOf, NoPlace, OwnLimits};

/// Hands out places; clones share them.
#[derive(Debug, Clone)]
pub struct FairPlaces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    places: usize,
    free: usize,
    waiting: usize,
    next_id: u64,
    lanes: HashMap<TenantId, Lane>,
    /// Those that have limits of their own, by [`OwnLimits::whose`].
    credentials: HashMap<u64, Credential>,
    /// Lanes in which somebody waits, the one that is next first.
    turns: VecDeque<TenantId>,
}

#[derive(Debug, Default)]
struct Lane {
    held: usize,
    /// What the tenant may hold, as of the last who came: its limits may change.
    held_max: usize,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug, Default)]
struct Credential {
    held: usize,
    /// As of the last who came with it.
    held_max: usize,
    waiting: usize,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    /// The credential that is counted for it.
    credential: Option<u64>,
    told: oneshot::Sender<Told>,
}

/// What becomes of who waits.
#[derive(Debug)]
enum Told {
    /// The place is theirs.
    Yours,
    /// Their place in the queue is another tenant's.
    Displaced,
}

/// A place; dropped, it is free.
#[derive(Debug)]
pub struct FairPlace {
    shared: Arc<Shared>,
    lane: TenantId,
    credential: Option<u64>,
}

/// A wait under way; dropped, it ends.
#[derive(Debug)]
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    lane: &'a TenantId,
    credential: Option<u64>,
    id: u64,
    told: oneshot::Receiver<Told>,
    is_told: bool,
}

impl FairPlaces {
    /// So many places, for which so many may wait.
    #[must_use]
    pub fn new(places: usize, waiting_max: usize) -> Self {
        let state = State {
            places,
            free: places,
            waiting: 0,
            next_id: 0,
            lanes: HashMap::new(),
            credentials: HashMap::new(),
            turns: VecDeque::new(),
        };
        Self(Arc::new(Shared { waiting_max, state: Mutex::new(state) }))
    }

    /// Takes a place if one is free that nobody waits for.
    #[must_use]
    pub fn try_take(&self, lane: &TenantId, limits: LaneLimits) -> Option<FairPlace> {
        let is_taken = self.0.state.lock().try_take(lane, limits);
        is_taken.then(|| self.place(lane, limits))
    }

    /// Takes a place, when its turn has come.
    ///
    /// # Errors
    /// [`NoPlace`], at once or later.
    pub async fn take(&self, lane: &TenantId, limits: LaneLimits) -> Result<FairPlace, NoPlace> {
        let shared = &self.0;
        let (tell, told) = oneshot::channel();
        let mut waiting = {
            let mut state = shared.state.lock();
            if state.try_take(lane, limits) {
                return Ok(self.place(lane, limits));
            }
            let id = state.enqueue(lane, limits, shared.waiting_max, tell)?;
            Waiting { shared, lane, credential: credential_of(limits), id, told, is_told: false }
        };
        let told = (&mut waiting.told).await;
        // Whatever it was told, it is no longer in the queue.
        waiting.is_told = true;
        match told {
            Ok(Told::Yours) => Ok(self.place(lane, limits)),
            Ok(Told::Displaced) | Err(_) => Err(NoPlace::QueueFull),
        }
    }

    fn place(&self, lane: &TenantId, limits: LaneLimits) -> FairPlace {
        FairPlace { shared: Arc::clone(&self.0), lane: lane.clone(), credential: credential_of(limits) }
    }

    /// Whose limit keeps one who comes with these limits waiting, even where a place is free; and how many that is.
    #[must_use]
    pub fn limit_reached(&self, lane: &TenantId, limits: LaneLimits) -> Option<(LimitOf, u32)> {
        let state = self.0.state.lock();
        let own = limits.own.and_then(|own| Some((LimitOf::Credential, state.held_with(own.whose), own.held_max?)));
        let of_tenant = limits.held_max.map(|max| (LimitOf::Tenant, state.held_by(lane), max));
        let reached = own.into_iter().chain(of_tenant).find(|(_, held, max)| *held >= *max as usize);
        reached.map(|(of, _, max)| (of, max))
    }

    /// Lanes that hold or wait.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.0.state.lock().lanes.len()
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.0.state.lock().waiting > 0
    }
}

fn most(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit as usize)
}

fn credential_of(limits: LaneLimits) -> Option<u64> {
    limits.own.map(|own| own.whose)
}

impl State {
    fn held_by(&self, lane: &TenantId) -> usize {
        self.lanes.get(lane).map_or(0, |lane| lane.held)
    }

    fn held_with(&self, credential: u64) -> usize {
        self.credentials.get(&credential).map_or(0, |credential| credential.held)
    }

    /// Learns limits that have changed. Who waited for a higher one is served before whoever brought it.
    fn learn(&mut self, lane: &TenantId, limits: LaneLimits) {
        let mut is_raised = false;
        let mut learn = |known: Option<&mut usize>, limit: Option<u32>| {
            if let Some(known) = known {
                is_raised |= most(limit) > *known;
                *known = most(limit);
            }
        };
        learn(self.lanes.get_mut(lane).map(|lane| &mut lane.held_max), limits.held_max);
        if let Some(own) = limits.own {
            learn(self.credentials.get_mut(&own.whose).map(|credential| &mut credential.held_max), own.held_max);
        }
        if is_raised {
            self.serve();
        }
    }

    fn try_take(&mut self, lane: &TenantId, limits: LaneLimits) -> bool {
        self.learn(lane, limits);
        // Where a place is free, those that came before wait for limits alone (F4), and for others than are looked at here: their
        // credentials'.
        let is_within = self.held_by(lane) < most(limits.held_max)
            && limits.own.is_none_or(|own| self.held_with(own.whose) < most(own.held_max));
        if self.free == 0 || !is_within {
            return false;
        }
        let entry = self.lanes.entry(lane.clone()).or_default();
        entry.held += 1;
        entry.held_max = most(limits.held_max);
        if let Some(own) = limits.own {
            let credential = self.credentials.entry(own.whose).or_default();
            credential.held += 1;
            credential.held_max = most(own.held_max);
        }
        self.free -= 1;
        true
    }

    fn enqueue(
        &mut self,
        lane: &TenantId,
        limits: LaneLimits,
        waiting_max: usize,
        told: oneshot::Sender<Told>,
    ) -> Result<u64, NoPlace> {
        let of_lane = self.lanes.get(lane).map_or(0, |lane| lane.waiters.len());
        let own = limits.own.and_then(|own| {
            let waiting = self.credentials.get(&own.whose).map_or(0, |credential| credential.waiting);
            Some((LimitOf::Credential, waiting, own.waiting_max?))
        });
        let of_tenant = limits.waiting_max.map(|max| (LimitOf::Tenant, of_lane, max));
        let reached = own.into_iter().chain(of_tenant).find(|(_, waiting, max)| *waiting >= *max as usize);
        if let Some((of, _, waiting_max)) = reached {
            return Err(NoPlace::TooManyWait { of, waiting_max });
        }
        if self.waiting >= waiting_max && !self.displace(of_lane + 1) {
            return Err(NoPlace::QueueFull);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting += 1;
        if let Some(own) = limits.own {
            let credential = self.credentials.entry(own.whose).or_default();
            credential.waiting += 1;
            credential.held_max = most(own.held_max);
        }
        let entry = self.lanes.entry(lane.clone()).or_default();
        entry.held_max = most(limits.held_max);
        if entry.waiters.is_empty() {
            self.turns.push_back(lane.clone());
        }
        entry.waiters.push_back(Waiter { id, credential: credential_of(limits), told });
        Ok(id)
    }

    /// Sends away the newest waiter of the lane in which most wait, if these are more than `than`.
    fn displace(&mut self, than: usize) -> bool {
        let longest = self.turns.iter().max_by_key(|lane| self.lanes.get(*lane).map_or(0, |lane| lane.waiters.len()));
        let Some(longest) = longest.cloned() else { return false };
        let Some(lane) = self.lanes.get_mut(&longest).filter(|lane| lane.waiters.len() > than) else { return false };
        if let Some(waiter) = lane.waiters.pop_back() {
            self.waits_no_more(waiter.credential);
            // Its receiver is there: who leaves takes its waiter away first.
            let _ = waiter.told.send(Told::Displaced);
        }
        self.tidy(&longest);
        true
    }

    /// Gives free places to those who wait: in turn, those first that hold less than half of all.
    fn serve(&mut self) {
        let half = (self.places / 2).max(1);
        while self.free > 0 {
            let next = self.next_in_turn(half).or_else(|| self.next_in_turn(usize::MAX));
            let Some((turn, waiter)) = next else { return };
            let Some(id) = self.turns.remove(turn) else { return };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let Some(waiter) = lane.waiters.remove(waiter) else { continue };
            lane.held += 1;
            self.free -= 1;
            if !lane.waiters.is_empty() {
                self.turns.push_back(id);
            }
            if let Some(credential) = waiter.credential.and_then(|whose| self.credentials.get_mut(&whose)) {
                credential.held += 1;
            }
            self.waits_no_more(waiter.credential);
            let _ = waiter.told.send(Told::Yours);
        }
    }

    /// The first lane that holds less than `most` and has a waiter who may be served, and which one that is.
    fn next_in_turn(&self, most: usize) -> Option<(usize, usize)> {
        let may_hold = |waiter: &Waiter| {
            let credential = waiter.credential.and_then(|whose| self.credentials.get(&whose));
            credential.is_none_or(|credential| credential.held < credential.held_max)
        };
        self.turns.iter().enumerate().find_map(|(turn, id)| {
            let lane = self.lanes.get(id).filter(|lane| lane.held < most.min(lane.held_max))?;
            Some((turn, lane.waiters.iter().position(may_hold)?))
        })
    }

    fn give_back(&mut self, lane: &TenantId, credential: Option<u64>) {
        self.free += 1;
        if let Some(entry) = self.lanes.get_mut(lane) {
            entry.held -= 1;
        }
        self.tidy(lane);
        if let Some(whose) = credential
            && let Some(entry) = self.credentials.get_mut(&whose)
        {
            entry.held -= 1;
            self.tidy_credential(whose);
        }
        self.serve();
    }

    /// Counts one who waited and does no longer.
    fn waits_no_more(&mut self, credential: Option<u64>) {
        self.waiting -= 1;
        if let Some(whose) = credential
            && let Some(entry) = self.credentials.get_mut(&whose)
        {
            entry.waiting -= 1;
            self.tidy_credential(whose);
        }
    }

    /// Forgets a lane that neither holds nor waits (F2), and its turn if nobody waits in it (F3).
    fn tidy(&mut self, lane: &TenantId) {
        let Some(entry) = self.lanes.get(lane).filter(|lane| lane.waiters.is_empty()) else { return };
        let is_empty = entry.held == 0;
        self.turns.retain(|other| other != lane);
        if is_empty {
            self.lanes.remove(lane);
        }
    }

    /// Forgets a credential that neither holds nor waits (F2).
    fn tidy_credential(&mut self, whose: u64) {
        if self.credentials.get(&whose).is_some_and(|credential| credential.held == 0 && credential.waiting == 0) {
            self.credentials.remove(&whose);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_told {
            return;
        }
        let mut state = self.shared.state.lock();
        let found = state.lanes.get_mut(self.lane).and_then(|lane| {
            let at = lane.waiters.iter().position(|waiter| waiter.id == self.id)?;
            lane.waiters.remove(at)
        });
        if found.is_some() {
            state.waits_no_more(self.credential);
            state.tidy(self.lane);
        } else if matches!(self.told.try_recv(), Ok(Told::Yours)) {
            state.give_back(self.lane, self.credential);
        }
    }
}

impl Drop for FairPlace {
    fn drop(&mut self) {
        self.shared.state.lock().give_back(&self.lane, self.credential);
    }
}

#[cfg(test)]
mod tests;
