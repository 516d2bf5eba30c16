//! Labels that a credential or an HA pair gives or takes: batches are rewritten after they were decoded.
//!
//! Senders repeat their series, so what became of a label set is remembered under the rewrite **and** the labels as they were:
//! the next request gets the same pointer, by which a store knows the series again. Series come in the same order most of
//! the time, so that the entry behind the last one is tried before any hash is computed.
//!
//! Invariants
//! - L1 An answer is for an equal rewrite of equal labels; a hash only finds candidates. So no credential ever gets the labels
//!   of another, whoever the sender.
//! - L2 The memory takes no more bytes than it may, of all rewrites of a tenant together: when half of it is full what was not named
//!   since the half before is forgotten. What tenants may have is shared out by the rules of [`shares`](crate::shares).
//!
//! Lock: one, shared while a request is rewritten, held alone while what it brought is learned.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use parking_lot::RwLock;
use pharos_model::{
    Attribute, AttributeValue, Attributes, LabelRewrite, Labels, LabelsBuilder, MetricBatch, Resource, RunLabels,
    SpanBatch,
};
use prost::Message;

use crate::otlp::each_message;
use crate::shares::{Account, ByTenant, TenantMemory};

/// Longer label sets are not remembered.
const LABELS_BYTES_MAX: usize = 4096;
/// What an entry takes beside its label bytes: itself with the vector's slack, a slot of the table, counts of the labels.
const ENTRY_BYTES: u64 = size_of::<Entry>() as u64 * 3 / 2 + 10 + 64;

/// The memories of all tenants.
pub(crate) type RewriteMemories = ByTenant<RewriteMemory>;

/// What became of the label sets of a tenant.
pub(crate) struct RewriteMemory {
    known: RwLock<Known>,
    /// Where the bytes of both generations are taken from.
    account: Account,
}

#[derive(Default)]
struct Known {
    young: Generation,
    old: Generation,
}

/// Entries in the order in which they came.
#[derive(Default)]
struct Generation {
    entries: Vec<Entry>,
    by_hash: HashTable<u32>,
    bytes: u64,
}

struct Entry {
    rewrite: Arc<LabelRewrite>,
    before: Labels,
    after: Labels,
    hash: u64,
}

/// A label set as a batch has it.
#[derive(Clone, Copy)]
struct Named<'a> {
    encoded: &'a [u8],
    shared: Option<&'a Labels>,
}

impl Named<'_> {
    fn is(self, labels: &Labels) -> bool {
        self.shared.is_some_and(|shared| shared.is_same(labels)) || self.encoded == labels.encoded()
    }
}

impl Entry {
    fn answers(&self, rewrite: &Arc<LabelRewrite>, named: Named<'_>) -> bool {
        (Arc::ptr_eq(&self.rewrite, rewrite) || self.rewrite == *rewrite) && named.is(&self.before)
    }

    fn bytes(&self) -> u64 {
        ENTRY_BYTES + (self.before.encoded().len() + self.after.encoded().len()) as u64
    }
}

impl Generation {
    fn find(&self, hash: u64, rewrite: &Arc<LabelRewrite>, named: Named<'_>) -> Option<usize> {
        let is_it = |place: &u32| self.entries[*place as usize].answers(rewrite, named);
        self.by_hash.find(hash, is_it).map(|place| *place as usize)
    }

    fn add(&mut self, entry: Entry) {
        let (place, hash) = (self.entries.len() as u32, entry.hash);
        self.bytes += entry.bytes();
        self.entries.push(entry);
        let entries = &self.entries;
        self.by_hash.insert_unique(hash, place, |place| entries[*place as usize].hash);
    }
}

impl TenantMemory for RewriteMemory {
    fn open(account: Account) -> Self {
        Self { known: RwLock::default(), account }
    }

    /// As if no store shared the labels.
    fn memory_bytes(&self) -> u64 {
        self.account.taken_bytes()
    }

    fn tidy(&self) {
        self.turn(&mut self.known.write());
    }
}

