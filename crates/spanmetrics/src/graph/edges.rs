//! Counts along the edges of one tenant's graph of services.
//!
//! Invariants
//! - E1 Every request counts along exactly one edge; where the tenant has too many, along that of the rest.
//! - E2 Counters only rise while their edge lives (`life.rs`). One that ends is marked stale, and begins again from a zero.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use pharos_model::{Labels, LabelsBuilder, METRIC_NAME, Sample};

use super::{Call, Connection};
use crate::flush::Instants;
use crate::life::{Life, Settled, Step};
use crate::names::{
    CLIENT_SECONDS, DROPPED, FAILED, GRAPH_BOUNDS_NS, MESSAGING_SECONDS, OVERFLOW, REQUESTS, SECOND_NS, SERVER_SECONDS,
    UNPAIRED, bounds_in,
};
use crate::output::Output;
use crate::slots::Slots;
use crate::tally::Tally;

const BUCKETS: usize = GRAPH_BOUNDS_NS.len() + 1;
type Seconds = Tally<BUCKETS>;

/// What is counted between a client and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Requests(Connection),
    Unpaired,
    Dropped,
}

impl Subject {
    fn number(self) -> u32 {
        match self {
            Self::Unpaired => 100,
            Self::Dropped => 101,
            Self::Requests(connection) => connection as u32,
        }
    }
}

/// An edge, or the edge of the rest.
#[derive(Debug)]
struct Edge {
    subject: Subject,
    /// Client and server, either of which may be unknown; `None` for the rest.
    ends: Option<(Arc<str>, Arc<str>)>,
    total: f64,
    failed: f64,
    server: Seconds,
    client: Seconds,
    messaging: Seconds,
    life: Life,
    /// The last instant of which the store has the counts; at first, when it was made.
    stored_ms: i64,
    /// Which histograms the store has: server, client, messaging.
    has_histogram: [bool; 3],
    /// Which were written last.
    writes_histogram: [bool; 3],
    labels: Option<EdgeLabels>,
}

#[derive(Debug)]
struct EdgeLabels {
    total: Labels,
    failed: Labels,
    server: Labels,
    client: Labels,
    messaging: Labels,
}

/// The edges of one tenant.
#[derive(Debug)]
pub(crate) struct Edges {
    slots: Slots<Edge>,
    hasher: foldhash::fast::RandomState,
    count_max: usize,
    bounds_s: Vec<f64>,
}

impl Edges {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            slots: Slots::default(),
            hasher: foldhash::fast::RandomState::default(),
            count_max,
            bounds_s: bounds_in(&GRAPH_BOUNDS_NS, SECOND_NS),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn places(&self) -> usize {
        self.slots.places()
    }

    /// Counts a call; false if it counts with the rest.
    pub(super) fn count(&mut self, subject: Subject, call: &Call, now_ms: i64) -> bool {
        let ends = (&call.client, &call.server);
        let place = match self.slots.find(self.hash(subject, Some(ends)), |edge| edge.is(subject, Some(ends))) {
            Some(place) => Some((place, true)),
            None if self.slots.len() < self.count_max => Some((self.make(subject, Some(ends), now_ms), true)),
            None => None,
        };
        let (place, is_own) = place.unwrap_or_else(|| {
            let found = self.slots.find(self.hash(subject, None), |edge| edge.is(subject, None));
            (found.unwrap_or_else(|| self.make(subject, None, now_ms)), false)
        });
        if let Some(edge) = self.slots.get_mut(place) {
            edge.add(call, now_ms);
        }
        is_own
    }

    fn make(&mut self, subject: Subject, ends: Option<(&Arc<str>, &Arc<str>)>, now_ms: i64) -> crate::slots::Place {
        let ends_shared = ends.map(|(client, server)| (Arc::clone(client), Arc::clone(server)));
        let edge = Edge::new(subject, ends_shared, Life::new(now_ms));
        self.slots.insert(self.hash(subject, ends), edge)
    }

    fn hash(&self, subject: Subject, ends: Option<(&Arc<str>, &Arc<str>)>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(subject.number());
        if let Some((client, server)) = ends {
            hasher.write(client.as_bytes());
            hasher.write_u8(0xff);
            hasher.write(server.as_bytes());
        }
        hasher.finish()
    }

    /// Writes place number `index`; what of it the store took is then told by [`Edges::settle`].
    pub(super) fn flush(&mut self, index: usize, at: Instants, output: &mut Output) {
        let Some(edge) = self.slots.at(index) else { return };
        let step = edge.life.step(at.now_ms, at.idle_since_ms);
        let labels = edge.labels.take().unwrap_or_else(|| edge.make_labels());
        match step {
            Step::Nothing => {}
            Step::Forget => return drop(self.slots.remove(index)),
            Step::Values { begins } => edge.write(&labels, at.now_ms, begins, &self.bounds_s, output),
            Step::End => edge.end(&labels, at.now_ms, output),
        }
        edge.labels = Some(labels);
    }

