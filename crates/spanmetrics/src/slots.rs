//! Values in numbered places, found by hash: no allocation once it has grown.
//!
//! Invariants
//! - L1 A place that was given up is taken again under another generation, so that who remembers a place and its
//!   generation never meets a stranger.

use hashbrown::HashTable;

/// A place and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    index: u32,
    generation: u32,
}

/// The values.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    places: Vec<Slot<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    hash: u64,
    generation: u32,
    value: Option<Box<T>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), index: HashTable::new() }
    }
}

impl<T> Slots<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// How many places there are, taken or not: the bound of [`Slots::at`].
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    /// The place of the value with this hash that `is` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(&T) -> bool) -> Option<Place> {
        let places = &self.places;
        let found = self.index.find(hash, |index| {
            let slot = &places[*index as usize];
            slot.hash == hash && slot.value.as_deref().is_some_and(&mut is)
        });
        found.map(|index| Place { index: *index, generation: places[*index as usize].generation })
    }

    /// The value at a place, if it is still the same one.
    #[inline]
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let slot = self.places.get_mut(place.index as usize)?;
        if slot.generation == place.generation { slot.value.as_deref_mut() } else { None }
    }

    /// The value at place number `index`.
    pub(crate) fn at(&mut self, index: usize) -> Option<&mut T> {
        self.places.get_mut(index)?.value.as_deref_mut()
    }

    /// Puts a new value somewhere.
    pub(crate) fn insert(&mut self, hash: u64, value: T) -> Place {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Slot { hash, generation: 0, value: None });
            (self.places.len() - 1) as u32
        });
        let slot = &mut self.places[index as usize];
        slot.hash = hash;
        slot.value = Some(Box::new(value));
        let place = Place { index, generation: slot.generation };
        let places = &self.places;
        self.index.insert_unique(hash, index, |index| places[*index as usize].hash);
        place
    }

    /// Gives up place number `index`.
    pub(crate) fn remove(&mut self, index: usize) -> Option<Box<T>> {
        let slot = self.places.get_mut(index)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        let number = index as u32;
        if let Ok(entry) = self.index.find_entry(slot.hash, |found| *found == number) {
            entry.remove();
        }
        self.free.push(number);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_taken_again_is_another_one() {
        let mut slots = Slots::default();
        let first = slots.insert(7, "first");
        assert_eq!(slots.find(7, |value| *value == "first"), Some(first));
        assert_eq!(slots.find(7, |value| *value == "second"), None);
        assert_eq!(slots.remove(0).as_deref(), Some(&"first"));
        assert_eq!(slots.find(7, |_| true), None);
        let second = slots.insert(7, "second");
        assert!(slots.get_mut(first).is_none() && slots.get_mut(second).is_some(), "L1");
        assert_eq!((slots.len(), slots.places()), (1, 1));
        assert!(slots.remove(9).is_none());
    }
}
