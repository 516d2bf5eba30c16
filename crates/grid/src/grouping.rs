//! Keys by which label sets are grouped and matched.

use hashbrown::HashMap;
use pharos_model::{Labels, LabelsBuilder, METRIC_NAME, encoded_pairs, iter_encoded};

use crate::Grouping;

/// Which labels make a key: these, or all but these.
#[derive(Debug, Clone)]
pub struct KeyLabels {
    without: bool,
    /// Sorted.
    labels: Vec<String>,
}

impl KeyLabels {
    /// As PromQL groups: `without` leaves out the metric's name as well.
    #[must_use]
    pub fn new(without: bool, labels: &[String]) -> Self {
        let mut labels = labels.to_vec();
        if without {
            labels.push(METRIC_NAME.to_owned());
        }
        labels.sort_unstable();
        labels.dedup();
        Self { without, labels }
    }

    /// The same as a part of a plan.
    #[must_use]
    pub fn to_grouping(&self) -> Grouping {
        Grouping { without: self.without, labels: self.labels.clone() }
    }

    /// Whether the label belongs to the key.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        self.keeps_bytes(name.as_bytes())
    }

    fn keeps_bytes(&self, name: &[u8]) -> bool {
        self.labels.iter().any(|label| label.as_bytes() == name) != self.without
    }

    /// Replaces `key` by the canonical bytes of the labels of the key; `encoded` is canonical as well.
    pub fn encode(&self, encoded: &[u8], key: &mut Vec<u8>) {
        key.clear();
        if !self.without && self.labels.is_empty() {
            return;
        }
        for (_, pair) in encoded_pairs(encoded).filter(|(name, _)| self.keeps_bytes(name)) {
            key.extend_from_slice(pair);
        }
    }
}

impl From<&Grouping> for KeyLabels {
    fn from(grouping: &Grouping) -> Self {
        Self { without: grouping.without, labels: grouping.labels.clone() }
    }
}

/// Numbers keys in the order of their first appearance.
#[derive(Debug)]
pub struct Groups {
    key_labels: KeyLabels,
    numbers: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    scratch: Vec<u8>,
    /// The key asked for last and its number: neighbours in label order often share it.
    last: Option<(Vec<u8>, usize)>,
}

impl Groups {
    /// No keys yet.
    #[must_use]
    pub fn new(key_labels: KeyLabels) -> Self {
        Self { key_labels, numbers: HashMap::default(), scratch: Vec::new(), last: None }
    }

    /// The number of the key of a canonical label set, and whether it is new.
    pub fn number(&mut self, encoded: &[u8]) -> (usize, bool) {
        self.key_labels.encode(encoded, &mut self.scratch);
        if let Some((key, number)) = &self.last
            && key.len() == self.scratch.len()
            // Comparing nothing at no address is a call that some processors take 100 ns for.
            && (key.is_empty() || *key == self.scratch)
        {
            return (*number, false);
        }
        let count = self.numbers.len();
        let number = match self.numbers.get(self.scratch.as_slice()) {
            Some(number) => *number,
            None => *self.numbers.entry(self.scratch.as_slice().into()).or_insert(count),
        };
        let (key, last) = self.last.get_or_insert_default();
        key.clone_from(&self.scratch);
        *last = number;
        (number, number == count)
    }

    /// The number of the key of a canonical label set if it was seen.
    pub fn find(&mut self, encoded: &[u8]) -> Option<usize> {
        self.key_labels.encode(encoded, &mut self.scratch);
        self.numbers.get(self.scratch.as_slice()).copied()
    }

    /// The labels of the key of a canonical label set.
    #[must_use]
    pub fn key_of(&self, encoded: &[u8]) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in iter_encoded(encoded).filter(|(name, _)| self.key_labels.keeps(name)) {
            builder.push(name, value);
        }
        builder.build().unwrap_or_default()
    }
}
