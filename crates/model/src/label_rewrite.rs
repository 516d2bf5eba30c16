//! What a server does to the labels of a sender: sets some, whatever they were, and removes one.
//!
//! Invariants
//! - W1 The metric name is never touched, so that what had one has it afterwards.
//! - W2 What comes out is canonical if what goes in is.

use xxhash_rust::xxh3::Xxh3;

use crate::labels::{Labels, LabelsBuilder, METRIC_NAME, iter_encoded};

/// Labels to set, and one to remove. Equal rewrites do the same to every label set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelRewrite {
    set: Vec<(String, String)>,
    removed: Option<String>,
}

impl LabelRewrite {
    /// A rewrite that sets these labels (an empty value removes one) and then removes `removed`; `None` where that is nothing.
    /// Labels without a name, and the metric name, are left out.
    #[must_use]
    pub fn new(set: &[(String, String)], removed: Option<&str>) -> Option<Self> {
        let is_label = |name: &str| !name.is_empty() && name != METRIC_NAME;
        let set: Vec<_> = set.iter().filter(|(name, _)| is_label(name)).cloned().collect();
        let removed = removed.filter(|name| is_label(name)).map(str::to_owned);
        (!set.is_empty() || removed.is_some()).then_some(Self { set, removed })
    }

    /// The labels it sets.
    #[must_use]
    pub fn set(&self) -> &[(String, String)] {
        &self.set
    }

    /// A hash of all it does; never 0.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        let texts = self.set.iter().flat_map(|(name, value)| [name, value]).chain(&self.removed);
        for text in texts {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.digest().max(1)
    }

    /// What it sets a label to, if it does.
    #[must_use]
    pub fn value_of(&self, name: &str) -> Option<&str> {
        self.set.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }

    /// The rewritten form of canonical labels; `scratch` is emptied first.
    ///
    /// # Panics
    /// If `encoded` is not canonical.
    #[must_use]
    pub fn apply(&self, encoded: &[u8], scratch: &mut LabelsBuilder) -> Labels {
        scratch.clear();
        for (name, value) in iter_encoded(encoded) {
            scratch.push(name, value);
        }
        for (name, value) in &self.set {
            scratch.set(name, value);
        }
        if let Some(name) = &self.removed {
            scratch.remove(name);
        }
        scratch.build().expect("canonical names differ, and what is set replaces its namesake")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn check(set: &[(&str, &str)], removed: Option<&str>, expected: &str) {
        let before = Labels::from_pairs([("__name__", "up"), ("job", "a"), ("replica", "r1")]).unwrap();
        let rewrite = LabelRewrite::new(&owned(set), removed).unwrap();
        assert_eq!(rewrite.apply(before.encoded(), &mut LabelsBuilder::default()).to_string(), expected);
    }

    #[test]
    fn labels_are_set_replaced_and_removed() {
        check(&[("team", "x")], None, r#"up{job="a", replica="r1", team="x"}"#);
        check(&[("job", "b"), ("aa", "é")], Some("replica"), r#"up{aa="é", job="b"}"#);
        check(&[("job", "")], None, r#"up{replica="r1"}"#);
        check(&[("job", "b"), ("job", "c")], None, r#"up{job="c", replica="r1"}"#);
        check(&[("replica", "mine")], Some("replica"), r#"up{job="a"}"#);
        check(&[], Some("absent"), r#"up{job="a", replica="r1"}"#);
    }

    #[test]
    fn the_metric_name_stays_and_nothing_to_do_is_no_rewrite() {
        check(&[("__name__", "down"), ("", "x"), ("a", "b")], Some("__name__"), r#"up{a="b", job="a", replica="r1"}"#);
        assert_eq!(LabelRewrite::new(&owned(&[("__name__", "down")]), None), None);
        assert_eq!(LabelRewrite::new(&[], None), None);
    }

    #[test]
    fn a_rewrite_tells_what_it_sets() {
        let rewrite = LabelRewrite::new(&owned(&[("a", "1"), ("a", "2")]), None).unwrap();
        assert_eq!((rewrite.value_of("a"), rewrite.value_of("b")), (Some("2"), None));
    }
}
