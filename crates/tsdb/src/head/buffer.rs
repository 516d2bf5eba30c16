//! One series' samples in the head: a short open run and sealed chunks before it, in order of arrival.
//!
//! Invariants
//! - B1 Chunks and the open run stand in order of arrival: where two hold one instant, the later wins.
//! - B2 Only one of the open runs holds samples; one of the other kind seals it first.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use pharos_chunk::{ChunkError, Form, timestamps};
use pharos_model::{Histogram, Sample, TimeRange};

use super::open::OpenRun;
use crate::body::{self, Body, Encoded};
use crate::newest::{ByTime, Newest, NewestSample};
use crate::samples::{Column, Samples};

/// Samples of an open run: some 5 bytes each here, 2 sealed. A chunk costs some 80 bytes and a choice of its codes,
/// so few samples are not worth one; a run is read from its front.
const OPEN_SAMPLES_MAX: usize = 128;
/// Histograms of an open run; as they are in memory they are large.
const OPEN_HISTOGRAMS_MAX: usize = 16;
/// Sealed columns of instants remembered for sharing.
const TIMES_CACHED_MAX: usize = 512;

#[derive(Debug)]
struct Times {
    first: i64,
    last: i64,
    encoded: Box<[u8]>,
}

#[derive(Debug)]
struct Sealed {
    times: Arc<Times>,
    bytes: Box<[u8]>,
    kind: u8,
    /// Below 256: a head is a few varints.
    head_len: u8,
}

/// One series' samples: one cache line for what every append touches.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    open: OpenRun,
    /// What not every append touches.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    sealed: Vec<Sealed>,
    /// Starts of the open floats, empty if none is known.
    starts: Vec<i64>,
    /// The open histograms.
    histograms: Column<Arc<Histogram>>,
}

/// Lets series that are sealed at the same instants share them: all series of one target.
#[derive(Debug, Default)]
pub(crate) struct TimesCache {
    hasher: foldhash::fast::FixedState,
    known: HashMap<u64, Arc<Times>>,
    scratch: Vec<u8>,
    /// The column interned last, plain: neighbours are mostly of one target.
    last: Vec<i64>,
    last_interned: Option<Arc<Times>>,
}

/// Columns of instants as they are decoded, for who reads many series that share them.
#[derive(Debug, Default)]
pub(crate) struct DecodedTimes {
    /// By address, which is nobody else's as long as it is held here.
    known: HashMap<usize, (Arc<Times>, Vec<i64>)>,
}

impl DecodedTimes {
    fn of(&mut self, times: &Arc<Times>) -> Result<&[i64], ChunkError> {
        if self.known.len() >= TIMES_CACHED_MAX {
            self.known.clear();
        }
        let entry = self.known.entry(Arc::as_ptr(times).addr());
        let (_, decoded) = match entry {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let mut decoded = Vec::new();
                timestamps::decode(&times.encoded, &mut decoded)?;
                free.insert((Arc::clone(times), decoded))
            }
        };
        Ok(decoded)
    }
}

impl TimesCache {
    fn intern(&mut self, times: &[i64], bytes: &mut u64) -> Arc<Times> {
        if let Some(last) = &self.last_interned
            && self.last == times
        {
            return Arc::clone(last);
        }
        let interned = self.intern_encoded(times, bytes);
        self.last.clear();
        self.last.extend_from_slice(times);
        self.last_interned = Some(Arc::clone(&interned));
        interned
    }

    fn intern_encoded(&mut self, times: &[i64], bytes: &mut u64) -> Arc<Times> {
        self.scratch.clear();
        timestamps::encode(times, Form::Young, &mut self.scratch);
        let hash = self.hasher.hash_one(&self.scratch);
        if let Some(known) = self.known.get(&hash)
            && *known.encoded == *self.scratch
        {
            return Arc::clone(known);
        }
        let fresh =
            Arc::new(Times { first: times[0], last: times[times.len() - 1], encoded: self.scratch.as_slice().into() });
        *bytes += fresh.encoded.len() as u64 + 64;
        if self.known.len() >= TIMES_CACHED_MAX {
            self.known.clear();
        }
        self.known.insert(hash, Arc::clone(&fresh));
        fresh
    }
}

