//! The data folders of `testdata/fixtures`, made by Prometheus' own storage, and everything in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pharos_model::{Histogram, Labels, TimeRange};
use pharos_prometheus_data::{Block, Damage, DataFolder, Head, Points};

/// A value and its start timestamp; by instant, so that what two files hold counts once.
pub(crate) type Series = BTreeMap<i64, (Value, i64)>;

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Box<Histogram>),
}

/// Everything that a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) series: BTreeMap<Labels, Series>,
    pub(crate) exemplars: Vec<(Labels, i64, f64)>,
    pub(crate) metadata: Vec<String>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) orphan_count: u64,
}

impl Contents {
    pub(crate) fn sample_count(&self) -> usize {
        self.series.values().map(BTreeMap::len).sum()
    }

    fn add(&mut self, labels: &Labels, points: Points) {
        let series = self.series.entry(labels.clone()).or_default();
        for point in points.floats {
            series.insert(point.timestamp_ms, (Value::Float(point.value), point.start_ms));
        }
        for point in points.histograms {
            series.insert(point.timestamp_ms, (Value::Histogram(Box::new(point.histogram)), point.start_ms));
        }
        for exemplar in points.exemplars {
            self.exemplars.push((labels.clone(), exemplar.timestamp_ms, exemplar.value));
        }
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures").join(name)
}

/// Reads all there is, as an import does.
pub(crate) fn read(path: &Path) -> Contents {
    let mut contents = Contents::default();
    let mut damage = Vec::new();
    let tell = &mut |found| damage.push(found);
    let folder = DataFolder::open(path, tell).unwrap();
    for place in &folder.blocks {
        let Some(mut block) = Block::open(&place.path, tell).unwrap() else { continue };
        while let Some(labels) = block.next_series(tell).unwrap() {
            let mut points = Points::default();
            for chunk in 0..block.chunk_count() {
                block.points(chunk, TimeRange::ALL, &mut points, tell).unwrap();
            }
            contents.add(&labels, points);
        }
    }
    if folder.has_head() {
        let mut head = Head::open(&folder, tell).unwrap();
        while let Some(batch) = head.next_points(1_000, tell).unwrap() {
            for (labels, points) in batch {
                contents.add(&labels, points);
            }
        }
        let shown =
            |m: &pharos_model::MetricMetadata| format!("{} {} {} {:?}", m.metric, m.kind.as_str(), m.unit, m.help);
        contents.metadata = head.metadata().iter().map(shown).collect();
        contents.orphan_count = head.orphan_count();
    }
    contents.series.retain(|_, series| !series.is_empty());
    contents.damage = damage;
    contents
}

/// A copy that may be damaged.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &target) } else { std::fs::copy(&entry, &target).map(|_| ()).unwrap() }
    }
}

/// Every file below a folder, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}
