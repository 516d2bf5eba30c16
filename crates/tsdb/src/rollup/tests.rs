//! Cells and their bytes.

use pharos_model::{Histogram, stale_nan};
use proptest::prelude::*;
use std::sync::Arc;

use super::Resolution;
use super::block::{Block, BlockBuilder};
use super::cells::{Cells, Run};
use super::codec::{Columns, SeriesReader, decode_frame};
use crate::samples::Samples;

fn samples(points: &[(i64, f64)]) -> Samples {
    let mut samples = Samples::default();
    for (at_ms, value) in points {
        samples.floats.push(*at_ms, *value, 0);
    }
    samples.floats.sort();
    samples
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0_u32..5000).prop_map(f64::from),
        2 => (0_u32..5000).prop_map(|n| f64::from(n) / 100.0),
        1 => Just(stale_nan()),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

/// Series of any kind, from dense to some days apart.
fn any_samples() -> impl Strategy<Value = Samples> {
    let gap = prop_oneof![4 => 1_i64..60_000, 1 => Just(15_000), 1 => 1_i64..40_000_000];
    let point = (gap, value());
    (any::<bool>(), proptest::collection::vec(point, 0..200)).prop_map(|(counts, points)| {
        let (mut at_ms, mut total) = (-5_000_000, 0.0);
        let series = points.into_iter().map(|(gap, value)| {
            at_ms += gap;
            total += if value.is_finite() { value } else { 0.0 };
            (at_ms, if counts { total } else { value })
        });
        samples(&series.collect::<Vec<_>>())
    })
}

fn bits(run: &Run) -> Vec<Vec<u64>> {
    let of = |column: &[f64]| column.iter().map(|value| value.to_bits()).collect();
    [&run.last, &run.min, &run.max, &run.sum, &run.first, &run.turn_values]
        .into_iter()
        .map(|column| of(column))
        .collect()
}

