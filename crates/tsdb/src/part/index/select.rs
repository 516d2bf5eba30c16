//! From matchers to series of a part, by scanning columns, the most selective matcher first.
//!
//! Series are sorted by the label they begin with, mostly the metric's name: its column ascends, and a matcher of it
//! is a search that leaves the others next to nothing to scan.

use std::ops::Range;
use std::sync::Arc;

use pharos_base::CancelToken;
use pharos_model::Matcher;
use roaring::RoaringBitmap;

use super::PartIndex;
use super::reader::Reader;
use super::segment::{Columns, Ids, Shapes};
use super::toc::Segment;
use crate::TsdbError;
use crate::index::SeriesIndex;
use crate::pattern::ValueTest;

/// Ids compared at once before looking which of them is meant.
const SCAN_IDS: usize = 64;
/// In an ascending column an id is searched for rather than scanned for if there are this many to scan for each.
const IDS_PER_SEARCH: usize = 256;
/// Longer runs of series found are added to a set as runs.
const RUN_MIN: u32 = 16;

/// A matcher in terms of a part.
enum Compiled {
    /// Every series passes.
    Always,
    /// None does.
    Never,
    Test(Test),
}

/// A test of one label's value ids.
struct Test {
    label: u32,
    /// Whether series without the label pass.
    absent: bool,
    passing: Passing,
    /// The least and the greatest id that pass.
    ids: Range<u32>,
    /// Share of the values that pass, for ordering.
    share: f64,
}

enum Passing {
    None,
    One(u32),
    Some(IdSet),
    All,
}

/// A set of value ids of one label.
#[derive(Debug, Clone)]
pub(super) struct IdSet {
    bits: Vec<u64>,
    pub(super) count: u32,
}

impl IdSet {
    pub(super) fn new(value_count: u32) -> Self {
        Self { bits: vec![0; (value_count as usize).div_ceil(64)], count: 0 }
    }

    pub(super) fn insert(&mut self, id: u32) {
        let (word, bit) = (&mut self.bits[id as usize / 64], 1 << (id % 64));
        self.count += u32::from(*word & bit == 0);
        *word |= bit;
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.bits[id as usize / 64] >> (id % 64) & 1 == 1
    }

    fn invert(&mut self, value_count: u32) {
        self.bits.iter_mut().for_each(|word| *word = !*word);
        if let Some(last) = self.bits.last_mut()
            && !value_count.is_multiple_of(64)
        {
            *last &= (1 << (value_count % 64)) - 1;
        }
        self.count = value_count - self.count;
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bits.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(index as u32 * 64 + bit)
            })
        })
    }
}

impl SeriesIndex for PartIndex {
    fn all_series(&self) -> Result<RoaringBitmap, TsdbError> {
        Ok(self.all())
    }

    fn select(&self, matchers: &[Matcher], cancel: &CancelToken) -> Result<RoaringBitmap, TsdbError> {
        let reader = self.reader()?;
        let mut tests = Vec::new();
        for matcher in matchers {
            match compile(reader, matcher, cancel)? {
                Compiled::Always => {}
                Compiled::Never => return Ok(RoaringBitmap::new()),
                Compiled::Test(test) => tests.push(test),
            }
        }
        if tests.is_empty() {
            return Ok(self.all());
        }
        tests.sort_by(|a, b| a.share.total_cmp(&b.share));
        let mut found = RoaringBitmap::new();
        for segment in &reader.toc.segments {
            if tests.iter().all(|test| test.may_pass(segment)) {
                cancel.check()?;
                scan_segment(reader, segment, &tests, &mut found)?;
            }
        }
        Ok(found)
    }
}

impl Test {
    fn may_pass(&self, segment: &Segment) -> bool {
        let zone = segment.zones.get(self.label as usize);
        self.absent || zone.is_none_or(|zone| zone.start < self.ids.end && self.ids.start < zone.end)
    }

    /// How many searches in an ascending column find what passes.
    fn searches(&self) -> usize {
        match &self.passing {
            Passing::One(_) => 1,
            Passing::Some(ids) => ids.count as usize,
            Passing::None | Passing::All => 0,
        }
    }
}