    /// Learns whether the store took what was written of place number `index`.
    pub(super) fn settle(&mut self, index: usize, is_stored: bool) {
        let Some(edge) = self.slots.at(index) else { return };
        match edge.life.settle(is_stored) {
            Settled::Nothing => {}
            Settled::Values { at_ms } => {
                edge.stored_ms = at_ms;
                for (has, writes) in edge.has_histogram.iter_mut().zip(edge.writes_histogram) {
                    *has |= writes;
                }
            }
            Settled::Ended => drop(self.slots.remove(index)),
        }
    }
}

impl Edge {
    fn new(subject: Subject, ends: Option<(Arc<str>, Arc<str>)>, life: Life) -> Self {
        Self {
            subject,
            ends,
            total: 0.0,
            failed: 0.0,
            server: Tally::new(),
            client: Tally::new(),
            messaging: Tally::new(),
            stored_ms: life.created_ms(),
            life,
            has_histogram: [false; 3],
            writes_histogram: [false; 3],
            labels: None,
        }
    }

    fn is(&self, subject: Subject, ends: Option<(&Arc<str>, &Arc<str>)>) -> bool {
        self.subject == subject
            && match (&self.ends, ends) {
                (Some((client, server)), Some(other)) => client == other.0 && server == other.1,
                (None, None) => true,
                _ => false,
            }
    }

    fn add(&mut self, call: &Call, now_ms: i64) {
        if self.life.count(now_ms) {
            let life = std::mem::replace(&mut self.life, Life::new(now_ms));
            *self = Self { labels: self.labels.take(), ..Self::new(self.subject, self.ends.take(), life) };
        }
        self.total += call.weight;
        if call.is_failed {
            self.failed += call.weight;
        }
        for (tally, duration_ns) in [
            (&mut self.server, call.server_ns),
            (&mut self.client, call.client_ns),
            (&mut self.messaging, call.messaging_ns),
        ] {
            if let Some(duration_ns) = duration_ns {
                tally.add(duration_ns, call.weight, &GRAPH_BOUNDS_NS);
            }
        }
    }

    fn make_labels(&self) -> EdgeLabels {
        let mut builder = LabelsBuilder::default();
        let mut of = |metric: &str| {
            builder.clear();
            builder.push(METRIC_NAME, metric);
            match &self.ends {
                Some((client, server)) => {
                    builder.push("client", client);
                    builder.push("server", server);
                }
                None => builder.push(OVERFLOW, "true"),
            }
            if let Subject::Requests(connection) = self.subject {
                builder.push("connection_type", connection.label());
            }
            builder.build().unwrap_or_default()
        };
        let total = match self.subject {
            Subject::Requests(_) => REQUESTS,
            Subject::Unpaired => UNPAIRED,
            Subject::Dropped => DROPPED,
        };
        EdgeLabels {
            total: of(total),
            failed: of(FAILED),
            server: of(SERVER_SECONDS),
            client: of(CLIENT_SECONDS),
            messaging: of(MESSAGING_SECONDS),
        }
    }

    fn is_requests(&self) -> bool {
        matches!(self.subject, Subject::Requests(_))
    }

    fn counters<'a>(&self, labels: &'a EdgeLabels) -> impl Iterator<Item = (&'a Labels, f64)> {
        // An edge without failures has a counter at zero, so that a share of failures can be computed.
        let failed = self.is_requests().then_some((&labels.failed, self.failed));
        std::iter::once((&labels.total, self.total)).chain(failed)
    }

    fn histograms<'a>(&self, labels: &'a EdgeLabels) -> [(&'a Labels, &Seconds); 3] {
        [(&labels.server, &self.server), (&labels.client, &self.client), (&labels.messaging, &self.messaging)]
    }

    fn write(&mut self, labels: &EdgeLabels, now_ms: i64, begins: bool, bounds_s: &[f64], output: &mut Output) {
        // A zero where a series begins: without it the first requests would be in no rate.
        let created_ms = self.life.created_ms();
        for (labels, value) in self.counters(labels) {
            if begins {
                output.sample(Sample { timestamp_ms: created_ms, value: 0.0 }, created_ms);
            }
            output.sample(Sample { timestamp_ms: now_ms, value }, created_ms);
            output.finish(labels);
        }
        let mut written = [false; 3];
        for (index, (labels, tally)) in self.histograms(labels).into_iter().enumerate() {
            if tally.count() == 0.0 || !self.is_requests() {
                continue;
            }
            // The first observation may come long after the edge's first request.
            if !self.has_histogram[index] && self.stored_ms < now_ms {
                let nothing = Seconds::new().histogram(bounds_s, SECOND_NS);
                output.histogram(self.stored_ms, nothing, created_ms);
            }
            written[index] = true;
            output.histogram(now_ms, tally.histogram(bounds_s, SECOND_NS), created_ms);
            output.finish(labels);
        }
        self.writes_histogram = written;
    }

    fn end(&self, labels: &EdgeLabels, now_ms: i64, output: &mut Output) {
        for (labels, _) in self.counters(labels) {
            output.end(labels, now_ms);
        }
        for ((labels, _), has) in self.histograms(labels).into_iter().zip(self.has_histogram) {
            if has {
                output.end_histogram(labels, now_ms);
            }
        }
    }
}
