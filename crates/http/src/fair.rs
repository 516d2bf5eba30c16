//! Places that are given out fairly: who waits is served tenant by tenant, in turn.
//!
//! Nobody is kept waiting while a place is free: a tenant that is alone has them all. What it has beyond half of them goes
//! to others first, as soon as it is given back; and where nobody else may wait any more for it, its own newest waiter goes.
//!
//! Invariants
//! - F1 Places that are held and free ones are as many as there are; `held` of a lane counts its own.
//! - F2 A lane is kept while it holds or waits: there are never more than places and waiters.
//! - F3 A lane is in `turns` exactly once if somebody waits in it, else not.
//! - F4 While a place is free nobody waits but who has as many as its own limit allows.
//!
//! Lock: one, never held over an await.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pharos_model::TenantId;
use tokio::sync::oneshot;

/// Hands out places; clones share them.
#[derive(Debug, Clone)]
pub struct FairPlaces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: usize,
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: usize,
    next_id: u64,
    lanes: HashMap<TenantId, Lane>,
    /// Lanes in which somebody waits, the one that is next first.
    turns: VecDeque<TenantId>,
}

#[derive(Debug, Default)]
struct Lane {
    held: usize,
    /// What it may hold, as of the last who came.
    held_max: usize,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
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

/// What one tenant may have; `None`: no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLimits {
    /// Places at a time.
    pub held_max: Option<u32>,
    /// Waiting at a time.
    pub waiting_max: Option<u32>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// As many wait as may.
    QueueFull,
    /// As many of this tenant wait as it may have waiting.
    LaneFull {
        /// How many that is.
        waiting_max: u32,
    },
}

/// A place; dropped, it is free.
#[derive(Debug)]
pub struct FairPlace {
    shared: Arc<Shared>,
    lane: TenantId,
}

/// A wait under way; dropped, it ends.
#[derive(Debug)]
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    lane: &'a TenantId,
    id: u64,
    told: oneshot::Receiver<Told>,
    is_told: bool,
}

impl FairPlaces {
    /// So many places, for which so many may wait.
    #[must_use]
    pub fn new(places: usize, waiting_max: usize) -> Self {
        let state = State { free: places, waiting: 0, next_id: 0, lanes: HashMap::new(), turns: VecDeque::new() };
        Self(Arc::new(Shared { places, waiting_max, state: Mutex::new(state) }))
    }

    /// Takes a place if one is free that nobody waits for.
    #[must_use]
    pub fn try_take(&self, lane: &TenantId, limits: LaneLimits) -> Option<FairPlace> {
        let is_taken = self.0.state.lock().try_take(lane, limits);
        is_taken.then(|| FairPlace { shared: Arc::clone(&self.0), lane: lane.clone() })
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
                return Ok(FairPlace { shared: Arc::clone(shared), lane: lane.clone() });
            }
            let id = state.enqueue(lane, limits, shared.waiting_max, tell)?;
            Waiting { shared, lane, id, told, is_told: false }
        };
        let told = (&mut waiting.told).await;
        // Whatever it was told, it is no longer in the queue.
        waiting.is_told = true;
        match told {
            Ok(Told::Yours) => Ok(FairPlace { shared: Arc::clone(shared), lane: lane.clone() }),
            Ok(Told::Displaced) | Err(_) => Err(NoPlace::QueueFull),
        }
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

impl State {
    fn try_take(&mut self, lane: &TenantId, limits: LaneLimits) -> bool {
        // Who came before is served first, but for those that wait for their own tenant's limit alone (F4).
        if self.free == 0 {
            return false;
        }
        let held_max = limits.held_max.map_or(usize::MAX, |max| max as usize);
        let is_new = !self.lanes.contains_key(lane);
        let entry = self.lanes.entry(lane.clone()).or_default();
        entry.held_max = held_max;
        if entry.held >= held_max || !entry.waiters.is_empty() {
            if is_new {
                self.lanes.remove(lane);
            }
            return false;
        }
        entry.held += 1;
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
        if let Some(max) = limits.waiting_max.filter(|max| of_lane >= *max as usize) {
            return Err(NoPlace::LaneFull { waiting_max: max });
        }
        if self.waiting >= waiting_max && !self.displace(of_lane + 1) {
            return Err(NoPlace::QueueFull);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting += 1;
        let entry = self.lanes.entry(lane.clone()).or_default();
        entry.held_max = limits.held_max.map_or(usize::MAX, |max| max as usize);
        if entry.waiters.is_empty() {
            self.turns.push_back(lane.clone());
        }
        entry.waiters.push_back(Waiter { id, told });
        Ok(id)
    }

    /// Sends away the newest waiter of the lane in which most wait, if these are more than `than`.
    fn displace(&mut self, than: usize) -> bool {
        let longest = self.turns.iter().max_by_key(|lane| self.lanes.get(*lane).map_or(0, |lane| lane.waiters.len()));
        let Some(longest) = longest.cloned() else { return false };
        let Some(lane) = self.lanes.get_mut(&longest).filter(|lane| lane.waiters.len() > than) else { return false };
        if let Some(waiter) = lane.waiters.pop_back() {
            self.waiting -= 1;
            // Its receiver is there: who leaves takes its waiter away first.
            let _ = waiter.told.send(Told::Displaced);
        }
        self.tidy(&longest);
        true
    }

    /// Gives free places to those who wait: in turn, those first that hold less than half of all.
    fn serve(&mut self, places: usize) {
        let half = (places / 2).max(1);
        while self.free > 0 {
            let may_take = |lane: &TenantId, most: usize| {
                self.lanes.get(lane).is_some_and(|lane| lane.held < most.min(lane.held_max))
            };
            let next = self.turns.iter().position(|lane| may_take(lane, half));
            let next = next.or_else(|| self.turns.iter().position(|lane| may_take(lane, usize::MAX)));
            let Some(id) = next.and_then(|at| self.turns.remove(at)) else { return };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let Some(waiter) = lane.waiters.pop_front() else { continue };
            lane.held += 1;
            self.free -= 1;
            self.waiting -= 1;
            if !lane.waiters.is_empty() {
                self.turns.push_back(id);
            }
            let _ = waiter.told.send(Told::Yours);
        }
    }

    fn give_back(&mut self, lane: &TenantId, places: usize) {
        self.free += 1;
        if let Some(entry) = self.lanes.get_mut(lane) {
            entry.held -= 1;
        }
        self.tidy(lane);
        self.serve(places);
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
            state.waiting -= 1;
            state.tidy(self.lane);
        } else if matches!(self.told.try_recv(), Ok(Told::Yours)) {
            state.give_back(self.lane, self.shared.places);
        }
    }
}

impl Drop for FairPlace {
    fn drop(&mut self) {
        self.shared.state.lock().give_back(&self.lane, self.shared.places);
    }
}

#[cfg(test)]
mod tests;
