//! Every sample, to the last bit, is what Prometheus' own reader said of the folder it wrote.

use std::collections::BTreeMap;
use std::io::Read;

use pharos_model::{BucketSide, BucketSpan, Histogram, Labels, ResetHint};
use serde::Deserialize;

use crate::fixture::{self, Contents, Value};

#[derive(Deserialize)]
struct Line {
    labels: BTreeMap<String, String>,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    t: i64,
    #[serde(default)]
    st: i64,
    #[serde(default)]
    v: String,
    h: Option<Shown>,
}

#[derive(Deserialize)]
struct Shown {
    integer: bool,
    gauge: bool,
    schema: i32,
    values: Vec<String>,
    spans: [Vec<(i32, u32)>; 2],
    counts: [Vec<String>; 2],
    bounds: Vec<String>,
}

fn float(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).unwrap())
}

fn floats(bits: &[String]) -> Vec<f64> {
    bits.iter().map(|bits| float(bits)).collect()
}

impl Shown {
    fn histogram(&self) -> Histogram {
        let values = floats(&self.values);
        let side = |side: usize| BucketSide {
            spans: self.spans[side].iter().map(|&(offset, length)| BucketSpan { offset, length }).collect(),
            counts: floats(&self.counts[side]),
        };
        Histogram {
            is_integer: self.integer,
            reset_hint: if self.gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            schema: self.schema,
            zero_threshold: values[0],
            zero_count: values[1],
            count: values[2],
            sum: values[3],
            positive: side(0),
            negative: side(1),
            custom_bounds: floats(&self.bounds),
        }
    }
}

fn expected(name: &str) -> Vec<Line> {
    let mut text = String::new();
    let file = std::fs::File::open(fixture::path(&format!("{name}.jsonl.gz"))).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn check(name: &str) -> Contents {
    let contents = fixture::read(&fixture::path(name));
    assert_eq!(contents.damage, [], "{name}");
    let expected = expected(name);
    assert_eq!(contents.series.len(), expected.len(), "{name}");
    for line in expected {
        let labels = Labels::from_pairs(&line.labels).unwrap();
        let found = contents.series.get(&labels).unwrap_or_else(|| panic!("{name}: no {labels}"));
        let instants: Vec<_> = line.points.iter().map(|point| point.t).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), instants, "{name}: {labels}");
        for (point, (at_ms, (value, start_ms))) in line.points.iter().zip(found) {
            assert_eq!(*start_ms, point.st, "{name}: start of {labels} at {at_ms}");
            match (value, &point.h) {
                (Value::Float(value), None) => {
                    assert_eq!(value.to_bits(), float(&point.v).to_bits(), "{name}: {labels} at {at_ms}");
                }
                (Value::Histogram(histogram), Some(shown)) => {
                    let mut histogram = (**histogram).clone();
                    // Prometheus tells the hint by what it merged; ours stays what the chunk alone can say.
                    if histogram.reset_hint != ResetHint::Gauge {
                        histogram.reset_hint = ResetHint::Unknown;
                    }
                    let expected = shown.histogram();
                    assert!(
                        histogram.bits_equal(&expected),
                        "{name}: {labels} at {at_ms}:\n{histogram:?}\n{expected:?}"
                    );
                }
                (value, _) => panic!("{name}: {labels} at {at_ms} is {value:?}"),
            }
        }
    }
    contents
}

/// One every fifty steps, 5 ms before the step; the checkpoint dropped those of the time that is in blocks.
const EXEMPLARS: [i64; 4] = [149, 199, 249, 299];

fn exemplars_of(contents: &Contents) -> Vec<i64> {
    const BEGIN_MS: i64 = 1_699_999_200_000;
    contents.exemplars.iter().map(|(_, at_ms, _)| (at_ms + 5 - BEGIN_MS) / 60_000).collect()
}

#[test]
fn a_folder_of_the_classic_encodings() {
    let contents = check("classic");
    assert_eq!(exemplars_of(&contents), EXEMPLARS);
    assert!(contents.metadata.is_empty());
}

#[test]
fn a_folder_with_start_timestamps_zstd_and_metadata() {
    let contents = check("modern");
    assert_eq!(exemplars_of(&contents), EXEMPLARS);
    assert_eq!(contents.metadata, ["requests_total counter requests \"Requests.\\nAll of them.\""]);
}

#[test]
fn a_block_of_the_first_version_of_the_index() {
    let contents = fixture::read(&fixture::path("index-v1"));
    assert_eq!(contents.damage, []);
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture::path("index-v1/meta.json")).unwrap()).unwrap();
    assert_eq!(contents.sample_count() as u64, meta["stats"]["numSamples"]);
    assert_eq!(contents.series.len() as u64, meta["stats"]["numSeries"]);
}

#[test]
fn one_block_alone_is_a_folder_too() {
    let whole = fixture::read(&fixture::path("modern"));
    let mut blocks = 0;
    for entry in std::fs::read_dir(fixture::path("modern")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("meta.json").is_file() {
            let block = fixture::read(&path);
            assert!(block.damage.is_empty() && block.sample_count() > 0);
            assert!(block.series.keys().all(|labels| whole.series.contains_key(labels)));
            blocks += 1;
        }
    }
    assert!(blocks >= 3, "{blocks}");
}
