//! Where the series come from: counts over what is in the head and in the newest parts, by their indexes alone. What
//! is in several of them is counted once: labels are compared, where there are several, but not taken apart.

use hashbrown::HashMap;
use pharos_base::MemoryBudget;
use pharos_model::{METRIC_NAME, TenantId, TimeRange};
use pharos_storage::{CardinalityEntry, CardinalityStatus, ReadContext, StorageError};

use crate::read::Order;
use crate::shared::Shared;

/// Series without a sample in this time before the newest one do not count as present.
const PRESENT_MS: i64 = 2 * 3_600_000;

/// What the counting may hold in memory; above it the question is refused.
const MEMORY_MAX: u64 = 512 << 20;
/// What a value costs beside its text.
const VALUE_BYTES: u64 = 48;

/// A label's values: how many series each has.
type Values = HashMap<Box<str>, u64>;

impl Shared {
    /// Counts the series present: those with samples in the newest two hours before the newest one.
    pub(crate) fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError> {
        let Some(found) = self.tenants.get(tenant) else { return Ok(CardinalityStatus::default()) };
        let mut status = CardinalityStatus::default();
        let (mut oldest, mut newest) = (i64::MAX, i64::MIN);
        {
            let state = found.state.read();
            for generation in state.frozen.iter().chain([&state.active]) {
                status.chunks += generation.chunk_count() as u64;
                if let Some((first, last)) = generation.bounds() {
                    (oldest, newest) = (oldest.min(first), newest.max(last));
                }
            }
            newest = state.parts.iter().fold(newest, |newest, part| newest.max(part.meta.max_time_ms));
        }
        if newest == i64::MIN {
            return Ok(status);
        }
        // What is late does not make the parts of its time present.
        let from_ms = newest.saturating_sub(PRESENT_MS);
        let mut by_label: HashMap<Box<str>, Values> = HashMap::new();
        let range = self.kept(tenant, TimeRange::inclusive(from_ms, newest));
        let context = ReadContext { memory: MemoryBudget::new(MEMORY_MAX), ..ReadContext::unlimited() };
        let selection = self.select(tenant, &[], range, Order::Any, &context)?;
        let (mut held, mut enough) = (context.memory.reserve(0)?, Ok(()));
        for (history, series) in selection.into_owned()? {
            status.series += series.len();
            let counted = history.count_values(&series, |name, value, count| {
                if enough.is_ok() && add(&mut by_label, name, value, count) {
                    enough = held.grow(value.len() as u64 + VALUE_BYTES);
                }
            });
            counted.map_err(|error| self.damaged.met_in_query(error))?;
            enough?;
        }
        status.min_time_ms = if oldest == i64::MAX { from_ms } else { oldest };
        status.max_time_ms = newest;
        status.label_pairs = by_label.values().map(|values| values.len() as u64).sum();
        let name = |name: &str| name.to_owned();
        let by_metric = by_label.get(METRIC_NAME).into_iter().flatten();
        status.series_by_metric = largest(by_metric.map(|(metric, count)| (name(metric), *count)), top);
        status.values_by_label =
            largest(by_label.iter().map(|(label, values)| (name(label), values.len() as u64)), top);
        let bytes = |values: &Values| values.iter().map(|(value, count)| value.len() as u64 * count).sum();
        status.bytes_by_label = largest(by_label.iter().map(|(label, values)| (name(label), bytes(values))), top);
        let pairs =
            by_label.iter().flat_map(|(label, values)| values.iter().map(move |(value, count)| (label, value, *count)));
        // Names are built for the few that stay only.
        let mut counts: Vec<u64> = pairs.clone().map(|(.., count)| count).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let least = counts.get(top.saturating_sub(1)).copied().unwrap_or(0);
        let kept = pairs.filter(|(.., count)| *count >= least);
        status.series_by_pair = largest(kept.map(|(label, value, count)| (format!("{label}={value}"), count)), top);
        Ok(status)
    }
}

/// Whether the value is new.
fn add(by_label: &mut HashMap<Box<str>, Values>, name: &str, value: &str, count: u64) -> bool {
    let values = match by_label.get_mut(name) {
        Some(values) => values,
        None => by_label.entry(name.into()).or_default(),
    };
    match values.get_mut(value) {
        Some(known) => {
            *known += count;
            false
        }
        None => values.insert(value.into(), count).is_none(),
    }
}

fn largest(counts: impl Iterator<Item = (String, u64)>, top: usize) -> Vec<CardinalityEntry> {
    let mut entries: Vec<_> = counts.map(|(name, value)| CardinalityEntry { name, value }).collect();
    entries.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    entries.truncate(top);
    entries
}
