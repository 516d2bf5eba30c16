//! The log's readers, for fuzz targets: segments, and what records bring.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pharos_model::{SpanBatch, TenantId, TraceId};

use crate::TraceStoreError;
use crate::block::{Block, BlockBuilder};
use crate::codec::{OpenRow, RowReader};
use crate::disk::SystemDisk;
use crate::log::{LogWriter, ScannedLog, decode_record, encode_record, make_segment_right, scan};
use crate::record::{
    AcceptedStarts, Change, Deletion, PreparedCalls, decode_change, encode_batch, encode_calls, encode_deletion,
    prepare, prepare_calls,
};

/// Reads what a record of the log brings, and all of the rows in it. Input: the content of a record, not compressed.
///
/// # Panics
/// If a change that was read is not read again from what it is written as: a bug.
pub fn record(content: &[u8]) {
    let Ok(change) = decode_change(content) else { return };
    assert!(change.memory_bytes() <= 4096 + 600 * content.len() as u64, "what is read is bounded by what was given");
    let again = match &change {
        Change::Batch(batch) => {
            for row in &batch.rows {
                read_row(row.row.min_start_ns, &row.row.value);
            }
            encode_batch(batch)
        }
        Change::Deletion(deletion) => encode_deletion(deletion),
        Change::Calls(calls) => encode_calls(calls),
    };
    assert_same(&decode_change(&again), &Ok(change));
}

/// Every way to read a row gives the same spans, and so does a block that they are sealed to.
fn read_row(min_start_ns: u64, value: &[u8]) {
    let trace_id = TraceId([1; 16]);
    let reader = RowReader::new(value, min_start_ns).expect("it was read before");
    let spans: Vec<_> = reader.whole_spans(trace_id).map(|span| span.expect("it was read before")).collect();
    let open = OpenRow::new(value, min_start_ns).expect("it was read before");
    for (index, (_, span)) in spans.iter().enumerate().rev().take(3) {
        assert_eq!(reader.name(index), Ok(&*span.name));
        assert_same(&open.whole_span(trace_id, index).expect("it was read before"), span);
    }
    let mut raw: Vec<_> = reader.spans_with_details().flatten().zip(&spans).collect();
    raw.sort_by_key(|((row_span, _), _)| row_span.skeleton.start_ns);
    let mut builder = BlockBuilder::new();
    builder.begin_trace(trace_id);
    for ((row_span, details), _) in &raw {
        let pushed = builder.push(row_span.origin, row_span.service, &row_span.skeleton, details);
        pushed.expect("what is read whole is read piece by piece");
    }
    if raw.is_empty() {
        return;
    }
    let block = Block::open(&builder.finish().into()).expect("own blocks open");
    let sealed = block.spans(trace_id, 0..block.span_count()).expect("own blocks decode");
    let sealed: Vec<_> = sealed.map(|span| span.expect("own blocks decode")).collect();
    assert_eq!(sealed.len(), raw.len());
    for (sealed, (_, sent)) in sealed.iter().zip(&raw) {
        assert_same(sealed, *sent);
    }
}

/// By what they print, as an attribute that is not a number is not equal to itself.
fn assert_same<T: std::fmt::Debug>(one: &T, other: &T) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

/// Reads a file as the only segment of a log, opens the log for writing and reads it again. Input: the file; its checksums are
/// made right.
///
/// # Panics
/// If reading changes the file, or what was read before the log was opened is not there afterwards: a bug.
pub fn segment(dir: &Path, bytes: &[u8]) {
    let mut file = bytes.to_vec();
    make_segment_right(&mut file);
    let path = dir.join(format!("{:020}.log", 0));
    clear(dir);
    fs::write(&path, &file).expect("a folder for scratch files");
    let first = read(dir);
    assert_eq!(fs::read(&path).expect("it was written"), file, "reading changes nothing");
    let Ok((scanned, records)) = first else { return };
    for (_, content) in &records {
        let record = encode_record(content).expect("it is compressed in memory");
        assert_eq!(decode_record(&record).as_ref(), Some(content));
    }
    let next_sequence = scanned.next_sequence.unwrap_or_default();
    let opened = LogWriter::open(dir, Arc::new(SystemDisk), u64::MAX, scanned, next_sequence);
    drop(opened.expect("a log that can be read can be continued"));
    let (scanned, again) = read(dir).expect("what was cut is whole");
    assert_eq!((scanned.torn_bytes, scanned.next_sequence), (0, Some(next_sequence)));
    assert_eq!(again, records);
}

type Records = Vec<(u64, Vec<u8>)>;

fn read(dir: &Path) -> Result<(ScannedLog, Records), TraceStoreError> {
    let mut records = Vec::new();
    let scanned = scan(dir, |sequence, content| {
        records.push((sequence, content));
        Ok(())
    })?;
    Ok((scanned, records))
}

fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a folder for scratch files").flatten() {
        fs::remove_file(entry.path()).expect("a folder for scratch files");
    }
}

/// Contents of records to begin with: spans of a batch, the calls in it, a deletion.
#[must_use]
pub fn record_inputs(batch: &SpanBatch) -> Vec<Vec<u8>> {
    let (tenant, accepted) = (TenantId::default(), AcceptedStarts { first_ns: 0, last_ns: u64::MAX });
    let (prepared, _) = prepare(&tenant, batch, accepted);
    let calls: PreparedCalls = prepare_calls(&tenant, batch, accepted);
    let deletion = Deletion { tenant, trace_id: TraceId([7; 16]) };
    vec![encode_batch(&prepared), encode_calls(&calls), encode_deletion(&deletion)]
}

/// A segment to begin with, each of the contents a frame.
///
/// # Panics
/// If it cannot be written to `dir`, which must be empty.
#[must_use]
pub fn segment_input(dir: &Path, contents: &[Vec<u8>]) -> Vec<u8> {
    clear(dir);
    let opened = LogWriter::open(dir, Arc::new(SystemDisk), u64::MAX, ScannedLog::default(), 0);
    let mut writer = opened.expect("a folder for scratch files");
    for content in contents {
        let record = encode_record(content).expect("it is compressed in memory");
        writer.append(&[&record], true).expect("a folder for scratch files");
    }
    drop(writer);
    fs::read(dir.join(format!("{:020}.log", 0))).expect("it was written")
}
