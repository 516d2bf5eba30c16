//! Memory budgets: what one piece of work may hold at a time, and what all of them together may.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::{Crossing, ErrorClass};

/// More memory was asked for than a budget holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs more than {bound} of {limit_bytes} bytes")]
pub struct BudgetExceeded {
    /// The size of the budget that is used up, bytes.
    pub limit_bytes: u64,
    /// What of it is used up.
    pub bound: BudgetBound,
}

/// What of a budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetBound {
    /// All that one piece of work may hold.
    Own,
    /// What of a common budget its owner leaves to others.
    Share,
    /// All of a common budget.
    Common,
}

impl fmt::Display for BudgetBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "its memory budget",
            Self::Share => "the share that its owner may hold of a common memory budget",
            Self::Common => "is left of a common memory budget",
        })
    }
}

impl BudgetExceeded {
    /// Whether others hold parts of that budget, too: with time there may be room again.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.bound != BudgetBound::Own
    }

    /// Of a common budget there may be more with time; of one's own there never is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        if self.is_shared() { ErrorClass::Unavailable } else { ErrorClass::LimitExceeded }
    }
}

#[derive(Debug)]
struct Inner {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    crossing: Crossing,
    whole: Option<Arc<Inner>>,
    /// Who answers for this part, among others of the whole.
    owner: Option<Arc<Owner>>,
    /// Of a whole: owners of its parts.
    owners: Mutex<HashMap<Box<str>, Weak<Owner>>>,
}

/// All parts of one owner together.
#[derive(Debug, Default)]
struct Owner {
    used_bytes: AtomicU64,
}

/// Counts bytes held on behalf of one piece of work; clones share the count. What it holds counts in the budget that
/// it is a part of as well.
///
/// A part may have an owner. Owners hold of the whole as much as they leave to others, so that whoever comes finds room: one has
/// half at least, two that want all have a third each. An owner's only part may take what is left, and whoever is alone all but
/// what one such part may have.
///
/// It also keeps when its piece of work first crossed a limit, be it this one or another that the work knows.
///
/// Threads that work together share it: one count of clones beside the counts of bytes, so that taking some has them wait
/// for each other as little as can be.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Inner>);

