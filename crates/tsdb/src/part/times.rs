//! Columns of instants of a part being written: equal ones are stored once.

use std::hash::BuildHasher;

use hashbrown::HashMap;
use pharos_chunk::{Form, timestamps};

/// Columns remembered for sharing; forgetting one only costs its sharing.
const KNOWN_MAX: usize = 16 << 10;
/// Instants remembered as they are: a column found among them is not encoded again.
const PLAIN_INSTANTS_MAX: usize = 1 << 20;

/// Numbers columns and collects those not yet written.
#[derive(Default)]
pub(crate) struct TimeColumns {
    hasher: foldhash::fast::RandomState,
    /// By hash of the instants.
    plain: HashMap<u64, (Box<[i64]>, u32)>,
    plain_instants: usize,
    known: HashMap<Box<[u8]>, u32>,
    /// By part and number there.
    copied: HashMap<(u64, u32), u32>,
    pending: Vec<Box<[u8]>>,
    pending_bytes: usize,
    next: u32,
}

impl TimeColumns {
    /// The number of a column that was copied from another part: which, and its number there.
    pub(crate) fn intern_copied(&mut self, origin: (u64, u32), times: &[i64], form: Form) -> u32 {
        if let Some(number) = self.copied.get(&origin) {
            return *number;
        }
        let number = self.intern(times, form);
        if self.copied.len() >= KNOWN_MAX {
            self.copied.clear();
        }
        self.copied.insert(origin, number);
        number
    }

    /// The number of a column.
    pub(crate) fn intern(&mut self, times: &[i64], form: Form) -> u32 {
        let hash = self.hasher.hash_one(times);
        if let Some((plain, number)) = self.plain.get(&hash)
            && **plain == *times
        {
            return *number;
        }
        let number = self.intern_encoded(times, form);
        if self.plain_instants + times.len() > PLAIN_INSTANTS_MAX {
            self.plain.clear();
            self.plain_instants = 0;
        }
        self.plain_instants += times.len();
        self.plain.insert(hash, (times.into(), number));
        number
    }

    fn intern_encoded(&mut self, times: &[i64], form: Form) -> u32 {
        let mut encoded = Vec::new();
        timestamps::encode(times, form, &mut encoded);
        if let Some(number) = self.known.get(encoded.as_slice()) {
            return *number;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let (number, encoded) = (self.next, encoded.into_boxed_slice());
        self.next += 1;
        self.pending_bytes += encoded.len();
        self.pending.push(encoded.clone());
        self.known.insert(encoded, number);
        number
    }

    /// Bytes of columns not yet written.
    pub(crate) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The columns not yet written, if any, and the number of the first.
    pub(crate) fn take_pending(&mut self) -> Option<(u32, Vec<Box<[u8]>>)> {
        self.pending_bytes = 0;
        let columns = std::mem::take(&mut self.pending);
        (!columns.is_empty()).then(|| (self.next - columns.len() as u32, columns))
    }
}
