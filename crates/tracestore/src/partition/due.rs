//! Which segments are worth merging.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DeletedTraces;
use super::filter::trace_hash;
use super::segment::Segment;

/// Segments are merged up to this size.
const MERGED_SPANS_MAX: u64 = 1_000_000;
/// So many segments of one order of size are merged in the background.
const MERGED_SEGMENTS: usize = 8;
/// Larger segments are left to full merges.
const SMALL_SPANS_MAX: u64 = MERGED_SPANS_MAX / MERGED_SEGMENTS as u64;
/// A day that is over is merged fully when it has so many segments that are less than half full.
const AGED_SEGMENTS: usize = 4;

/// How far a merge goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeDepth {
    /// Segments of one order of size, where they have become many.
    Small,
    /// All of a day that gets no more spans, where it is worth it.
    Aged,
    /// Everything, and deleted traces leave the disk.
    Full,
}

/// The first group of a tenant's segments that is to become one.
pub(super) fn due_group(
    mut by_time: Vec<Arc<Segment>>,
    depth: MergeDepth,
    deleted: &DeletedTraces,
) -> Option<Vec<Arc<Segment>>> {
    by_time.sort_by_key(|segment| (segment.start_min_ns(), segment.number));
    match depth {
        MergeDepth::Small => {
            let mut tiers: BTreeMap<u32, Vec<Arc<Segment>>> = BTreeMap::new();
            for segment in by_time.into_iter().filter(|segment| segment.record.span_count < SMALL_SPANS_MAX) {
                let tier = segment.record.span_count.max(1).ilog(MERGED_SEGMENTS as u64);
                tiers.entry(tier).or_default().push(segment);
            }
            tiers.into_values().flat_map(pack).find(|group| group.len() >= MERGED_SEGMENTS)
        }
        MergeDepth::Aged => {
            let is_half = |segment: &&Arc<Segment>| segment.record.span_count < MERGED_SPANS_MAX / 2;
            if by_time.iter().filter(is_half).count() < AGED_SEGMENTS {
                return None;
            }
            pack(by_time).into_iter().find(|group| group.len() > 1)
        }
        MergeDepth::Full => {
            let has_deleted = |segment: &Arc<Segment>| {
                deleted.iter().any(|(id, mark)| segment.number < *mark && segment.may_contain(trace_hash(*id)))
            };
            pack(by_time).into_iter().find(|group| group.len() > 1 || group.iter().any(has_deleted))
        }
    }
}

/// Neighbours in time, as many as fit into one segment.
fn pack(by_time: Vec<Arc<Segment>>) -> Vec<Vec<Arc<Segment>>> {
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    let mut span_count = 0;
    for segment in by_time {
        let spans = segment.record.span_count;
        match groups.last_mut() {
            Some(group) if span_count + spans <= MERGED_SPANS_MAX => {
                group.push(segment);
                span_count += spans;
            }
            _ => {
                groups.push(vec![segment]);
                span_count = spans;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use pharos_base::ByteSize;

    use super::super::filter::TraceFilter;
    use super::super::locator::LocatorShape;
    use super::super::segment::{BlockBounds, FilterMemory, SegmentRecord};
    use super::*;
    use crate::record::Day;

    /// Segments of so many spans, one after the other in time.
    fn segments(span_counts: impl IntoIterator<Item = u64>) -> Vec<Arc<Segment>> {
        let memory = FilterMemory::new(ByteSize::mib(1));
        let segment = |(number, span_count): (u64, u64)| {
            let bounds = BlockBounds {
                span_count: span_count as u32,
                start_min_ns: number,
                start_max_ns: number,
                end_max_ns: number,
            };
            let (locator, blocks) = (LocatorShape { bits: 64, pages: 1 }, vec![bounds]);
            let record = SegmentRecord { span_count, trace_count: 1, locator, blocks };
            let filter = TraceFilter::build([number].into_iter());
            Arc::new(Segment::new(Day(0), (0, number), record, Some(filter), &memory))
        };
        (0..).zip(span_counts).map(segment).collect()
    }

    fn due(span_counts: impl IntoIterator<Item = u64>, depth: MergeDepth) -> Option<Vec<u64>> {
        let group = due_group(segments(span_counts), depth, &DeletedTraces::default())?;
        Some(group.iter().map(|segment| segment.number).collect())
    }

    #[test]
    fn small_segments_are_merged_when_they_are_many_and_never_to_more_than_a_segment_may_have() {
        assert_eq!(due([600; 7], MergeDepth::Small), None);
        assert_eq!(due([600; 8], MergeDepth::Small), Some((0..8).collect()));
        assert_eq!(due([600_000; 20], MergeDepth::Small), None);
        // Of a hundred that wait, as many as fit.
        assert_eq!(due([100_000; 100], MergeDepth::Small), Some((0..10).collect()));
        assert_eq!(due([600, 9, 600, 9, 600, 600, 9, 600, 600, 600, 600], MergeDepth::Small).unwrap().len(), 8);
    }

    #[test]
    fn a_day_that_is_over_is_left_with_few_segments() {
        assert_eq!(due([400_000; 3], MergeDepth::Aged), None);
        assert_eq!(due([400_000; 4], MergeDepth::Aged), Some(vec![0, 1]));
        assert_eq!(due([900_000, 9, 9, 9, 9], MergeDepth::Aged), Some((0..5).collect()));
        assert_eq!(due([900_000; 9], MergeDepth::Aged), None);
    }

    #[test]
    fn a_full_merge_takes_what_fits_and_what_holds_deleted_traces() {
        assert_eq!(due([400_000; 3], MergeDepth::Full), Some(vec![0, 1]));
        assert_eq!(due([900_000; 2], MergeDepth::Full), None);
        let deleted = |mark| {
            let trace = pharos_model::TraceId([7; 16]);
            DeletedTraces::from([(trace, mark)])
        };
        let mut all = segments([900_000; 2]);
        let bounds = all[1].record.clone();
        let filter = TraceFilter::build([trace_hash(pharos_model::TraceId([7; 16]))].into_iter());
        all[1] = Arc::new(Segment::new(Day(0), (0, 1), bounds, Some(filter), &FilterMemory::new(ByteSize::mib(1))));
        let due = |mark| due_group(all.clone(), MergeDepth::Full, &deleted(mark)).map(|group| group[0].number);
        assert_eq!((due(1), due(2)), (None, Some(1)), "a segment is asked for what was deleted before it came");
    }
}
