//! What fuzzing asks of the log's reader.

use pharos_model::{TenantId, TraceId};

use crate::record::{
    Fate, HEADER_BYTES, Judgement, Position, Record, Request, decode, encode_header, encode_judgements, encode_request,
    make_right,
};

/// Reads a file of any bytes, as they are and with every checksum made right.
///
/// # Panics
/// If a record that was read is not read again from what it is written as, or a place is outside of the file: a bug.
pub fn log(bytes: &[u8]) {
    let _ = decode(bytes);
    let mut right = encode_header(bytes.len() as u64).to_vec();
    right.extend_from_slice(bytes.get(HEADER_BYTES..).unwrap_or_default());
    make_right(&mut right);
    let contents = decode(&right).expect("the header is of this version");
    assert!(contents.sound_bytes <= right.len() as u64);
    for (at, record) in &contents.records {
        assert!(*at < contents.sound_bytes);
        let again = file(std::slice::from_ref(record));
        let read = decode(&again).expect("the header is of this version");
        assert_eq!((read.records.len(), read.fault), (1, None));
        assert_eq!(read.records[0].1, *record);
    }
}

/// Files to begin with.
#[must_use]
pub fn log_inputs() -> Vec<Vec<u8>> {
    let request = |form, body| {
        let tenant = TenantId::default();
        Record::Request(Request { tenant, received_at_ms: 1_795_230_000_000, span_count: 2, form, body })
    };
    let judged = |fates: &[Fate]| {
        let of = |(number, fate): (usize, &Fate)| Judgement {
            tenant: TenantId::default(),
            trace_id: TraceId([number as u8; 16]),
            up_to: Position { file: 1, offset: HEADER_BYTES as u64 },
            fate: *fate,
        };
        Record::Judgements(fates.iter().enumerate().map(of).collect())
    };
    vec![
        file(&[]),
        file(&[request(0, b"\x0a\x02\x12\x00")]),
        file(&[request(1, b"{}"), judged(&[Fate::Dropped, Fate::Kept(1 << 55), Fate::Stored, Fate::Deleted])]),
        file(&[judged(&[]), request(0, b""), request(9, &[7; 300]), judged(&[Fate::Stored; 9])]),
    ]
}

fn file(records: &[Record<'_>]) -> Vec<u8> {
    let mut bytes = encode_header(0).to_vec();
    for record in records {
        match record {
            Record::Request(request) => encode_request(request, &mut bytes).expect("it is small"),
            Record::Judgements(judgements) => encode_judgements(judgements, &mut bytes),
        }
    }
    bytes
}
