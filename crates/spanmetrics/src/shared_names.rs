//! Names of services, each in memory once.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::names::cut;

/// Memory of the names kept to be shared; further ones are copied for each batch that has them.
const BYTES_MAX: usize = 4 << 20;

/// The names of one tenant.
#[derive(Debug, Default)]
pub(crate) struct SharedNames {
    names: HashSet<Arc<str>, RandomState>,
    bytes: usize,
}

impl SharedNames {
    /// A name that is in memory once.
    pub(crate) fn shared(&mut self, name: &str) -> Arc<str> {
        let name = cut(name);
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let (name, bytes): (Arc<str>, usize) = (Arc::from(name), bytes_of(name));
        if self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            self.names.insert(Arc::clone(&name));
        }
        name
    }

    /// Forgets those that nobody else has.
    pub(crate) fn forget_unused(&mut self) {
        let bytes = &mut self.bytes;
        self.names.retain(|name| {
            let is_used = Arc::strong_count(name) > 1;
            *bytes -= if is_used { 0 } else { bytes_of(name) };
            is_used
        });
    }
}

/// With the two counts before it and its place in the set.
fn bytes_of(name: &str) -> usize {
    name.len() + 48
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_within_a_limit() {
        let mut names = SharedNames::default();
        let first = names.shared("first");
        assert!(Arc::ptr_eq(&first, &names.shared("first")));
        for number in 0..10_000 {
            names.shared(&format!("{number:0>1000}"));
        }
        assert!(names.bytes <= BYTES_MAX && names.names.len() < 5_000, "{}", names.names.len());
        names.forget_unused();
        assert_eq!((names.names.len(), names.bytes), (1, bytes_of("first")));
        drop(first);
        names.forget_unused();
        assert_eq!((names.names.len(), names.bytes), (0, 0));
    }
}
