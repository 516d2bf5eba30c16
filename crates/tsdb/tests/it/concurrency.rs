//! Writers, readers and flushes at once: nothing is lost, nothing is seen twice.

use std::sync::atomic::{AtomicBool, Ordering};

use pharos_base::spawn_named;
use pharos_model::{METRIC_NAME, Matcher, TenantId, TimeRange};
use pharos_storage::MetricStore;
use pharos_storage::conformance::metrics::{CASE_TIME_MS, float_batch, read_all};
use tempfile::TempDir;

use crate::support::{append, open};

const WRITERS: i64 = 4;
const BATCHES: i64 = 60;

#[test]
fn readers_see_every_acknowledged_sample_while_the_head_is_flushed() {
    let dir = TempDir::new().unwrap();
    let store = std::sync::Arc::new(open(dir.path()));
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = std::sync::Arc::clone(&store);
            let write = move || {
                let name = writer.to_string();
                let labels: &[(&str, &str)] = &[(METRIC_NAME, "m"), ("writer", &name)];
                for number in 0..BATCHES {
                    append(&store, float_batch(&[(labels, &[(CASE_TIME_MS + number * 1000, number as f64)])]));
                    let own = vec![Matcher::equal("writer", name.as_str())];
                    let found = read_all(store.as_ref(), &TenantId::default(), own, TimeRange::ALL);
                    let series = found.values().next().expect("visible when acknowledged");
                    assert_eq!(series.timestamps_ms.len() as i64, number + 1);
                }
            };
            spawn_named("writer", write).unwrap()
        })
        .collect();
    let flusher = {
        let (store, done) = (std::sync::Arc::clone(&store), std::sync::Arc::clone(&done));
        spawn_named("flusher", move || {
            while !done.load(Ordering::Relaxed) {
                store.flush().unwrap();
                store.compact().unwrap();
            }
        })
        .unwrap()
    };
    let results: Vec<_> = writers.into_iter().map(std::thread::JoinHandle::join).collect();
    done.store(true, Ordering::Relaxed);
    flusher.join().unwrap();
    assert!(results.iter().all(Result::is_ok));
    drop(store);
    let all = read_all(&open(dir.path()), &TenantId::default(), vec![Matcher::equal(METRIC_NAME, "m")], TimeRange::ALL);
    let counts: Vec<_> = all.values().map(|series| series.timestamps_ms.len() as i64).collect();
    assert_eq!(counts, [BATCHES; WRITERS as usize]);
}
