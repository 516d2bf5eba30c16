//! Chunks: columns of values, instants and histograms, of any tag that was ever written.

use std::sync::Arc;

use pharos_chunk::bytes::{Reader, push_varint};
use pharos_chunk::{CHUNK_SAMPLES_MAX, Form, histograms, ints, timestamps, values};
use pharos_model::{BucketSide, BucketSpan, Histogram};

const FORMS: [Form; 2] = [Form::Young, Form::Cold];

/// What an input is of.
const VALUES: u8 = 0;
const HISTOGRAMS: u8 = 1;
const INTEGERS: u8 = 2;
const INSTANTS: u8 = 3;
const PLAIN_VALUES: u8 = 4;
const PLAIN_INTEGERS: u8 = 5;

/// Decodes a column; whatever decodes survives encoding in both forms, bit for bit, within the length promised. Input: of
/// what, and the number of samples; of values also the length of the head. The plain kinds are eight bytes for each
/// sample, to be encoded.
///
/// # Panics
/// If something does not survive: a bug.
pub fn chunk(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let (Ok(kind), Ok(count)) = (reader.byte(), reader.count("sample count", 2 * CHUNK_SAMPLES_MAX)) else { return };
    match kind {
        VALUES => {
            let Ok(head) = reader.slice() else { return };
            let bulk = reader.rest();
            let mut found = Vec::new();
            if values::decode(head, bulk, count, &mut found).is_ok() {
                assert_eq!(found.len(), count);
                check_values(&found);
            }
        }
        HISTOGRAMS => {
            let mut found = Vec::new();
            if histograms::decode(reader.rest(), count, &mut found).is_ok() {
                assert_eq!(found.len(), count);
                check_histograms(&found);
            }
        }
        INTEGERS => {
            let mut found = Vec::new();
            if ints::decode(&mut reader, count, &mut found).is_ok() {
                assert_eq!(found.len(), count);
                check_integers(&found);
            }
        }
        INSTANTS => {
            let mut found = Vec::new();
            if timestamps::decode(reader.rest(), &mut found).is_ok() {
                assert_eq!(Ok(found.len()), timestamps::count(reader.rest()));
                check_integers(&found);
            }
        }
        PLAIN_VALUES => {
            check_values(&words(reader.rest()).take(CHUNK_SAMPLES_MAX).map(f64::from_bits).collect::<Vec<_>>());
        }
        PLAIN_INTEGERS => {
            check_integers(&words(reader.rest()).take(CHUNK_SAMPLES_MAX).map(u64::cast_signed).collect::<Vec<_>>());
        }
        _ => {}
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

fn check_values(column: &[f64]) {
    let bits = |column: &[f64]| column.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for form in FORMS {
        let mut bytes = Vec::new();
        let head_len = values::encode(column, form, &mut bytes);
        assert!(bytes.len() <= values::worst_case_len(column.len()));
        for split in [head_len, bytes.len()] {
            let (head, bulk) = bytes.split_at(split);
            let mut found = Vec::new();
            values::decode(head, bulk, column.len(), &mut found).expect("own encoding decodes");
            assert_eq!(bits(&found), bits(column), "{form:?}");
        }
    }
}

fn check_integers(column: &[i64]) {
    for form in FORMS {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        timestamps::encode(column, form, &mut bytes);
        assert!(bytes.len() <= timestamps::worst_case_len(column.len()));
        timestamps::decode(&bytes, &mut found).expect("own encoding decodes");
        assert_eq!(found, column, "{form:?}");
    }
}

fn check_histograms(column: &[Arc<Histogram>]) {
    for form in FORMS {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        histograms::encode(column, form, &mut bytes);
        histograms::decode(&bytes, column.len(), &mut found).expect("own encoding decodes");
        assert_eq!(found.len(), column.len());
        assert!(found.iter().zip(column).all(|(a, b)| a.bits_equal(b)), "{form:?}");
    }
}

/// Encodings of columns of many shapes.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    let noise = |i: u32| u64::from(i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let shapes: [fn(u32) -> f64; 7] = [
        |_| 0.25,
        |i| f64::from(i * 1000),
        |i| f64::from(i * 37 % 101) / 100.0,
        |i| (0..i).fold(0.0, |sum, _| sum + 0.1),
        |i| f64::from_bits(u64::from(i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        |i| if i % 7 == 3 { f64::NAN } else { f64::from(i % 5) },
        |i| f64::from(i).sin(),
    ];
    for (count, form) in [(5, Form::Young), (60, Form::Young), (60, Form::Cold), (300, Form::Cold)] {
        let mut input = |kind: u8, bytes: &[u8]| {
            let mut input = vec![kind];
            push_varint(&mut input, u64::from(count));
            input.extend_from_slice(bytes);
            found.push(("chunk", input));
        };
        for shape in shapes {
            let column: Vec<f64> = (0..count).map(shape).collect();
            let (mut bytes, mut with_head) = (Vec::new(), Vec::new());
            push_varint(&mut with_head, values::encode(&column, form, &mut bytes) as u64);
            with_head.extend(bytes);
            input(VALUES, &with_head);
        }
        let columns: [fn(u32) -> i64; 3] =
            [|i| i64::from(i) * 15_000, |i| i64::from(i) * 15_000 + i64::from(i * 31 % 7), |i| i64::from(i * i)];
        for shape in columns {
            let column: Vec<i64> = (0..count).map(shape).collect();
            let mut bytes = Vec::new();
            timestamps::encode(&column, form, &mut bytes);
            input(INSTANTS, &bytes);
            bytes.clear();
            ints::encode(&column, form, &mut bytes);
            input(INTEGERS, &bytes);
        }
        let mut bytes = Vec::new();
        histograms::encode(&(0..count).map(histogram).collect::<Vec<_>>(), form, &mut bytes);
        input(HISTOGRAMS, &bytes);
        let words: Vec<u8> = (0..count.min(30)).flat_map(|i| noise(i).to_le_bytes()).collect();
        input(PLAIN_VALUES, &words);
        input(PLAIN_INTEGERS, &words);
    }
    found
}

fn histogram(i: u32) -> Arc<Histogram> {
    let counts: Vec<f64> = (0..6).map(|bucket| f64::from(i * bucket)).collect();
    let spans = vec![BucketSpan { offset: -3, length: 4 }, BucketSpan { offset: 2, length: 2 }];
    let positive = BucketSide { spans, counts };
    Arc::new(Histogram { is_integer: true, sum: f64::from(i), positive, ..Histogram::empty(3) })
}