impl Buffer {
    /// Adds floats in order of arrival; `starts` is empty or as long. `bytes` counts memory taken.
    #[inline]
    pub(crate) fn push_floats(&mut self, samples: &[Sample], starts: &[i64], cache: &mut TimesCache, bytes: &mut u64) {
        if self.more.as_ref().is_some_and(|more| !more.histograms.is_empty()) {
            self.seal_histograms(cache, bytes);
        }
        let capacity = self.open.capacity();
        for (index, sample) in samples.iter().enumerate() {
            if let Some(&start) = starts.get(index) {
                self.push_start(start);
            }
            self.open.push(*sample);
            if self.open.len() >= OPEN_SAMPLES_MAX {
                self.seal_floats(cache, bytes);
            }
        }
        *bytes += (self.open.capacity() - capacity) as u64;
    }

    /// Keeps the column of starts empty until the first known one.
    fn push_start(&mut self, start: i64) {
        if start != 0 || self.more.as_ref().is_some_and(|more| !more.starts.is_empty()) {
            let column = &mut self.more.get_or_insert_default().starts;
            column.resize(self.open.len(), 0);
            column.push(start);
        }
    }

    /// Adds one histogram.
    pub(crate) fn push_histogram(
        &mut self,
        time: i64,
        histogram: Arc<Histogram>,
        start: i64,
        cache: &mut TimesCache,
        bytes: &mut u64,
    ) {
        if !self.open.is_empty() {
            self.seal_floats(cache, bytes);
        }
        *bytes += 200 + 8 * (histogram.positive.counts.len() + histogram.negative.counts.len()) as u64;
        let column = &mut self.more.get_or_insert_default().histograms;
        column.push(time, histogram, start);
        if column.len() >= OPEN_HISTOGRAMS_MAX {
            self.seal_histograms(cache, bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.more.as_ref().is_none_or(|more| more.sealed.is_empty() && more.histograms.is_empty())
    }

    pub(crate) fn chunk_count(&self) -> usize {
        self.sealed().len() + usize::from(!self.open.is_empty())
    }

    fn sealed(&self) -> &[Sealed] {
        self.more.as_ref().map_or(&[], |more| more.sealed.as_slice())
    }

    fn starts(&self) -> &[i64] {
        self.more.as_ref().map_or(&[], |more| more.starts.as_slice())
    }

    /// Instants of what is not sealed yet.
    fn open_times(&self) -> impl Iterator<Item = i64> {
        let histograms = self.more.iter().flat_map(|more| more.histograms.times.iter().copied());
        self.open.iter().map(|sample| sample.timestamp_ms).chain(histograms)
    }

    /// First and last instant.
    pub(crate) fn bounds(&self) -> Option<(i64, i64)> {
        let open = self.open_times().map(|time| (time, time));
        let sealed = self.sealed().iter().map(|sealed| (sealed.times.first, sealed.times.last));
        sealed.chain(open).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether a sample may lie in the range (exact but for gaps inside a chunk).
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.open.newest_if_last().is_some_and(|last| range.contains(last.timestamp_ms))
            || self.sealed().iter().any(|sealed| sealed.overlaps(range))
            || self.open_times().any(|time| range.contains(time))
    }

    /// Adds the samples in the range to sorted, older ones.
    ///
    /// # Errors
    /// Never for chunks sealed here; kept as a result because decoding has one.
    pub(crate) fn read(&self, range: TimeRange, samples: &mut Samples) -> Result<(), ChunkError> {
        let mut times = Vec::new();
        for sealed in self.sealed().iter().filter(|sealed| sealed.overlaps(range)) {
            sealed.read(range, &mut times, samples)?;
        }
        samples.merge(self.open_samples(range));
        Ok(())
    }

    /// As [`Buffer::read`], of everything: one of many series that share columns of instants.
    ///
    /// # Errors
    /// As [`Buffer::read`].
    pub(crate) fn read_all(&self, decoded: &mut DecodedTimes, samples: &mut Samples) -> Result<(), ChunkError> {
        for sealed in self.sealed() {
            body::append(sealed.body(), decoded.of(&sealed.times)?, TimeRange::ALL, samples)?;
        }
        samples.merge(self.open_samples(TimeRange::ALL));
        Ok(())
    }

    /// The newest sample in the range.
    ///
    /// # Errors
    /// As [`Buffer::read`].
    pub(crate) fn newest(&self, range: TimeRange) -> Result<Option<Newest>, ChunkError> {
        // Scrapes mostly end with an instant query's newest sample in the open run, or just before it.
        let mut found = if self.more.as_ref().is_some_and(|more| !more.histograms.is_empty()) {
            Newest::of(&self.open_samples(range), range)
        } else {
            newest_open(&self.open, range)
        };
        let (mut times, mut samples) = (Vec::new(), Samples::default());
        for sealed in self.sealed().iter().rev().filter(|sealed| sealed.overlaps(range)) {
            // B1: of equal instants the later chunk's wins, which was looked at already.
            if found.is_some_and(|found| sealed.times.last <= found.time_ms) {
                continue;
            }
            samples.clear();
            sealed.read(range, &mut times, &mut samples)?;
            found = Newest::of(&samples, range).max_by_time(found);
        }
        Ok(found)
    }

    /// The open runs' samples in the range, sorted.
    fn open_samples(&self, range: TimeRange) -> Samples {
        let mut open = Samples { floats: self.open_floats(), histograms: Column::default() };
        if let Some(more) = &self.more {
            open.histograms = more.histograms.clone();
            open.histograms.sort();
        }
        open.cut(range);
        open
    }

    /// The open floats, sorted.
    fn open_floats(&self) -> Column<f64> {
        let (mut column, starts) = (Column::default(), self.starts());
        column.times.reserve(self.open.len());
        column.values.reserve(self.open.len());
        for (index, sample) in self.open.iter().enumerate() {
            column.push(sample.timestamp_ms, sample.value, starts.get(index).copied().unwrap_or(0));
        }
        column.sort();
        column
    }

    fn seal_floats(&mut self, cache: &mut TimesCache, bytes: &mut u64) {
        let column = self.open_floats();
        self.open.clear();
        let mut encoded = Vec::new();
        let form = body::encode_floats(&column.values, &column.starts, Form::Young, &mut encoded);
        let more = self.more.get_or_insert_with(|| {
            *bytes += size_of::<More>() as u64;
            Box::default()
        });
        more.starts.clear();
        more.push_sealed(form, &encoded, &column.times, cache, bytes);
    }

    fn seal_histograms(&mut self, cache: &mut TimesCache, bytes: &mut u64) {
        let Some(more) = &mut self.more else { return };
        let mut column = std::mem::take(&mut more.histograms);
        column.sort();
        let mut from = 0;
        for to in body::histogram_cuts(&column.values) {
            let mut encoded = Vec::new();
            let piece = column.slice(from, to);
            let form = body::encode_histograms(&piece.values, &piece.starts, Form::Young, &mut encoded);
            more.push_sealed(form, &encoded, &piece.times, cache, bytes);
            from = to;
        }
    }
}

impl More {
    fn push_sealed(&mut self, form: Encoded, encoded: &[u8], times: &[i64], cache: &mut TimesCache, bytes: &mut u64) {
        let times = cache.intern(times, bytes);
        let capacity = self.sealed.capacity();
        if self.sealed.len() == capacity {
            self.sealed.reserve_exact(capacity.clamp(1, 8));
        }
        *bytes += (encoded.len() + (self.sealed.capacity() - capacity) * size_of::<Sealed>()) as u64;
        let (kind, head_len) = (form.kind, form.head_len as u8);
        self.sealed.push(Sealed { times, bytes: encoded.into(), kind, head_len });
    }
}

/// The newest of floats in order of arrival; of equal instants the last wins.
fn newest_open(open: &OpenRun, range: TimeRange) -> Option<Newest> {
    let last = open.newest_if_last().filter(|sample| range.contains(sample.timestamp_ms));
    let inside = || open.iter().filter(|sample| range.contains(sample.timestamp_ms));
    let newest = last.or_else(|| inside().max_by_key(|sample| sample.timestamp_ms))?;
    Some(Newest { time_ms: newest.timestamp_ms, sample: NewestSample::Float(newest.value) })
}

impl Sealed {
    fn read(&self, range: TimeRange, times: &mut Vec<i64>, samples: &mut Samples) -> Result<(), ChunkError> {
        times.clear();
        timestamps::decode(&self.times.encoded, times)?;
        body::append(self.body(), times, range, samples)
    }

    fn body(&self) -> Body<'_> {
        let (head, bulk) = self.bytes.split_at(usize::from(self.head_len));
        Body { kind: self.kind, head, bulk }
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        self.times.first < range.end_ms && range.start_ms <= self.times.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(timestamp_ms: i64, value: f64) -> Sample {
        Sample { timestamp_ms, value }
    }

    fn read(buffer: &Buffer, range: TimeRange) -> Samples {
        let mut samples = Samples::default();
        buffer.read(range, &mut samples).unwrap();
        samples
    }

    #[test]
    fn the_newest_sample_is_the_last_one_read() {
        let (mut buffer, mut cache, mut bytes) = (Buffer::default(), TimesCache::default(), 0);
        let late = [5, 90, 40, 90, 17, 3];
        for (index, time) in (0..70).chain(late).chain(60..75).enumerate() {
            if time % 11 == 0 {
                let histogram = Arc::new(Histogram::empty(0));
                buffer.push_histogram(time, histogram, index as i64, &mut cache, &mut bytes);
            } else {
                buffer.push_floats(&[sample(time, index as f64)], &[], &mut cache, &mut bytes);
            }
            for range in [TimeRange::ALL, TimeRange::new(0, 50), TimeRange::new(33, 34), TimeRange::new(80, 85)] {
                let expected = Newest::of(&read(&buffer, range), range);
                let found = buffer.newest(range).unwrap();
                assert_eq!(format!("{found:?}"), format!("{expected:?}"), "after {index}");
            }
        }
    }

    #[test]
    fn late_and_double_samples_are_read_in_order_across_chunks() {
        let (mut buffer, mut cache, mut bytes) = (Buffer::default(), TimesCache::default(), 0);
        for time in (0..100).rev() {
            buffer.push_floats(&[sample(time, 1.0)], &[], &mut cache, &mut bytes);
        }
        buffer.push_floats(&[sample(50, 2.0), sample(50, 3.0)], &[0, 7], &mut cache, &mut bytes);
        let all = read(&buffer, TimeRange::ALL);
        assert_eq!(all.floats.times, (0..100).collect::<Vec<_>>());
        assert_eq!((all.floats.values[50], all.floats.starts[50], all.floats.starts[49]), (3.0, 7, 0));
        assert_eq!(buffer.bounds(), Some((0, 99)));
        assert_eq!(read(&buffer, TimeRange::new(10, 12)).floats.times, [10, 11]);
    }

    #[test]
    fn kinds_may_alternate() {
        let (mut buffer, mut cache, mut bytes) = (Buffer::default(), TimesCache::default(), 0);
        for time in 0..10 {
            buffer.push_floats(&[sample(time, 1.0)], &[], &mut cache, &mut bytes);
            buffer.push_histogram(
                time + i64::from(time % 2 == 0),
                Arc::new(Histogram::empty(0)),
                0,
                &mut cache,
                &mut bytes,
            );
        }
        let all = read(&buffer, TimeRange::ALL);
        assert_eq!((all.floats.times, all.histograms.times), (vec![0, 2, 4, 6, 8], vec![1, 3, 5, 7, 9]));
    }
}
