//! Protobuf written by hand, so that a request is built once and then only its
//! timestamps and values are overwritten for each later scrape.

use crate::series::{BOUNDS, BUCKETS, SLOTS, Slot, labels};
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    Rw1,
    Rw2,
    OtlpHttp,
    OtlpGrpc,
}

impl Format {
    pub(crate) fn otlp(self) -> bool {
        matches!(self, Format::OtlpHttp | Format::OtlpGrpc)
    }
}

/// What goes at a patched place: indices are into the request's scrape matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Patch {
    /// Six-byte varint of the timestamp in ms.
    TimeMs {
        row: u32,
        target: u32,
    },
    /// fixed64 of the timestamp in ns.
    TimeNs {
        row: u32,
        target: u32,
    },
    Value {
        row: u32,
        col: u32,
    },
    /// fixed64 of the non-cumulative count of the bucket at `col`.
    BucketCount {
        row: u32,
        col: u32,
        first: bool,
    },
    /// fixed64 of an integer count.
    Count {
        row: u32,
        col: u32,
    },
}

/// A growing message with the places to patch.
#[derive(Default)]
pub(crate) struct Enc {
    pub(crate) buf: Vec<u8>,
    patches: Vec<(u32, Patch)>,
}

impl Enc {
    pub(crate) fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.buf.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.buf.push(v as u8);
    }
    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }
    pub(crate) fn uint(&mut self, field: u64, v: u64) {
        self.tag(field, 0);
        self.varint(v);
    }
    pub(crate) fn fixed64(&mut self, field: u64, v: u64) {
        self.tag(field, 1);
        self.buf.extend_from_slice(&v.to_le_bytes());
    }
    pub(crate) fn bytes(&mut self, field: u64, b: &[u8]) {
        self.tag(field, 2);
        self.varint(b.len() as u64);
        self.buf.extend_from_slice(b);
    }
    pub(crate) fn str(&mut self, field: u64, s: &str) {
        self.bytes(field, s.as_bytes());
    }
    /// A nested message: written in place, then moved up to make room for its length.
    pub(crate) fn msg(&mut self, field: u64, f: impl FnOnce(&mut Enc)) {
        self.tag(field, 2);
        let (from, first) = (self.buf.len(), self.patches.len());
        f(self);
        let len = self.buf.len() - from;
        let mut head = Enc::default();
        head.varint(len as u64);
        let n = head.buf.len();
        self.buf.resize(from + len + n, 0);
        self.buf.copy_within(from..from + len, from + n);
        self.buf[from..from + n].copy_from_slice(&head.buf);
        for p in &mut self.patches[first..] {
            p.0 += n as u32;
        }
    }
    fn patch(&mut self, p: Patch, width: usize) {
        self.patches.push((self.buf.len() as u32, p));
        self.buf.resize(self.buf.len() + width, 0);
    }
    /// An OTLP `KeyValue` with a string.
    pub(crate) fn attr(&mut self, field: u64, key: &str, val: &str) {
        self.msg(field, |e| {
            e.str(1, key);
            e.msg(2, |e| e.str(1, val));
        });
    }
    /// An OTLP `KeyValue` with an integer.
    pub(crate) fn attr_int(&mut self, field: u64, key: &str, val: i64) {
        self.msg(field, |e| {
            e.str(1, key);
            e.msg(2, |e| e.uint(3, val as u64));
        });
    }
}

/// The scrapes that one request carries: `rows` scrapes of `targets.len()` targets.
pub(crate) struct Scrapes {
    pub(crate) targets: usize,
    pub(crate) rows: usize,
    /// Values, row after row, `targets * SLOTS` a row.
    pub(crate) values: Vec<f64>,
    /// Timestamps in ms, row after row, one per target.
    pub(crate) times: Vec<i64>,
}

/// A request that is ready but for its times and values.
pub(crate) struct Template {
    enc: Enc,
    pub(crate) samples: u64,
    /// What it was built for: targets with their generations, and scrapes.
    pub(crate) built_for: (Vec<(u64, u64)>, usize),
}

