//! Who sends spans: `traces_target_info`, one series for each resource with its attributes as labels, and the labels `job` and
//! `instance` that join it with the metrics of its spans, as Tempo's generator writes them.
//!
//! Invariants
//! - T1 A tenant has at most `target_info_max` of them, each of at most [`LABEL_BYTES_MAX`] of labels.
//! - T2 A resource is known by two hashes under random keys, so that nobody can make two of them one.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use pharos_model::{AttributeValue, Labels, LabelsBuilder, METRIC_NAME, Resource, Sample};
use pharos_storage::render_attribute_value;

use crate::flush::Instants;
use crate::life::{Life, Settled, Step};
use crate::names::{INSTANCE, JOB, TARGET_INFO, cut, label_name};
use crate::output::Output;
use crate::slots::Slots;

/// Labels of one resource; further attributes are left out.
const LABELS_MAX: usize = 64;
/// Bytes of names and values of these.
const LABEL_BYTES_MAX: usize = 16 << 10;
/// Attributes that `job` and `instance` are made of.
const IDENTITY: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

/// The resources of one tenant that spans came from lately.
#[derive(Debug)]
pub(crate) struct Targets {
    slots: Slots<Target>,
    hashers: [RandomState; 2],
    max: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Target {
    /// T2: the second hash; the first finds the slot.
    identity: u64,
    labels: Labels,
    life: Life,
}

/// `service.namespace/service.name`, or the name alone.
pub(crate) fn job(resource: &Resource) -> String {
    match text(resource, IDENTITY[0]) {
        Some(namespace) => cut(&format!("{namespace}/{}", resource.service_name())).to_owned(),
        None => cut(resource.service_name()).to_owned(),
    }
}

/// `service.instance.id`; empty without one.
pub(crate) fn instance(resource: &Resource) -> String {
    text(resource, IDENTITY[2]).map_or_else(String::new, |instance| cut(&instance).to_owned())
}

fn text(resource: &Resource, key: &str) -> Option<String> {
    let found = resource.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(render_attribute_value(&found.value).into()).filter(|text: &String| !text.is_empty())
}

impl Targets {
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Slots::default(), hashers: Default::default(), max, dropped: 0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many places to flush.
    pub(crate) fn places(&self) -> usize {
        self.slots.places()
    }

    /// How often a resource found no place.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Spans came from a resource.
    pub(crate) fn see(&mut self, resource: &Resource, now_ms: i64) {
        // Tempo tells nothing of who says nothing about itself.
        if resource.attributes.iter().all(|attribute| IDENTITY.contains(&attribute.key.as_str())) {
            return;
        }
        let [hash, identity] = [0, 1].map(|number: usize| hash(resource, self.hashers[number].build_hasher()));
        let place = match self.slots.find(hash, |target| target.identity == identity) {
            Some(place) => place,
            None if self.slots.len() < self.max => {
                let (labels, life) = (labels_of(resource), Life::new(now_ms));
                self.slots.insert(hash, Target { identity, labels, life })
            }
            None => {
                self.dropped += 1;
                return;
            }
        };
        if let Some(target) = self.slots.get_mut(place) {
            // It has no counter that could begin anew.
            let _ = target.life.count(now_ms);
        }
    }

    /// Writes place number `index`; what of it the store took is then told by [`Targets::settle`].
    pub(crate) fn flush(&mut self, index: usize, at: Instants, output: &mut Output) {
        let Some(target) = self.slots.at(index) else { return };
        match target.life.step(at.now_ms, at.idle_since_ms) {
            Step::Forget => drop(self.slots.remove(index)),
            Step::End => output.end(&target.labels, at.now_ms),
            // A gauge is there for as long as it is written.
            Step::Nothing | Step::Values { .. } => {
                output.sample(Sample { timestamp_ms: at.now_ms, value: 1.0 }, 0);
                output.finish(&target.labels);
            }
        }
    }

    /// Learns whether the store took what was written of place number `index`.
    pub(crate) fn settle(&mut self, index: usize, is_stored: bool) {
        if self.slots.at(index).is_some_and(|target| target.life.settle(is_stored) == Settled::Ended) {
            self.slots.remove(index);
        }
    }
}

fn hash(resource: &Resource, mut hasher: impl Hasher) -> u64 {
    for attribute in &resource.attributes {
        hasher.write_usize(attribute.key.len());
        hasher.write(attribute.key.as_bytes());
        let rendered;
        let value = match &attribute.value {
            AttributeValue::String(text) => text.as_str(),
            other => {
                rendered = render_attribute_value(other);
                &*rendered
            }
        };
        hasher.write_usize(value.len());
        hasher.write(value.as_bytes());
    }
    hasher.finish()
}

fn labels_of(resource: &Resource) -> Labels {
    let (job, instance) = (job(resource), instance(resource));
    let mut taken = vec![METRIC_NAME.to_owned(), JOB.to_owned(), INSTANCE.to_owned()];
    let mut builder = LabelsBuilder::default();
    builder.push(METRIC_NAME, TARGET_INFO);
    builder.push(JOB, &job);
    builder.push(INSTANCE, &instance);
    let mut bytes = 0;
    for attribute in resource.attributes.iter().filter(|attribute| !IDENTITY.contains(&attribute.key.as_str())) {
        let (name, value) = (label_name(cut(&attribute.key)), render_attribute_value(&attribute.value));
        let value = cut(&value);
        bytes += name.len() + value.len();
        if taken.len() > LABELS_MAX || bytes > LABEL_BYTES_MAX {
            break;
        }
        // Of two attributes that become one label the first counts; none becomes a label of ours.
        if !name.is_empty() && !value.is_empty() && !taken.contains(&name) {
            builder.push(&name, value);
            taken.push(name);
        }
    }
    builder.build().unwrap_or_default()
}
