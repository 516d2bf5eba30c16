//! Which samples lie in the window of each step, kept for the next series that was sampled at the same instants.
//!
//! All series of one scrape share their instants, so most of the work of `rate` on thousands of series (finding
//! the windows, five divisions for each) is the same for many of them.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pharos_model::StepRange;

use crate::rate;

/// Indexes of the samples in a window, half-open.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    pub(crate) low: u32,
    pub(crate) high: u32,
}

impl Bounds {
    pub(crate) fn len(self) -> usize {
        (self.high - self.low) as usize
    }
}

/// How an increase is stretched to its window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    /// Includes the division by the length of the window for `rate`.
    pub(crate) factor: f64,
    /// A counter whose first value is at most this share of its increase might be stretched below zero.
    pub(crate) clamp_below: f64,
}

/// The windows of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Windows {
    pub(crate) steps: StepRange,
    pub(crate) offset_ms: i64,
    pub(crate) length_ms: i64,
    /// Whether increases will be stretched, and by how many seconds divided then.
    pub(crate) stretched: bool,
    pub(crate) range_s: Option<f64>,
}

impl Windows {
    /// `(after, end]` of a step.
    fn at(&self, step: usize) -> (i64, i64) {
        let end_ms = self.steps.at(step).saturating_sub(self.offset_ms);
        (end_ms.saturating_sub(self.length_ms), end_ms)
    }
}

/// The windows of a query over one column of instants.
#[derive(Debug)]
pub(crate) struct Geometry {
    windows: Windows,
    digest: u64,
    times: Vec<i64>,
    bounds: Vec<Bounds>,
    stretches: Vec<Stretch>,
    /// Samples in all windows together.
    pub(crate) queryable: u64,
}

impl Geometry {
    fn new(windows: Windows) -> Self {
        Self { windows, digest: 0, times: Vec::new(), bounds: Vec::new(), stretches: Vec::new(), queryable: 0 }
    }

    pub(crate) fn bounds(&self) -> &[Bounds] {
        &self.bounds
    }

    /// Bounds and stretch of each step.
    pub(crate) fn steps(&self) -> impl ExactSizeIterator<Item = (Bounds, Stretch)> {
        self.bounds.iter().copied().zip(self.stretches.iter().copied())
    }

    /// `(after, end]` of a step.
    pub(crate) fn window(&self, step: usize) -> (i64, i64) {
        self.windows.at(step)
    }

    /// What `rate` divides by, seconds.
    pub(crate) fn range_s(&self) -> Option<f64> {
        self.windows.range_s
    }

    fn fill(&mut self, times: &[i64]) {
        self.bounds.clear();
        self.stretches.clear();
        let count = self.windows.steps.len();
        let mut bounds = if count == 1 { self.first(times) } else { Bounds::default() };
        self.queryable = 0;
        for step in 0..count {
            let (after_ms, end_ms) = self.windows.at(step);
            while times.get(bounds.high as usize).is_some_and(|time| *time <= end_ms) {
                bounds.high += 1;
            }
            while bounds.low < bounds.high && times[bounds.low as usize] <= after_ms {
                bounds.low += 1;
            }
            self.queryable += bounds.len() as u64;
            self.bounds.push(bounds);
            if self.windows.stretched {
                self.stretches.push(rate::stretch(times, bounds, after_ms, end_ms, self.windows.range_s));
            }
        }
    }

    /// The bounds of the first window, found by halving.
    fn first(&self, times: &[i64]) -> Bounds {
        let (after_ms, end_ms) = self.windows.at(0);
        let low = times.partition_point(|time| *time <= after_ms) as u32;
        Bounds { low, high: (times.partition_point(|time| *time <= end_ms) as u32).max(low) }
    }
}

/// What all remembered geometries of a kernel may take, about, bytes.
const REMEMBERED_BYTES_MAX: usize = 6 << 20;
/// At most so many are remembered.
const REMEMBERED_MAX: usize = 1024;
/// Longer columns of instants are not remembered.
const TIMES_MAX: usize = 1 << 14;
/// Fewer steps are found again faster than compared.
const STEPS_MIN: usize = 8;
/// After this many series with hardly a hit nothing more is remembered.
const TRIAL_SERIES: u32 = 4096;

/// What kernels of one function and the same windows find out about columns of instants, for each other: one for each
/// thread, all for one query. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SharedWindows(Arc<Mutex<Found>>);

/// Geometries by digest; none is replaced.
#[derive(Debug, Default)]
struct Found {
    geometries: HashMap<u64, Arc<Geometry>, FixedState>,
    bytes: usize,
}

impl SharedWindows {
    fn find(&self, digest: u64, times: &[i64], windows: &Windows) -> Option<Arc<Geometry>> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::clone(found.geometries.get(&digest)?);
        drop(found);
        (known.windows == *windows && known.times == times).then_some(known)
    }

    fn keep(&self, geometry: &Arc<Geometry>, bytes: usize) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = found.bytes + bytes <= REMEMBERED_BYTES_MAX && found.geometries.len() < REMEMBERED_MAX;
        if has_room && !found.geometries.contains_key(&geometry.digest) {
            found.bytes += bytes;
            found.geometries.insert(geometry.digest, Arc::clone(geometry));
        }
    }
}