impl MemoryBudget {
    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self(Inner::new(limit_bytes, None, None))
    }

    /// A part of this budget, with a limit of its own. Parts of parts count in the first whole only.
    #[must_use]
    pub fn part(&self, limit_bytes: u64) -> Self {
        Self(Inner::new(limit_bytes, Some(Arc::clone(self.whole())), None))
    }

    /// As [`MemoryBudget::part`], of an owner who shares the whole with others.
    #[must_use]
    pub fn part_of(&self, owner: &str, limit_bytes: u64) -> Self {
        let whole = self.whole();
        let owner = whole.owner(owner);
        Self(Inner::new(limit_bytes, Some(Arc::clone(whole)), Some(owner)))
    }

    fn whole(&self) -> &Arc<Inner> {
        self.0.whole.as_ref().unwrap_or(&self.0)
    }

    /// A budget that never refuses, for tests and tools.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Takes `bytes` until the reservation is dropped.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if the sum would pass the limit; nothing is taken then.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, BudgetExceeded> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Whether so many bytes are left at the moment: for work that knows a thriftier way.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        let own = &self.0;
        let leaves_room = |whole: &Arc<Inner>| {
            own.owner.as_ref().is_none_or(|owner| {
                let then = |used: u64| used.saturating_add(bytes);
                whole.leaves_room(then(whole.used()), then(owner.used()), (then(own.used()), own.limit_bytes))
            })
        };
        own.has_room(bytes) && own.whole.as_ref().is_none_or(|whole| whole.has_room(bytes) && leaves_room(whole))
    }

    /// When its piece of work first crossed a limit: a refusal of this budget notes it.
    #[must_use]
    pub fn crossing(&self) -> &Crossing {
        &self.0.crossing
    }

    /// Bytes held now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// The most bytes ever held at once.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.0.peak_bytes.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn new(limit_bytes: u64, whole: Option<Arc<Self>>, owner: Option<Arc<Owner>>) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            crossing: Crossing::default(),
            whole,
            owner,
            owners: Mutex::default(),
        })
    }

    /// The books of an owner, who is forgotten some time after the last part.
    fn owner(&self, name: &str) -> Arc<Owner> {
        let mut owners = self.owners.lock();
        if let Some(known) = owners.get(name).and_then(Weak::upgrade) {
            return known;
        }
        if owners.len() == owners.capacity() {
            owners.retain(|_, owner| owner.strong_count() > 0);
        }
        let owner = Arc::<Owner>::default();
        owners.insert(name.into(), Arc::downgrade(&owner));
        owner
    }

    fn used(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes that `part` has taken for its owner, unless too little is left for others.
    fn share(&self, part: &Self, owner: &Owner, bytes: u64) -> bool {
        let before = owner.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        let held = before.saturating_add(bytes);
        // Other threads of the part count in it first, and then here: an owner's only part is never taken for one of several.
        if !self.leaves_room(self.used(), held, (part.used(), part.limit_bytes)) {
            owner.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Whether others find room while `used` is taken of this whole: an owner holds `held`, one of its parts `of_part` of at most
    /// `part_max`.
    fn leaves_room(&self, used: u64, held: u64, (of_part, part_max): (u64, u64)) -> bool {
        let free = self.limit_bytes.saturating_sub(used);
        let is_alone = used <= held;
        held <= of_part || held <= free || (is_alone && part_max <= free)
    }

    /// Takes the bytes, or says that there are not as many.
    fn take(&self, bytes: u64) -> bool {
        let before = self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        if after > self.limit_bytes {
            self.give_back(bytes);
            return false;
        }
        if after > self.peak_bytes.load(Ordering::Relaxed) {
            self.peak_bytes.fetch_max(after, Ordering::Relaxed);
        }
        true
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.limit_bytes
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Owner {
    fn used(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a budget; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// Takes `more` bytes on top.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; the reservation keeps what it had.
    pub fn grow(&mut self, more: u64) -> Result<(), BudgetExceeded> {
        let own = &*self.budget.0;
        let exceeded = |of: &Inner, bound| {
            own.crossing.note();
            Err(BudgetExceeded { limit_bytes: of.limit_bytes, bound })
        };
        if !own.take(more) {
            return exceeded(own, BudgetBound::Own);
        }
        if let Some(whole) = &own.whole {
            if !whole.take(more) {
                own.give_back(more);
                return exceeded(whole, BudgetBound::Common);
            }
            if let Some(owner) = &own.owner
                && !whole.share(own, owner, more)
            {
                whole.give_back(more);
                own.give_back(more);
                return exceeded(whole, BudgetBound::Share);
            }
        }
        self.bytes += more;
        Ok(())
    }

    /// Bytes held by this reservation.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let own = &self.budget.0;
        // The owner's first: what it holds of a part is never more than the part does.
        if let Some(owner) = &own.owner {
            owner.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        own.give_back(self.bytes);
        if let Some(whole) = &own.whole {
            whole.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_at_its_limit_and_recovers_when_bytes_return() {
        let budget = MemoryBudget::new(100);
        let first = budget.reserve(60).unwrap();
        assert!(budget.has_room(40) && !budget.has_room(41) && budget.crossing().at().is_none());
        assert_eq!(budget.reserve(41).unwrap_err(), BudgetExceeded { limit_bytes: 100, bound: BudgetBound::Own });
        assert_eq!(budget.used_bytes(), 60);
        assert!(budget.crossing().at().is_some());
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.reserve(100).is_ok());
        assert_eq!(budget.peak_bytes(), 100);
    }

    #[test]
    fn parts_of_a_budget_share_it() {
        let whole = MemoryBudget::new(100);
        let (a, b) = (whole.part(80), whole.part(80));
        let held = a.reserve(70).unwrap();
        assert_eq!(a.reserve(11).unwrap_err(), BudgetExceeded { limit_bytes: 80, bound: BudgetBound::Own });
        assert!(!b.has_room(31) && b.crossing().at().is_none());
        let error = b.reserve(31).unwrap_err();
        assert_eq!(error, BudgetExceeded { limit_bytes: 100, bound: BudgetBound::Common });
        assert_eq!(error.to_string(), "needs more than is left of a common memory budget of 100 bytes");
        assert_eq!((whole.used_bytes(), a.used_bytes(), b.used_bytes()), (70, 70, 0), "a refusal takes nothing");
        assert!(b.crossing().at().is_some() && whole.crossing().at().is_none(), "of the part's work alone");
        drop(held);
        assert_eq!((whole.used_bytes(), a.used_bytes()), (0, 0));
        assert!(b.reserve(80).is_ok());
    }
    #[test]
    fn an_owner_leaves_room_for_others() {
        let whole = MemoryBudget::new(120);
        let part = |owner: &str| whole.part_of(owner, 100);
        let refused = |bound| BudgetExceeded { limit_bytes: 120, bound };
        // Four queries of one, each within its own limit: half of the whole, and not more.
        let greedy: Vec<_> = (0..4).map(|_| part("greedy")).collect();
        let _held: Vec<_> = greedy.iter().take(3).map(|part| part.reserve(20).unwrap()).collect();
        assert!(!greedy[3].has_room(1) && greedy[3].crossing().at().is_none());
        assert_eq!(greedy[3].reserve(1).unwrap_err(), refused(BudgetBound::Share));
        assert_eq!(greedy[0].reserve(1).unwrap_err(), refused(BudgetBound::Share));
        assert_eq!((whole.used_bytes(), greedy[3].used_bytes()), (60, 0), "a refusal takes nothing");
        // Who comes finds room: the only query of another may take what is left, two of them share it.
        let (one, two) = (part("other"), part("other"));
        let all = one.reserve(60).unwrap();
        assert_eq!(two.reserve(1).unwrap_err(), refused(BudgetBound::Common));
        drop(all);
        assert!(two.has_room(60) && !two.has_room(61));
        let _some = one.reserve(30).unwrap();
        assert_eq!(two.reserve(1).unwrap_err(), refused(BudgetBound::Share), "30 are left, and it has 30");
        assert!(part("third").reserve(30).is_ok());
    }

    #[test]
    fn who_is_alone_leaves_one_part_to_whoever_comes() {
        let whole = MemoryBudget::new(120);
        let part = |owner: &str| whole.part_of(owner, 30);
        let mut held: Vec<_> = (0..3).map(|_| part("alone").reserve(30).unwrap()).collect();
        let beyond = part("alone");
        assert!(!beyond.has_room(1));
        assert_eq!(beyond.reserve(1).unwrap_err().bound, BudgetBound::Share);
        let other = part("other").reserve(30).unwrap();
        held.pop();
        assert_eq!(beyond.reserve(1).unwrap_err().bound, BudgetBound::Share, "60 are held, and somebody else is there");
        drop(other);
        assert!(beyond.has_room(30) && beyond.reserve(30).is_ok());
    }

    #[test]
    fn an_owners_only_part_may_have_all_and_nobody_is_remembered_for_ever() {
        let whole = MemoryBudget::new(100);
        for number in 0..1_000 {
            let part = whole.part_of(&number.to_string(), 100);
            let mut held = part.reserve(60).unwrap();
            held.grow(40).unwrap();
        }
        assert_eq!(whole.used_bytes(), 0);
        assert!(whole.0.owners.lock().len() < 10);
    }
}