fn decoded(block: &Block, slot: usize, resolution: Resolution) -> Option<Cells> {
    let bytes = block.series(slot).unwrap();
    if bytes.is_empty() {
        return None;
    }
    let mut reader = SeriesReader::new(bytes).unwrap();
    let (sums, counter, starts) = (reader.has_sums(), reader.has_counter(), reader.has_starts());
    let mut runs = Vec::new();
    while let Some(number) = reader.next_frame().unwrap() {
        let frame = block.frame(number, resolution).unwrap();
        let run = reader.run(frame.valued(), Columns::ALL).unwrap();
        runs.push(Run { frame, ..run });
    }
    Some(Cells { runs, sums, counter, starts })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn cells_come_back_as_they_were(series in proptest::collection::vec(any_samples(), 0..6)) {
        for resolution in Resolution::COARSEST_FIRST {
            let mut builder = BlockBuilder::default();
            let all: Vec<_> = series.iter().map(|samples| Cells::of(samples, resolution)).collect();
            for cells in &all {
                builder.push(cells.clone());
            }
            let block = Block::new(builder.take()).unwrap();
            for (slot, cells) in all.iter().enumerate() {
                let found = decoded(&block, slot, resolution);
                let frames = |cells: &Cells| cells.runs.iter().map(|run| run.frame.clone()).collect::<Vec<_>>();
                let values = |cells: &Cells| cells.runs.iter().map(bits).collect::<Vec<_>>();
                prop_assert_eq!(cells.as_ref().map(frames), found.as_ref().map(frames));
                prop_assert_eq!(cells.as_ref().map(values), found.as_ref().map(values));
                let turns = |cells: &Cells| cells.runs.iter().map(|run| run.turn_times.clone()).collect::<Vec<_>>();
                prop_assert_eq!(cells.as_ref().map(turns), found.as_ref().map(turns));
                let flags = |cells: &Cells| (cells.sums, cells.counter, cells.starts);
                prop_assert_eq!(cells.as_ref().map(flags), found.as_ref().map(flags));
            }
        }
    }

    #[test]
    fn hostile_bytes_do_not_panic(series in any_samples(), at in any::<u16>(), with in any::<u8>(), noise in proptest::collection::vec(any::<u8>(), 0..60)) {
        let resolution = Resolution::FiveMinutes;
        let _ = decode_frame(&noise, resolution);
        let mut builder = BlockBuilder::default();
        builder.push(Cells::of(&series, resolution));
        let mut bytes = builder.take();
        let at = usize::from(at) % bytes.len();
        bytes[at] = with;
        for payload in [noise, bytes] {
            let Ok(block) = Block::new(payload) else { continue };
            let Ok(mut reader) = block.series(0).and_then(SeriesReader::new) else { continue };
            while let Ok(Some(number)) = reader.next_frame() {
                let Ok(frame) = block.frame(number, resolution) else { break };
                if reader.run(frame.valued(), Columns::ALL).is_err() {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_cell_says_what_was_in_its_bucket() {
    let five = Resolution::FiveMinutes;
    let series = samples(&[
        (1, 5.0),
        (100, stale_nan()),
        (200_000, 3.0),
        (299_999, 4.0),
        (300_000, 9.0),
        (300_001, stale_nan()),
    ]);
    let cells = Cells::of(&series, five).unwrap();
    assert_eq!((cells.runs.len(), cells.sums, cells.counter, cells.starts), (1, true, true, false));
    let run = &cells.runs[0];
    let frame = &run.frame;
    assert_eq!((frame.buckets.as_slice(), frame.counts.as_slice()), ([0, 1].as_slice(), [4, 0].as_slice()));
    assert_eq!(
        (frame.firsts.as_slice(), frame.lasts.as_slice()),
        ([299_999, 299_999].as_slice(), [0, 299_999].as_slice())
    );
    assert_eq!((frame.opened.as_slice(), frame.closed.as_slice()), ([0, 0].as_slice(), [0, 300_000].as_slice()));
    assert_eq!((run.first[0], run.last[0], run.min[0], run.max[0], run.sum[0]), (5.0, 9.0, 3.0, 9.0, 21.0));
    assert_eq!(
        (run.turn_times.as_slice(), run.turn_values.as_slice()),
        ([200_000].as_slice(), [3.0].as_slice()),
        "the fall's other side is the first"
    );
}

#[test]
fn what_is_not_exact_is_not_kept() {
    let hour = Resolution::Hour;
    let of = |points: &[(i64, f64)]| Cells::of(&samples(points), hour).unwrap();
    for (values, sums) in [
        ([1.0, 2.0, 3.0], true),
        ([-1.0, -2.0, 0.0], true),
        ([1.0, -2.0, 0.0], false),
        ([1.0, 2.5, 0.0], false),
        ([1.0, f64::NAN, 0.0], false),
        ([1.0, -0.0, 0.0], false),
        ([1.0, f64::INFINITY, 0.0], false),
        ([9e15, 7e12, 1e11], true),
        ([9e15, 7e12, 2e11], false),
    ] {
        let points: Vec<_> = values.into_iter().enumerate().map(|(at, value)| (at as i64 * 1000 + 1, value)).collect();
        let cells = of(&points);
        assert_eq!((cells.sums, cells.runs[0].sum.is_empty()), (sums, !sums), "{values:?}");
    }
    let gauge: Vec<_> = (0..200).map(|at| (at * 10_000, (at % 3) as f64)).collect();
    let cells = of(&gauge);
    assert!(!cells.counter && cells.runs.iter().all(|run| run.first.is_empty() && run.turn_times.is_empty()));
    let mut mixed = samples(&[(1, 1.0)]);
    mixed.histograms.push(2, Arc::new(Histogram::empty(0)), 0);
    assert_eq!(Cells::of(&mixed, hour), None, "native histograms");
    assert_eq!(Cells::of(&samples(&[(i64::MIN, 1.0)]), hour), None);
}