fn compile(reader: &Reader, matcher: &Matcher, cancel: &CancelToken) -> Result<Compiled, TsdbError> {
    let absent = matcher.matches_empty();
    let Some(label) = reader.toc.label(matcher.name()) else {
        return Ok(if absent { Compiled::Always } else { Compiled::Never });
    };
    let value_count = reader.toc.labels[label as usize].symbols.len() as u32;
    let ids = passing_ids(reader, matcher, label, cancel)?;
    let range = ids.iter().next().unwrap_or(0)
        ..ids.bits.iter().rposition(|word| *word != 0).map_or(0, |at| at as u32 * 64 + 64);
    let passing = match ids.count {
        0 if !absent => return Ok(Compiled::Never),
        0 => Passing::None,
        all if all == value_count && absent => return Ok(Compiled::Always),
        all if all == value_count => Passing::All,
        1 => Passing::One(range.start),
        _ => Passing::Some(ids),
    };
    let share = match &passing {
        Passing::None => 0.0,
        Passing::One(_) => 1.0 / f64::from(value_count),
        Passing::Some(ids) => f64::from(ids.count) / f64::from(value_count),
        Passing::All => 1.0,
    };
    Ok(Compiled::Test(Test { label, absent, passing, ids: range, share }))
}

fn passing_ids(reader: &Reader, matcher: &Matcher, label: u32, cancel: &CancelToken) -> Result<IdSet, TsdbError> {
    let value_count = reader.toc.labels[label as usize].symbols.len() as u32;
    let mut ids = IdSet::new(value_count);
    if let Some(values) = matcher.values() {
        for value in values {
            reader.value_id(label, value)?.into_iter().for_each(|id| ids.insert(id));
        }
        return Ok(ids);
    }
    if let Some(values) = matcher.refused_values() {
        for value in values {
            reader.value_id(label, value)?.into_iter().for_each(|id| ids.insert(id));
        }
        ids.invert(value_count);
        return Ok(ids);
    }
    if matcher.passes_everything() || matcher.passes_presence() {
        ids.invert(value_count);
        return Ok(ids);
    }
    let mut test = ValueTest::new(matcher, cancel);
    let mut interrupted = None;
    reader.for_each_value(label, |id, value| match test.passes(value) {
        Ok(passes) => {
            if passes {
                ids.insert(id);
            }
            true
        }
        Err(why) => {
            interrupted = Some(why);
            false
        }
    })?;
    interrupted.map_or(Ok(ids), |why| Err(why.into()))
}

fn scan_segment(
    reader: &Reader,
    segment: &Segment,
    tests: &[Test],
    found: &mut RoaringBitmap,
) -> Result<(), TsdbError> {
    let shapes = reader.shapes(segment)?;
    let (mut ranges, mut passed) = (Vec::new(), Vec::new());
    ranges.push(0..segment.series.len() as u32);
    // The test of the label that series begin with goes first where it is a search; the others stay in order.
    let leads = |test: &&Test| {
        Some(test.label) == shapes.first_label() && test.searches() * IDS_PER_SEARCH <= segment.series.len()
    };
    let (leading, others): (Vec<&Test>, Vec<&Test>) = tests.iter().partition(leads);
    for test in leading.into_iter().chain(others) {
        let mut scan = Scan { reader, segment, shapes: &shapes, test, columns: None };
        scan.filter(&ranges, &mut passed)?;
        std::mem::swap(&mut ranges, &mut passed);
        passed.clear();
        if ranges.is_empty() {
            return Ok(());
        }
    }
    for range in ranges {
        let series = segment.series.start + range.start..segment.series.start + range.end;
        if series.len() as u32 >= RUN_MIN {
            found.insert_range(series);
        } else {
            // Numbers ascend, so that each goes to the end.
            series.for_each(|number| _ = found.try_push(number));
        }
    }
    Ok(())
}

/// One test over one segment.
struct Scan<'a> {
    reader: &'a Reader,
    segment: &'a Segment,
    shapes: &'a Shapes,
    test: &'a Test,
    /// Loaded when the first series with the label is met.
    columns: Option<Arc<Columns>>,
}

