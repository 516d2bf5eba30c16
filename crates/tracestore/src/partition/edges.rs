//! Which pairs of caller and called a day counts calls of, by tenant: as many as the limit allows, the first that came.
//!
//! A pair that found no room finds none later, so that its count is never a part of its calls.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A pair counts once more for so many bytes of its names.
const WEIGHED_BYTES: usize = 256;

/// Pairs by tenant number.
#[derive(Debug, Default)]
pub(super) struct Edges {
    weight_max: u64,
    tenants: HashMap<u32, TenantEdges>,
}

#[derive(Debug, Default)]
struct TenantEdges {
    pairs: HashSet<(Arc<str>, Arc<str>)>,
    weight: u64,
    is_full: bool,
}

/// What became of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Known,
    New,
    /// There is no room.
    Refused,
    /// There is no room, for the first time since the start.
    FirstRefused,
}

impl Edges {
    pub(super) fn new(weight_max: u64) -> Self {
        Self { weight_max, tenants: HashMap::new() }
    }

    /// Takes up a pair that is counted already.
    pub(super) fn insert(&mut self, tenant: u32, parent: &Arc<str>, child: &Arc<str>) -> bool {
        let edges = self.tenants.entry(tenant).or_default();
        let is_new = edges.pairs.insert((Arc::clone(parent), Arc::clone(child)));
        edges.weight += if is_new { weight(parent, child) } else { 0 };
        is_new
    }

    /// Whether calls of a pair are counted.
    pub(super) fn admit(&mut self, tenant: u32, parent: &Arc<str>, child: &Arc<str>) -> Admission {
        let edges = self.tenants.entry(tenant).or_default();
        if edges.pairs.contains(&(Arc::clone(parent), Arc::clone(child))) {
            return Admission::Known;
        }
        if edges.is_full || edges.weight + weight(parent, child) > self.weight_max {
            let was_full = std::mem::replace(&mut edges.is_full, true);
            return if was_full { Admission::Refused } else { Admission::FirstRefused };
        }
        self.insert(tenant, parent, child);
        Admission::New
    }

    pub(super) fn remove_tenant(&mut self, tenant: u32) {
        self.tenants.remove(&tenant);
    }
}

fn weight(parent: &str, child: &str) -> u64 {
    1 + ((parent.len() + child.len()) / WEIGHED_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_beyond_the_limit_of_their_tenant_are_refused_for_good() {
        let mut edges = Edges::new(3);
        let long: Arc<str> = Arc::from("x".repeat(WEIGHED_BYTES));
        let name = |text: &str| Arc::<str>::from(text);
        let mut admit = |tenant, child: &Arc<str>| edges.admit(tenant, &name("web"), child);
        assert_eq!(admit(0, &name("a")), Admission::New);
        assert_eq!(admit(0, &long), Admission::New, "counts twice");
        assert_eq!(admit(0, &name("b")), Admission::FirstRefused);
        assert_eq!(admit(0, &name("c")), Admission::Refused);
        assert_eq!(admit(0, &name("a")), Admission::Known);
        assert_eq!(admit(1, &name("b")), Admission::New, "of another tenant");
    }
}