/// Geometries of the columns of instants seen last.
#[derive(Debug)]
pub(crate) struct Geometries {
    windows: Windows,
    /// For what is not remembered.
    scratch: Geometry,
    slots: Vec<Option<Arc<Geometry>>>,
    slot_count: usize,
    asked: u32,
    hits: u32,
    /// What the slots hold, about, bytes; what others hold as well included.
    pub(crate) bytes: usize,
    shared: Option<SharedWindows>,
}

impl Geometries {
    pub(crate) fn new(windows: Windows) -> Self {
        let scratch = Geometry::new(windows);
        Self { windows, scratch, slots: Vec::new(), slot_count: 0, asked: 0, hits: 0, bytes: 0, shared: None }
    }

    pub(crate) fn share(&mut self, shared: &SharedWindows) {
        self.shared = Some(shared.clone());
    }

    /// The geometry of `times`, ascending and fewer than 2^32.
    pub(crate) fn of(&mut self, times: &[i64]) -> &Geometry {
        let hopeless = self.asked >= TRIAL_SERIES && self.hits < self.asked / 8;
        if hopeless || self.windows.steps.len() < STEPS_MIN || times.is_empty() || times.len() > TIMES_MAX {
            self.scratch.fill(times);
            return &self.scratch;
        }
        if self.slot_count == 0 {
            self.slot_count = (REMEMBERED_BYTES_MAX / self.bytes_for(times.len())).clamp(1, REMEMBERED_MAX);
            self.slots.resize_with(self.slot_count, || None);
        }
        self.asked = self.asked.saturating_add(1);
        let digest = digest(times);
        let place = (digest % self.slot_count as u64) as usize;
        let known = self.slots[place].as_ref();
        if known.is_some_and(|known| known.digest == digest && known.times == times) {
            self.hits = self.hits.saturating_add(1);
            return self.slots[place].as_deref().unwrap_or(&self.scratch);
        }
        // A vector keeps what it had room for.
        let held = known.map_or(0, |known| self.bytes_for(known.times.capacity()));
        let wanted = self.bytes_for(times.len()).max(held);
        if self.bytes - held + wanted > REMEMBERED_BYTES_MAX {
            self.scratch.fill(times);
            return &self.scratch;
        }
        let shared = self.shared.as_ref();
        let geometry = shared.and_then(|shared| shared.find(digest, times, &self.windows)).unwrap_or_else(|| {
            let mine = self.slots[place].take().and_then(|known| Arc::try_unwrap(known).ok());
            let mut geometry = mine.unwrap_or_else(|| Geometry::new(self.windows));
            geometry.times.clear();
            geometry.times.reserve_exact(times.len());
            geometry.digest = digest;
            geometry.times.extend_from_slice(times);
            geometry.fill(times);
            let geometry = Arc::new(geometry);
            if let Some(shared) = shared {
                shared.keep(&geometry, wanted);
            }
            geometry
        });
        self.bytes += self.bytes_for(geometry.times.capacity()) - held;
        self.slots[place].insert(geometry)
    }

    fn bytes_for(&self, times: usize) -> usize {
        size_of::<Geometry>() + times * size_of::<i64>() + self.windows.steps.len() * size_of::<(Bounds, Stretch)>()
    }
}

/// Of a few instants only: a hit is compared in full.
fn digest(times: &[i64]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_usize(times.len());
    let last = times.len() - 1;
    for at in [0, last / 3, last / 2, last / 3 * 2, last] {
        hasher.write_i64(times[at]);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short columns first, which tell how many slots there are, then long ones, again and again.
    #[test]
    fn what_is_remembered_is_right_and_bounded() {
        let steps = StepRange { start_ms: 0, end_ms: 100_000, step_ms: 1_000 };
        let windows = Windows { steps, offset_ms: 0, length_ms: 5_000, stretched: false, range_s: None };
        let mut geometries = Geometries::new(windows);
        let mut most = 0;
        for length in [10, TIMES_MAX as i64, 2_000, 10] {
            for column in 0..300 {
                let times: Vec<i64> = (0..length).map(|at| at * 7 + column % 150).collect();
                let mut direct = Geometry::new(windows);
                direct.fill(&times);
                let found = geometries.of(&times);
                assert_eq!(found.queryable, direct.queryable);
                assert!(found.bounds().iter().zip(direct.bounds()).all(|(a, b)| (a.low, a.high) == (b.low, b.high)));
            }
            let held = |slot: &Geometry| slot.times.capacity() * 8 + slot.bounds.len() * size_of::<Bounds>();
            let held: usize = geometries.slots.iter().flatten().map(|slot| held(slot)).sum();
            assert!(held <= geometries.bytes && geometries.bytes <= REMEMBERED_BYTES_MAX, "{held}");
            most = most.max(geometries.bytes);
        }
        assert!(geometries.hits > 100, "columns come back");
        assert!(most > REMEMBERED_BYTES_MAX / 2, "long columns are remembered while there is room");
    }
}