impl RewriteMemory {
    /// Rewrites the labels of each run as `rule` says for its place in the batch. Runs may have equal labels afterwards.
    pub(crate) fn rewrite<'r>(&self, batch: &mut MetricBatch, rule: impl Fn(usize) -> Option<&'r Arc<LabelRewrite>>) {
        let MetricBatch { series, label_bytes, .. } = batch;
        let (mut learned, mut scratch, mut next) = (Vec::new(), LabelsBuilder::default(), 0);
        let known = self.known.read();
        for (place, run) in series.iter_mut().enumerate() {
            let Some(rewrite) = rule(place) else { continue };
            let named = match &run.labels {
                RunLabels::Inline { at, .. } => Named { encoded: &label_bytes[at.clone()], shared: None },
                RunLabels::Shared(labels) => Named { encoded: labels.encoded(), shared: Some(labels) },
            };
            let guess = known.young.entries.get(next).filter(|entry| entry.answers(rewrite, named));
            if let Some(entry) = guess {
                next += 1;
                run.labels = RunLabels::Shared(entry.after.clone());
                continue;
            }
            let hash = pharos_model::fingerprint(named.encoded) as u64;
            if let Some(found) = known.young.find(hash, rewrite, named) {
                next = found + 1;
                run.labels = RunLabels::Shared(known.young.entries[found].after.clone());
                continue;
            }
            let old = known.old.find(hash, rewrite, named).map(|found| &known.old.entries[found]);
            let after = old.map_or_else(|| rewrite.apply(named.encoded, &mut scratch), |entry| entry.after.clone());
            if named.encoded.len() + after.encoded().len() <= LABELS_BYTES_MAX {
                let before = named.shared.cloned().unwrap_or_else(|| Labels::from_canonical(named.encoded));
                learned.push(Entry { rewrite: Arc::clone(rewrite), before, after: after.clone(), hash });
            }
            run.labels = RunLabels::Shared(after);
        }
        drop(known);
        if !learned.is_empty() {
            self.learn(learned);
        }
    }

    fn learn(&self, learned: Vec<Entry>) {
        let mut known = self.known.write();
        for entry in learned {
            let named = Named { encoded: entry.before.encoded(), shared: Some(&entry.before) };
            if known.young.find(entry.hash, &entry.rewrite, named).is_some() {
                continue;
            }
            let is_half_full = known.young.bytes + entry.bytes() > self.account.bytes_max() / 2;
            let mut has_room = !is_half_full && self.account.take(entry.bytes());
            if !has_room {
                self.turn(&mut known);
                has_room = self.account.take(entry.bytes());
            }
            if has_room {
                known.young.add(entry);
            }
        }
    }

    /// Forgets what was not named since the last time.
    fn turn(&self, known: &mut Known) {
        let old = std::mem::replace(&mut known.old, std::mem::take(&mut known.young));
        self.account.give_back(old.bytes);
    }
}

/// Sets the attributes on the resource of each group.
pub(crate) fn set_on_spans(batch: &mut SpanBatch, rewrite: &LabelRewrite) {
    // Groups of one resource share it, and go on sharing it.
    let mut last: Option<(Arc<Resource>, Arc<Resource>)> = None;
    for group in &mut batch.groups {
        let after = match &last {
            Some((before, after)) if Arc::ptr_eq(before, &group.resource) => Arc::clone(after),
            _ => {
                let mut resource = Resource::clone(&group.resource);
                rewrite.set().iter().for_each(|(key, value)| set(&mut resource.attributes, key, value));
                Arc::new(resource)
            }
        };
        last = Some((std::mem::replace(&mut group.resource, Arc::clone(&after)), after));
    }
}

/// The spans as an `ExportTraceServiceRequest`, which `TracesData` is on the wire.
pub(crate) fn request_of(batch: &SpanBatch) -> Bytes {
    let mut request = Vec::new();
    let Ok(()) = each_message::<Infallible>(batch.groups.clone(), usize::MAX, |message| {
        request.extend_from_slice(&message.encode_to_vec());
        Ok(())
    });
    Bytes::from(request)
}

fn set(attributes: &mut Attributes, key: &str, value: &str) {
    attributes.retain(|attribute| attribute.key != key);
    if !value.is_empty() {
        attributes.push(Attribute { key: key.to_owned(), value: AttributeValue::String(value.to_owned()) });
    }
}

#[cfg(test)]
mod tests;
