//! What flushes and merges cost: CPU nanoseconds a sample, by what they do. Prints a table.
//!
//! Three simulated days, flushed every two hours: merges to eight hours decode and encode in the cold form, the one to three
//! days copies. CPU time bears a busy machine, as wall-clock time does not.

use std::sync::Arc;

use pharos_base::{Clock, HumanDuration, SimClock};
use pharos_model::{BatchBuilder, LabelsBuilder, METRIC_NAME, MetricBatch, Sample, TenantId};
use pharos_storage::{BatchId, MetricStore};
use pharos_tsdb::{Components, RealDisk, Settings, Tsdb};
use rustix::time::{ClockId, clock_gettime};

const SERIES: usize = 400;
const STEP_MS: i64 = 15_000;
const HOUR_MS: i64 = 3_600_000;
const DAYS: i64 = 3;
/// A multiple of three days.
const START_MS: i64 = 1_700_000_000_000 / (72 * HOUR_MS) * (72 * HOUR_MS);

/// A fixed mix: constants, counters of integers and of hundredths, pages, gauges with and without decimals, floats.
fn value(series: usize, tick: i64) -> f64 {
    let noise = (tick as u64 ^ (series as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) >> 40;
    match series % 8 {
        0 => 1.0,
        1 | 2 => (tick * 300 + (noise % 200) as i64) as f64,
        3 => (tick * 12) as f64 / 100.0 + (noise % 5) as f64 / 100.0,
        4 => (noise % 4000 * 4096) as f64,
        5 => (noise % 40) as f64,
        6 => (4_800 + noise % 300) as f64 / 100.0,
        _ => (tick as f64 / 50.0).sin() * 0.02 + noise as f64 * 1e-9,
    }
}

fn hour(from_ms: i64) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for series in 0..SERIES {
        for timestamp_ms in (from_ms..from_ms + HOUR_MS).step_by(STEP_MS as usize) {
            builder.push_sample(Sample { timestamp_ms, value: value(series, timestamp_ms / STEP_MS % 1_000_000) }, 0);
        }
        labels.push(METRIC_NAME, "metric");
        labels.push("instance", &format!("10.0.0.{series}:9100"));
        builder.finish_series(&mut labels).expect("sound labels");
    }
    builder.build()
}

/// Seconds of CPU that this process has used.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU and samples of one kind of work.
#[derive(Default)]
struct Cost {
    seconds: f64,
    samples: u64,
}

impl Cost {
    fn print(&self, work: &str) {
        let each = self.seconds * 1e9 / self.samples as f64;
        eprintln!("| {work} | {:.1} M | {each:.1} |", self.samples as f64 / 1e6);
    }
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = SimClock::at_ms(START_MS);
    let settings = Settings { retention: HumanDuration::from_ms(30 * 86_400_000), ..Settings::for_tests() };
    let components =
        Components { clock: Arc::clone(&clock) as Arc<dyn Clock>, disk: Arc::new(RealDisk), ..Components::default() };
    let store = Tsdb::open(dir.path(), settings, components).expect("the store opens");
    let (mut flushes, mut decoding, mut copying) = (Cost::default(), Cost::default(), Cost::default());
    for round in 0..DAYS * 24 + 4 {
        if round < DAYS * 24 {
            let batch = hour(START_MS + round * HOUR_MS);
            store.append(&TenantId::default(), batch, BatchId::random()).wait().expect("open").expect("stored");
        }
        clock.advance_ms(HOUR_MS);
        if round % 2 == 0 {
            continue;
        }
        let (before, cpu) = (store.stats(), cpu_seconds());
        store.flush().expect("flushed");
        flushes.seconds += cpu_seconds() - cpu;
        flushes.samples += before.head_samples;
        let cpu = cpu_seconds();
        store.maintain().expect("merged");
        let (spent, after) = (cpu_seconds() - cpu, store.stats());
        let copied = after.merge_samples_copied - before.merge_samples_copied;
        if copied > 0 {
            copying.seconds += spent;
            copying.samples += copied;
        } else if after.merges > before.merges {
            decoding.seconds += spent;
            decoding.samples += SERIES as u64 * 8 * 240 * (after.merges - before.merges);
        }
    }
    let stats = store.stats();
    eprintln!("{} parts, {:.3} bytes a sample", stats.parts, stats.part_bytes as f64 / stats.part_samples as f64);
    eprintln!("| work | samples | CPU ns a sample |");
    eprintln!("|---|---|---|");
    flushes.print("flush");
    decoding.print("merge to 8 h: decoded, encoded cold");
    copying.print("merge to 3 days: copied");
}
