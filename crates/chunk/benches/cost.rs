//! What a sample of real exporters costs by codec: bytes, and CPU time to write and to read it. Prints a table.
//!
//! Times are those of the thread, the least of several rounds: they bear a busy machine, as wall-clock times do not.
//! Beside the forms of this crate stands pco, the best of the general codecs for columns of numbers.

mod exporters;

use pco::ChunkConfig;
use pco::standalone::{simple_compress, simple_decompress_into};
use pharos_chunk::{CHUNK_SAMPLES_MAX, Form, values};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 7;
/// Above it pco gains less than 0.3 %, at twice the time.
const PCO_LEVEL: usize = 8;

/// One way to write a column of values, and back.
struct Codec {
    name: &'static str,
    encode: fn(&[f64], &mut Vec<u8>),
    /// Appends as many values as the count says.
    decode: fn(&[u8], usize, &mut Vec<f64>),
}

const CODECS: [Codec; 3] = [
    Codec { name: "young", encode: encode_young, decode: decode_own },
    Codec { name: "cold", encode: encode_cold, decode: decode_own },
    Codec { name: "pco", encode: encode_pco, decode: decode_pco },
];

fn encode_young(column: &[f64], out: &mut Vec<u8>) {
    values::encode(column, Form::Young, out);
}

fn encode_cold(column: &[f64], out: &mut Vec<u8>) {
    values::encode(column, Form::Cold, out);
}

fn decode_own(bytes: &[u8], count: usize, out: &mut Vec<f64>) {
    values::decode(bytes, &[], count, out).expect("sound");
}

fn encode_pco(column: &[f64], out: &mut Vec<u8>) {
    let config = ChunkConfig::default().with_compression_level(PCO_LEVEL);
    out.extend(simple_compress(column, &config).expect("any column"));
}

fn decode_pco(bytes: &[u8], count: usize, out: &mut Vec<f64>) {
    let start = out.len();
    out.resize(start + count, 0.0);
    simple_decompress_into(bytes, &mut out[start..]).expect("sound");
}

/// Nanoseconds of CPU that this thread has used.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The least that the work takes, nanoseconds.
fn least_ns(mut work: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let before = cpu_ns();
        work();
        cpu_ns() - before
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn main() {
    let series = exporters::series(1);
    let total = series.iter().map(|one| one.instants_ms.len()).sum::<usize>() as f64;
    eprintln!("| samples a chunk | codec | bytes/sample | encode ns | decode ns | decode M/s |");
    eprintln!("|---|---|---|---|---|---|");
    for samples_max in [120, 480, CHUNK_SAMPLES_MAX] {
        let columns: Vec<&[f64]> = series.iter().flat_map(|one| one.values.chunks(samples_max)).collect();
        for Codec { name, encode, decode } in CODECS {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            let encode_ns = least_ns(|| {
                bytes.clear();
                ends.clear();
                for column in &columns {
                    encode(column, &mut bytes);
                    ends.push(bytes.len());
                }
            });
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let chunks: Vec<_> = starts.zip(&ends).map(|(start, end)| &bytes[start..*end]).collect();
            let mut decoded = Vec::new();
            let decode_ns = least_ns(|| {
                for (chunk, column) in chunks.iter().zip(&columns) {
                    decoded.clear();
                    decode(chunk, column.len(), &mut decoded);
                }
            });
            for (chunk, column) in chunks.iter().zip(&columns) {
                decoded.clear();
                decode(chunk, column.len(), &mut decoded);
                let same = decoded.iter().zip(*column).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && decoded.len() == column.len(), "{name} changed a bit");
            }
            let (encode_ns, decode_ns) = (encode_ns / total, decode_ns / total);
            let (each, speed) = (bytes.len() as f64 / total, 1e3 / decode_ns);
            eprintln!("| {samples_max} | {name} | {each:.4} | {encode_ns:.1} | {decode_ns:.2} | {speed:.0} |");
        }
    }
}