impl Template {
    /// `cols`: how many series of the chunk are sent (the last target may be cut).
    pub(crate) fn build(
        format: Format,
        slots: &[Slot],
        seed: u64,
        targets: &[(u64, u64)],
        cols: usize,
        rows: usize,
    ) -> Template {
        let mut e = Enc::default();
        match format {
            Format::Rw1 => rw1(&mut e, slots, seed, targets, cols, rows),
            Format::Rw2 => rw2(&mut e, slots, seed, targets, cols, rows),
            _ => otlp(&mut e, slots, seed, targets, rows),
        }
        Template { enc: e, samples: (cols * rows) as u64, built_for: (targets.to_vec(), rows) }
    }

    /// Writes the scrapes into the request and returns its bytes.
    pub(crate) fn fill(&mut self, s: &Scrapes) -> &[u8] {
        let width = s.targets * SLOTS;
        let value = |row: u32, col: u32| s.values[row as usize * width + col as usize];
        let time = |row: u32, target: u32| s.times[row as usize * s.targets + target as usize];
        for &(at, p) in &self.enc.patches {
            let at = at as usize;
            let word = match p {
                Patch::TimeMs { row, target } => {
                    let mut t = time(row, target) as u64;
                    for b in &mut self.enc.buf[at..at + 6] {
                        *b = t as u8 | 0x80;
                        t >>= 7;
                    }
                    self.enc.buf[at + 5] &= 0x7f;
                    continue;
                }
                Patch::TimeNs { row, target } => time(row, target) as u64 * 1_000_000,
                Patch::Value { row, col } => value(row, col).to_bits(),
                Patch::Count { row, col } => value(row, col) as u64,
                Patch::BucketCount { row, col, first } => {
                    let below = if first { 0.0 } else { value(row, col - 1) };
                    (value(row, col) - below) as u64
                }
            };
            self.enc.buf[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        &self.enc.buf
    }
}

fn each_series(
    slots: &[Slot],
    targets: &[(u64, u64)],
    cols: usize,
) -> impl Iterator<Item = (u32, u32, u64, u64, usize)> {
    let n = slots.len();
    let t: Vec<_> = targets.to_vec();
    (0..cols).map(move |c| (c as u32, (c / n) as u32, t[c / n].0, t[c / n].1, c % n))
}

fn samples(e: &mut Enc, field: u64, rows: usize, col: u32, target: u32) {
    for row in 0..rows as u32 {
        e.msg(field, |e| {
            e.tag(1, 1);
            e.patch(Patch::Value { row, col }, 8);
            e.tag(2, 0);
            e.patch(Patch::TimeMs { row, target }, 6);
        });
    }
}

fn rw1(e: &mut Enc, slots: &[Slot], seed: u64, targets: &[(u64, u64)], cols: usize, rows: usize) {
    for (col, target, id, generation, slot) in each_series(slots, targets, cols) {
        e.msg(1, |e| {
            for (k, v) in labels(&slots[slot], seed, id, generation) {
                e.msg(1, |e| {
                    e.str(1, k);
                    e.str(2, &v);
                });
            }
            samples(e, 2, rows, col, target);
        });
    }
}

fn rw2(e: &mut Enc, slots: &[Slot], seed: u64, targets: &[(u64, u64)], cols: usize, rows: usize) {
    let mut index = std::collections::HashMap::from([(String::new(), 0u64)]);
    let mut symbols = vec![String::new()];
    let mut refs = Vec::with_capacity(cols);
    for (_, _, id, generation, slot) in each_series(slots, targets, cols) {
        let mut r = Enc::default();
        for (k, v) in labels(&slots[slot], seed, id, generation) {
            for s in [k.to_string(), v] {
                let next = symbols.len() as u64;
                let at = *index.entry(s.clone()).or_insert(next);
                if at == next {
                    symbols.push(s);
                }
                r.varint(at);
            }
        }
        refs.push(r.buf);
    }
    for s in &symbols {
        e.str(4, s);
    }
    for (col, target, _, _, slot) in each_series(slots, targets, cols) {
        e.msg(5, |e| {
            e.bytes(1, &refs[col as usize]);
            samples(e, 2, rows, col, target);
            // Metadata: 1 counter, 2 gauge.
            e.msg(5, |e| e.uint(1, if slots[slot].model.is_counter() { 1 } else { 2 }));
        });
    }
}

/// One `ResourceMetrics` per target and job, whole targets only.
fn otlp(e: &mut Enc, slots: &[Slot], seed: u64, targets: &[(u64, u64)], rows: usize) {
    const RESOURCE: [&str; 5] = ["job", "instance", "cluster", "namespace", "pod"];
    for (t, &(id, generation)) in targets.iter().enumerate() {
        for node in [true, false] {
            let mine: Vec<usize> = (0..SLOTS).filter(|&i| slots[i].node == node).collect();
            let shared = labels(&slots[mine[0]], seed, id, generation);
            e.msg(1, |e| {
                e.msg(1, |e| {
                    for (k, v) in shared.iter().filter(|(k, _)| RESOURCE.contains(k)) {
                        let key = match *k {
                            "job" => "service.name",
                            "instance" => "service.instance.id",
                            "namespace" => "k8s.namespace.name",
                            "pod" => "k8s.pod.name",
                            k => k,
                        };
                        e.attr(1, key, v);
                    }
                });
                e.msg(2, |e| {
                    e.msg(1, |e| e.str(1, "loadgen"));
                    let mut at = 0;
                    while at < mine.len() {
                        // Consecutive slots of one name make one metric.
                        let name = slots[mine[at]].name;
                        let run = mine[at..].iter().take_while(|&&i| slots[i].name == name).count();
                        metric(e, slots, &mine[at..at + run], t, rows);
                        at += run;
                        if name.ends_with("_bucket") {
                            at += 2;
                        }
                    }
                });
            });
        }
    }
}

fn metric(e: &mut Enc, slots: &[Slot], run: &[usize], target: usize, rows: usize) {
    let slot = &slots[run[0]];
    let col = |i: usize| (target * SLOTS + i) as u32;
    let target = target as u32;
    if let Some(name) = slot.name.strip_suffix("_bucket") {
        let hist = |e: &mut Enc| {
            for row in 0..rows as u32 {
                e.msg(1, |e| {
                    e.tag(3, 1);
                    e.patch(Patch::TimeNs { row, target }, 8);
                    e.tag(4, 1);
                    e.patch(Patch::Count { row, col: col(BUCKETS) }, 8);
                    e.tag(5, 1);
                    e.patch(Patch::Value { row, col: col(BUCKETS + 1) }, 8);
                    e.msg(6, |e| {
                        for (k, &i) in run.iter().enumerate() {
                            e.patch(Patch::BucketCount { row, col: col(i), first: k == 0 }, 8);
                        }
                    });
                    e.msg(7, |e| {
                        for b in BOUNDS {
                            e.buf.extend_from_slice(&b.to_le_bytes());
                        }
                    });
                    for (k, v) in slot.labels.iter().filter(|(k, _)| *k != "le") {
                        e.attr(9, k, v);
                    }
                });
            }
            e.uint(2, 2);
        };
        e.msg(2, |e| {
            e.str(1, name);
            e.msg(9, hist);
        });
        return;
    }
    let points = |e: &mut Enc| {
        for &i in run {
            for row in 0..rows as u32 {
                e.msg(1, |e| {
                    e.tag(3, 1);
                    e.patch(Patch::TimeNs { row, target }, 8);
                    e.tag(4, 1);
                    e.patch(Patch::Value { row, col: col(i) }, 8);
                    for (k, v) in &slots[i].labels {
                        e.attr(7, k, v);
                    }
                });
            }
        }
    };
    e.msg(2, |e| {
        e.str(1, slot.name);
        // A sum named otherwise would be given that suffix by some servers.
        if slot.name.ends_with("_total") {
            e.msg(7, |e| {
                points(e);
                e.uint(2, 2);
                e.uint(3, 1);
            });
        } else {
            e.msg(5, points);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::layout;
    use opentelemetry_proto::tonic::{collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::metric::Data};
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Label {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        timestamp: i64,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Series1 {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Write1 {
        #[prost(message, repeated, tag = "1")]
        timeseries: Vec<Series1>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Series2 {
        #[prost(uint32, repeated, tag = "1")]
        labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Write2 {
        #[prost(string, repeated, tag = "4")]
        symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        timeseries: Vec<Series2>,
    }

    const TIME: i64 = 1_760_000_000_123;

    fn scrapes(targets: usize, rows: usize) -> Scrapes {
        let mut values: Vec<f64> = Vec::new();
        for row in 0..rows {
            values.extend((0..targets * SLOTS).map(|c| (row * 10_000 + c) as f64));
        }
        let times = (0..rows * targets).map(|i| TIME + i as i64).collect();
        Scrapes { targets, rows, values, times }
    }

    #[test]
    fn rw1_and_rw2_decode_to_the_same_series() {
        let slots = layout();
        let (targets, cols) = ([(4, 0), (5, 2)], SLOTS + 7);
        let s = scrapes(2, 3);
        let one = Template::build(Format::Rw1, &slots, 1, &targets, cols, 3).fill(&s).to_vec();
        let two = Template::build(Format::Rw2, &slots, 1, &targets, cols, 3).fill(&s).to_vec();
        let one = Write1::decode(&one[..]).unwrap();
        let two = Write2::decode(&two[..]).unwrap();
        assert_eq!(one.timeseries.len(), cols);
        assert_eq!(two.timeseries.len(), cols);
        for (c, (a, b)) in one.timeseries.iter().zip(&two.timeseries).enumerate() {
            let named: Vec<&String> = a.labels.iter().flat_map(|l| [&l.name, &l.value]).collect();
            let refs: Vec<&String> = b.labels_refs.iter().map(|&r| &two.symbols[r as usize]).collect();
            assert_eq!(named, refs);
            assert_eq!(a.samples, b.samples);
            for (row, x) in a.samples.iter().enumerate() {
                assert_eq!(x.value, (row * 10_000 + c) as f64);
                assert_eq!(x.timestamp, TIME + (row * 2 + c / SLOTS) as i64);
            }
        }
    }

    #[test]
    fn otlp_decodes_to_every_slot() {
        let slots = layout();
        let mut s = scrapes(1, 1);
        s.values[BUCKETS] = s.values[BUCKETS - 1];
        let body = Template::build(Format::OtlpHttp, &slots, 1, &[(0, 0)], SLOTS, 1).fill(&s).to_vec();
        let req = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
        assert_eq!(req.resource_metrics.len(), 2);
        let mut points = 0;
        for m in req.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics) {
            match m.data.as_ref().unwrap() {
                Data::Gauge(g) => points += g.data_points.len(),
                Data::Sum(s) => {
                    assert!(s.is_monotonic && s.aggregation_temporality == 2);
                    points += s.data_points.len();
                }
                Data::Histogram(h) => {
                    let p = &h.data_points[0];
                    assert_eq!(p.count, (BUCKETS - 1) as u64);
                    assert_eq!(p.bucket_counts.iter().sum::<u64>(), p.count);
                    assert_eq!(p.explicit_bounds.len() + 1, p.bucket_counts.len());
                    assert_eq!(p.sum, Some((BUCKETS + 1) as f64));
                    points += BUCKETS + 2;
                }
                _ => panic!(),
            }
        }
        assert_eq!(points, SLOTS);
    }

    #[test]
    fn templates_are_deterministic() {
        let slots = layout();
        for f in [Format::Rw1, Format::Rw2, Format::OtlpHttp] {
            let go = || Template::build(f, &slots, 9, &[(1, 0)], SLOTS, 2).fill(&scrapes(1, 2)).to_vec();
            assert_eq!(go(), go());
        }
    }
}
