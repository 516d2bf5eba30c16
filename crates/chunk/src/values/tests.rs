//! Exactness, size and robustness of the value column.

use proptest::prelude::*;

use super::*;

fn round_trip(values: &[f64]) -> usize {
    round_trip_in(Form::Cold, values);
    round_trip_in(Form::Young, values)
}

fn round_trip_in(form: Form, values: &[f64]) -> usize {
    let mut bytes = Vec::new();
    let head_len = encode(values, form, &mut bytes);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (head, bulk) = bytes.split_at(head_len);
    for (head, bulk) in [(head, bulk), (bytes.as_slice(), [].as_slice())] {
        let mut found = Vec::new();
        decode(head, bulk, values.len(), &mut found).unwrap();
        assert_eq!(bits(&found), bits(values));
    }
    let (mut fields, mut reader) = (0, Reader::new(head));
    while !reader.is_empty() {
        reader.varint().unwrap();
        fields += 1;
    }
    assert!(fields <= HEAD_FIELDS_MAX);
    assert!(bytes.len() <= worst_case_len(values.len()), "{} bytes for {}", bytes.len(), values.len());
    bytes.len()
}

/// The values that break codecs.
const ODD: [u64; 12] = [
    0x7ff0_0000_0000_0002, // stale marker
    0x7ff8_0000_0000_0001,
    0x7ff0_0000_0000_0000, // +Inf
    0xfff0_0000_0000_0000,
    0x8000_0000_0000_0000, // -0
    0x0000_0000_0000_0001, // smallest denormal
    0x000f_ffff_ffff_ffff,
    0x7ff4_dead_0000_beef,
    0xffff_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff, // largest
    0x4340_0000_0000_0000, // 2^53
    0x0000_0000_0000_0000,
];

#[test]
fn odd_values_survive_at_every_position() {
    for bits in ODD {
        let odd = f64::from_bits(bits);
        round_trip(&[odd]);
        round_trip(&[odd; 9]);
        for position in 0..17 {
            let mut values: Vec<f64> = (0..17).map(|i| f64::from(i) * 0.1).collect();
            values[position] = odd;
            round_trip(&values);
        }
    }
    round_trip(&ODD.map(f64::from_bits));
}

#[test]
fn common_shapes_are_small() {
    assert!(round_trip(&[1.0; 480]) <= 2);
    assert!(round_trip(&[0.25; 480]) <= 9);
    let counter: Vec<f64> = (0..480).map(|i| f64::from(i * 4096)).collect();
    assert!(round_trip(&counter) <= 16);
    let mut ended = vec![5.0; 480];
    ended[479] = f64::from_bits(ODD[0]);
    assert!(round_trip(&ended) <= 28);
    assert!(round_trip(&[0.1; 480]) <= 3);
    let mut gone = vec![5.0; 480];
    gone[200..].fill(f64::from_bits(ODD[0]));
    assert!(round_trip(&gone) <= 24, "stale markers are one run");
    let gauge: Vec<f64> = (0..480).map(|i| f64::from(i * 37 % 128) / 100.0).collect();
    assert!(round_trip(&gauge) <= 480 * 7 / 8 + 20);
    let sums: Vec<f64> = (0..480)
        .scan(0.0, |sum, _| {
            *sum += 0.1;
            Some(*sum)
        })
        .collect();
    assert!(round_trip(&sums) < 480 * 2);
}

#[test]
fn the_longest_chunk_of_noise_stays_within_its_bound() {
    let noise: Vec<f64> =
        (1..=CHUNK_SAMPLES_MAX as u64).map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    round_trip(&noise);
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits),
        4 => (-1_000_000_i64..1_000_000, 0_i32..6).prop_map(|(m, e)| m as f64 / 10_f64.powi(e)),
        1 => proptest::sample::select(ODD.to_vec()).prop_map(f64::from_bits),
    ]
}

proptest! {
    #[test]
    fn values_round_trip(values in proptest::collection::vec(any_value(), 0..200)) {
        round_trip(&values);
    }

    #[test]
    fn decimals_with_rare_exceptions_round_trip(
        mantissas in proptest::collection::vec(0_i64..100_000, 1..600), exponent in 0_i32..16, odd in 0_usize..600
    ) {
        let mut values: Vec<f64> = mantissas.iter().map(|m| *m as f64 / 10_f64.powi(exponent)).collect();
        let position = odd % values.len();
        values[position] = f64::from_bits(ODD[odd % ODD.len()]);
        round_trip(&values);
    }

    #[test]
    fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), tag in 0_u8..12, count in 0_usize..5000) {
        let mut hostile = vec![tag];
        hostile.extend(bytes);
        let mut out = Vec::new();
        let _ = decode(&hostile, &[], count, &mut out);
        prop_assert!(out.len() <= CHUNK_SAMPLES_MAX);
    }

    /// One flipped bit in a sound encoding: another column or an error, never a panic.
    #[test]
    fn damaged_bytes_do_not_panic(values in proptest::collection::vec(any_value(), 2..100), flip in any::<proptest::sample::Index>(), cold in any::<bool>()) {
        let form = if cold { Form::Cold } else { Form::Young };
        let mut bytes = Vec::new();
        encode(&values, form, &mut bytes);
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut out = Vec::new();
        let _ = decode(&bytes, &[], values.len(), &mut out);
        prop_assert!(out.len() <= values.len());
    }
}
