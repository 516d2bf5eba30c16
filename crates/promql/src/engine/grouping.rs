//! Keys that label sets are grouped and matched by.

use hashbrown::HashMap;
use pharos_model::{Labels, METRIC_NAME, push_encoded_pair};

/// Which labels make a group: these, or all but these (and the name).
#[derive(Debug, Clone)]
pub(super) struct KeyLabels {
    without: bool,
    /// Sorted.
    labels: Vec<String>,
}

impl KeyLabels {
    pub(super) fn new(without: bool, labels: &[String]) -> Self {
        let mut labels = labels.to_vec();
        if without {
            labels.push(METRIC_NAME.to_owned());
        }
        labels.sort_unstable();
        labels.dedup();
        Self { without, labels }
    }

    /// Whether the label belongs to the key.
    pub(super) fn keeps(&self, name: &str) -> bool {
        self.labels.binary_search_by(|label| label.as_str().cmp(name)).is_ok() != self.without
    }

    /// The canonical bytes of the labels of the key.
    pub(super) fn encode(&self, labels: &Labels, key: &mut Vec<u8>) {
        key.clear();
        for (name, value) in labels.iter().filter(|(name, _)| self.keeps(name)) {
            push_encoded_pair(key, name, value);
        }
    }
}

/// Numbers keys in the order of their first appearance.
#[derive(Debug)]
pub(super) struct Groups {
    key_labels: KeyLabels,
    numbers: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    scratch: Vec<u8>,
}

impl Groups {
    pub(super) fn new(key_labels: KeyLabels) -> Self {
        Self { key_labels, numbers: HashMap::default(), scratch: Vec::new() }
    }

    /// The number of the key of `labels`, and whether it is new.
    pub(super) fn number(&mut self, labels: &Labels) -> (usize, bool) {
        self.key_labels.encode(labels, &mut self.scratch);
        if let Some(number) = self.numbers.get(self.scratch.as_slice()) {
            return (*number, false);
        }
        let number = self.numbers.len();
        self.numbers.insert(self.scratch.as_slice().into(), number);
        (number, true)
    }

    /// The number of the key of `labels` if it was seen.
    pub(super) fn find(&mut self, labels: &Labels) -> Option<usize> {
        self.key_labels.encode(labels, &mut self.scratch);
        self.numbers.get(self.scratch.as_slice()).copied()
    }

    /// The labels of the key.
    pub(super) fn key_of(&self, labels: &Labels) -> Labels {
        super::series::filtered(labels, |name| self.key_labels.keeps(name))
    }
}
