//! Counters of a fleet of servers, scraped at a steady interval.

use std::path::Path;

use pharos_base::HumanDuration;
use pharos_model::{BatchBuilder, LabelsBuilder, METRIC_NAME, MetricBatch, Sample, TenantId};
use pharos_storage::{BatchId, MetricStore};
use pharos_tsdb::{Components, Settings, SyncPolicy, Tsdb};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::SEED;

/// Where the load begins, Unix milliseconds: 2023-11-14 22:13:20 UTC.
pub const START_MS: i64 = 1_700_000_000_000;
/// Distance of two samples of a series, milliseconds.
pub const SCRAPE_MS: i64 = 15_000;
/// Series of one instance: its paths times its status codes.
const SERIES_PER_INSTANCE: usize = 10;
const INSTANCES_PER_JOB: usize = 10;

/// A fixed set of `http_requests_total` counters, each of which grows by a random step per scrape.
#[derive(Debug)]
pub struct MetricLoad {
    counters: Vec<f64>,
    scrapes: i64,
    random: SmallRng,
}

impl MetricLoad {
    /// `series_count` counters that start at 0.
    #[must_use]
    pub fn new(series_count: usize) -> Self {
        Self { counters: vec![0.0; series_count], scrapes: 0, random: SmallRng::seed_from_u64(SEED) }
    }

    /// The instant of the newest sample, Unix milliseconds; [`START_MS`] before the first scrape.
    #[must_use]
    pub fn newest_ms(&self) -> i64 {
        START_MS + (self.scrapes - 1).max(0) * SCRAPE_MS
    }

    /// The next scrape: one sample of every series.
    ///
    /// # Panics
    /// Never: the labels are sound.
    pub fn scrape(&mut self) -> MetricBatch {
        let timestamp_ms = START_MS + self.scrapes * SCRAPE_MS;
        self.scrapes += 1;
        let (mut batch, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        for (number, counter) in self.counters.iter_mut().enumerate() {
            *counter += f64::from(self.random.random_range(0..50_u32));
            batch.push_sample(Sample { timestamp_ms, value: *counter }, 0);
            let (instance, kind) = (number / SERIES_PER_INSTANCE, number % SERIES_PER_INSTANCE);
            labels.push(METRIC_NAME, "http_requests_total");
            labels.push("code", if kind.is_multiple_of(2) { "200" } else { "500" });
            labels.push("instance", &format!("10.0.{}.{}:9100", instance / 250, instance % 250));
            labels.push("job", &format!("service-{}", instance / INSTANCES_PER_JOB));
            labels.push("path", &format!("/api/v1/path-{}", kind / 2));
            batch.finish_series(&mut labels).expect("sound labels");
        }
        batch.build()
    }

    /// Appends `scrapes` scrapes to `store`.
    ///
    /// # Panics
    /// If the store refuses one: what follows would measure nothing.
    pub fn fill(&mut self, store: &dyn MetricStore, tenant: &TenantId, scrapes: usize) {
        for _ in 0..scrapes {
            let stored = store.append(tenant, self.scrape(), BatchId::random()).wait();
            stored.expect("the store is open").expect("there is space");
        }
    }
}

/// A store in `folder` that acknowledges before the disk has synced: the disk shall not be what is measured.
///
/// # Panics
/// If the store does not open.
#[must_use]
pub fn open_metrics(folder: &Path) -> Tsdb {
    let sync = SyncPolicy::Interval(HumanDuration::from_ms(1_000));
    let settings = Settings { sync, ..Settings::for_tests() };
    Tsdb::open(folder, settings, Components::default()).expect("an empty folder opens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_loads_are_equal_and_each_scrape_has_all_series() {
        let (mut one, mut other) = (MetricLoad::new(30), MetricLoad::new(30));
        for _ in 0..3 {
            let (a, b) = (one.scrape(), other.scrape());
            assert_eq!(a.sample_count(), 30);
            assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
        assert_eq!(one.newest_ms(), START_MS + 2 * SCRAPE_MS);
    }
}
