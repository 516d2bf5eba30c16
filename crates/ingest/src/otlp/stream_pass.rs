//! One metric of a request, point by point: where the label sets of the current point are.

use super::group::Resource;
use super::known::KnownTenant;
use super::known_group::{KnownGroup, KnownMetric};
use super::label_sets::{LabelSets, LabelSetsBuilder};
use super::point_fields::{AttributeBytes, Expected};
use super::streams::{Stream, Streams};

/// The streams of a metric while its points are translated.
pub(super) struct StreamPass<'k> {
    pub resource: &'k Resource,
    pub group: &'k KnownGroup,
    pub metric: &'k KnownMetric,
    known: &'k Streams,
    /// Streams that were not known when the metric began, if there are any.
    fresh: Option<Streams>,
    /// Where the next point's stream is expected in `known`.
    next: usize,
    current: Place,
    /// Label sets of a stream for which there is no memory.
    pub made: LabelSetsBuilder,
    pub deltas: Deltas,
}

/// Whether points of the metric are deltas, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deltas {
    None,
    /// They stay what they are.
    Stay,
    /// They are added up.
    AddUp {
        is_monotonic: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Known(usize),
    Fresh(usize),
    Made,
}

impl<'k> StreamPass<'k> {
    pub(super) fn new(
        (resource, group): (&'k Resource, &'k KnownGroup),
        metric: &'k KnownMetric,
        known: &'k Streams,
        made: LabelSetsBuilder,
        deltas: Deltas,
    ) -> Self {
        Self { resource, group, metric, known, fresh: None, next: 0, current: Place::Made, made, deltas }
    }

    /// What the next point's attributes are likely to be.
    #[inline]
    pub(super) fn expected(&self) -> Expected<'k> {
        Expected(self.known.attributes_at(self.next))
    }

    /// Makes the stream of these attributes the current one, if it is known.
    #[inline]
    pub(super) fn find(
        &mut self,
        attributes: &AttributeBytes<'_>,
        shape: &[u8],
        known: &KnownTenant,
    ) -> Result<(), u64> {
        if attributes.is_expected && self.known.has_shape(self.next, shape) {
            self.found(self.next);
            return Ok(());
        }
        self.look_up(attributes, shape, known)
    }

    /// As [`find`](Self::find), by hash; a miss answers the hash.
    fn look_up(&mut self, attributes: &AttributeBytes<'_>, shape: &[u8], known: &KnownTenant) -> Result<(), u64> {
        let hash = known.hash(&attributes.bytes, known.hash(shape, 0));
        if let Some(index) = self.known.find(hash, &attributes.bytes, shape) {
            self.found(index);
        } else if let Some(fresh) = &self.fresh
            && let Some(index) = fresh.find(hash, &attributes.bytes, shape)
        {
            self.current = Place::Fresh(index);
        } else {
            return Err(hash);
        }
        Ok(())
    }

    fn found(&mut self, index: usize) {
        self.current = Place::Known(index);
        // Behind the last comes the first: a metric of one stream is always the expected one.
        self.next = if self.known.attributes_at(index + 1).is_some() { index + 1 } else { 0 };
    }

    /// Makes the stream of these attributes, whose label sets were just made, the current one.
    pub(super) fn add(&mut self, hash: u64, attributes: &AttributeBytes<'_>, shape: &[u8], minute: u32) {
        let sets = self.made.sets();
        self.current = Place::Made;
        let fresh = self.fresh.get_or_insert_with(|| self.group.new_streams());
        if fresh.reserve(Stream::memory_bytes(&attributes.bytes, shape, &sets)) {
            let stream = Stream::new(hash, &attributes.bytes, shape, sets, minute);
            self.current = Place::Fresh(fresh.push(stream));
        }
    }

    /// The label sets of the current point.
    #[inline]
    pub(super) fn sets(&self, minute: u32) -> LabelSets<'_> {
        match (self.current, &self.fresh) {
            (Place::Known(index), _) => self.known.sets(index, minute),
            (Place::Fresh(index), Some(fresh)) => fresh.sets(index, minute),
            _ => self.made.sets(),
        }
    }

    /// What was not known, and the builder.
    pub(super) fn finish(self) -> (Option<Streams>, LabelSetsBuilder) {
        (self.fresh, self.made)
    }
}