impl Scan<'_> {
    /// Appends to `passed` what of `ranges` passes; both ascend.
    fn filter(&mut self, ranges: &[Range<u32>], passed: &mut Vec<Range<u32>>) -> Result<(), TsdbError> {
        if self.shapes.all_have(self.test.label, self.segment.series.len() as u32) {
            for range in ranges {
                self.scan(range.start, range.clone(), passed)?;
            }
            return Ok(());
        }
        let mut run = ranges.first().and_then(|range| self.shapes.run_of(range.start)).unwrap_or(0);
        for range in ranges {
            let mut rest = range.clone();
            while let Some(series) = self.shapes.runs.get(run).map(|run| run.series.clone())
                && !rest.is_empty()
            {
                if series.end <= rest.start {
                    run += 1;
                    continue;
                }
                let piece = rest.start..rest.end.min(series.end);
                rest.start = piece.end;
                match self.shapes.position(run, self.test.label) {
                    None if self.test.absent => push_range(passed, piece),
                    None => {}
                    Some(position) => self.scan(position + (piece.start - series.start), piece, passed)?,
                }
            }
        }
        Ok(())
    }

    fn scan(&mut self, position: u32, series: Range<u32>, passed: &mut Vec<Range<u32>>) -> Result<(), TsdbError> {
        match self.test.passing {
            Passing::None => return Ok(()),
            Passing::All => {
                push_range(passed, series);
                return Ok(());
            }
            Passing::One(_) | Passing::Some(_) => {}
        }
        let columns = match &self.columns {
            Some(columns) => columns,
            None => self.columns.insert(self.reader.columns(self.segment, self.shapes, self.test.label)?),
        };
        let place = position as usize..position as usize + series.len();
        let Some(column) = columns.of(self.test.label) else { return Ok(()) };
        match (&column.ids, column.ascends) {
            (Ids::Narrow(ids), true) => search_ids(&ids[place], self.test, series.start, passed),
            (Ids::Wide(ids), true) => search_ids(&ids[place], self.test, series.start, passed),
            (Ids::Narrow(ids), false) => scan_ids(&ids[place], self.test, series.start, passed),
            (Ids::Wide(ids), false) => scan_ids(&ids[place], self.test, series.start, passed),
        }
        Ok(())
    }
}

/// As [`scan_ids`], of ids that ascend.
fn search_ids<T>(ids: &[T], test: &Test, first: u32, passed: &mut Vec<Range<u32>>)
where
    T: Copy + PartialEq + TryFrom<u32>,
    u32: From<T>,
{
    if ids.len() < test.searches() * IDS_PER_SEARCH {
        return scan_ids(ids, test, first, passed);
    }
    let mut at = 0;
    let mut search = |wanted: u32| {
        let start = at + ids[at..].partition_point(|id| u32::from(*id) < wanted);
        at = start + ids[start..].partition_point(|id| u32::from(*id) == wanted);
        if start < at {
            push_range(passed, first + start as u32..first + at as u32);
        }
    };
    match &test.passing {
        Passing::One(id) => search(*id),
        Passing::Some(set) => set.iter().for_each(search),
        Passing::None | Passing::All => {}
    }
}

fn scan_ids<T>(ids: &[T], test: &Test, first: u32, passed: &mut Vec<Range<u32>>)
where
    T: Copy + PartialEq + TryFrom<u32>,
    u32: From<T>,
{
    match &test.passing {
        Passing::One(id) => {
            let Ok(wanted) = T::try_from(*id) else { return };
            for (block, ids) in ids.chunks(SCAN_IDS).enumerate() {
                // Without a branch per id, so that one instruction compares many.
                if ids.iter().fold(0_u32, |any, id| any | <u32 as From<bool>>::from(*id == wanted)) != 0 {
                    let first = first + (block * SCAN_IDS) as u32;
                    ids.iter().zip(first..).filter(|(id, _)| **id == wanted).for_each(|(_, at)| push_one(passed, at));
                }
            }
        }
        Passing::Some(set) => {
            ids.iter()
                .zip(first..)
                .filter(|(id, _)| set.contains((**id).into()))
                .for_each(|(_, at)| push_one(passed, at));
        }
        Passing::None | Passing::All => {}
    }
}

fn push_one(ranges: &mut Vec<Range<u32>>, at: u32) {
    match ranges.last_mut() {
        Some(last) if last.end == at => last.end += 1,
        _ => ranges.push(at..at + 1),
    }
}

fn push_range(ranges: &mut Vec<Range<u32>>, range: Range<u32>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
