use proptest::prelude::*;

use super::*;

fn request(body: &[u8]) -> Record<'_> {
    Record::Request(Request { tenant: TenantId::default(), received_at_ms: -5, span_count: 3, form: 1, body })
}

fn judgements(fates: &[Fate]) -> Record<'static> {
    let of = |(number, fate): (usize, &Fate)| Judgement {
        tenant: "team-a".parse().unwrap(),
        trace_id: TraceId([number as u8; 16]),
        up_to: Position { file: 3, offset: number as u64 },
        fate: *fate,
    };
    Record::Judgements(fates.iter().enumerate().map(of).collect())
}

fn file(records: &[Record<'_>]) -> Vec<u8> {
    let mut bytes = encode_header(77).to_vec();
    for record in records {
        match record {
            Record::Request(request) => encode_request(request, &mut bytes).unwrap(),
            Record::Judgements(judgements) => encode_judgements(judgements, &mut bytes),
        }
    }
    bytes
}

fn read(bytes: &[u8]) -> (Vec<Record<'_>>, Option<Fault>) {
    let contents = decode(bytes).unwrap();
    (contents.records.into_iter().map(|(_, record)| record).collect(), contents.fault)
}

/// What power loss makes of an end that was not synced: cut, zeros in its place, a page missing in the midst.
#[test]
fn what_a_write_leaves_that_did_not_end_is_torn() {
    let sound = file(&[request(b"one")]);
    let whole = file(&[request(b"one"), request(&[7; 64]), request(&[8; 64])]);
    for (what, bytes) in [
        ("cut", whole[..sound.len() + 20].to_vec()),
        ("zeros", [sound.clone(), vec![0; 4096]].concat()),
        ("zeros within", [whole[..sound.len() + 30].to_vec(), vec![0; whole.len() - sound.len() - 30]].concat()),
        ("less than a frame", [sound.clone(), vec![0; 3]].concat()),
    ] {
        assert_eq!(read(&bytes), (vec![request(b"one")], Some(Fault::Torn)), "{what}");
        assert_eq!(decode(&bytes).unwrap().sound_bytes, sound.len() as u64, "{what}");
    }
    for nothing in [&[][..], &sound[..10], &[0; 30]] {
        let contents = decode(nothing).unwrap();
        assert_eq!((contents.sound_bytes, contents.fault, contents.before_bytes), (0, None, None));
    }
}

#[test]
fn what_lies_behind_damage_is_read() {
    let mut bytes = file(&[request(b"one"), request(b"two"), request(b"three")]);
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    assert_eq!(read(&bytes), (vec![request(b"one"), request(b"three")], Some(Fault::Damaged)));
    let mut bytes = file(&[request(b"one")]);
    bytes[9] ^= 1;
    assert_eq!(read(&bytes), (vec![request(b"one")], Some(Fault::Damaged)), "of the header");
}

#[test]
fn files_of_other_versions_are_told() {
    assert_eq!(decode(b"PHSMPLG1\x07").unwrap_err(), OtherVersion);
}

proptest! {
    /// Whatever is cut off, what lies before is read; whatever bit flips, nothing is made up.
    #[test]
    fn records_survive_what_happens_to_others(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
        threshold: u64,
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut records: Vec<_> = bodies.iter().map(|body| request(body)).collect();
        records.insert(1, judgements(&[Fate::Dropped, Fate::Kept(threshold), Fate::Stored, Fate::Deleted]));
        let bytes = file(&records);
        prop_assert_eq!(decode(&bytes).unwrap().before_bytes, Some(77));
        prop_assert_eq!(read(&bytes), (records.clone(), None));
        let cut = at.index(bytes.len());
        let (found, fault) = read(&bytes[..cut]);
        prop_assert!(records.starts_with(&found));
        prop_assert!(found.len() < records.len());
        prop_assert!(fault != Some(Fault::Damaged));
        let mut flipped = bytes.clone();
        flipped[cut] ^= 1 << bit;
        if let Ok(contents) = decode(&flipped) {
            prop_assert!(contents.fault.is_some());
            prop_assert!(contents.records.iter().all(|(_, record)| records.contains(record)));
        }
    }

    #[test]
    fn hostile_bytes_are_no_records(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (records, fault) = { let mut file = encode_header(0).to_vec(); file.extend_from_slice(&bytes); let contents = decode(&file).unwrap(); (contents.records.len(), contents.fault) };
        prop_assert!(records == 0 && (fault.is_some() || bytes.is_empty()));
    }
}
