//! Flipped bits in parts: reported with file and offset, never served, and the rest goes on.

use pharos_model::{Matcher, TenantId, TimeRange};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{LeafPlan, MetricStore, RawPlan, ReadContext};
use tempfile::TempDir;

use crate::support::{all_series, append, batch, copy_dir, files, open, seconds};

/// Seconds of the one series in three parts of different windows.
const SECONDS: [i64; 3] = [-3 * 7200, -7200, 0];

fn three_parts() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in SECONDS {
        for offset in 0..40 {
            append(&store, batch(second + offset * 7 % 60, 2));
        }
    }
    store.flush().unwrap();
    dir
}

#[test]
fn no_flipped_bit_is_served() {
    let dir = three_parts();
    let expected = seconds(&open(dir.path()));
    let part = files(&dir.path().join("tenants")).into_iter().find(|path| path.ends_with("data")).unwrap();
    let part = part.parent().unwrap().strip_prefix(dir.path()).unwrap().to_owned();
    let mut reported = 0;
    for name in ["data", "index", "meta.json"] {
        let length = std::fs::metadata(dir.path().join(&part).join(name)).unwrap().len() as usize;
        for at in (0..length).step_by(23) {
            let image = TempDir::new().unwrap();
            copy_dir(dir.path(), image.path());
            let path = image.path().join(&part).join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 0x04;
            std::fs::write(&path, bytes).unwrap();
            let store = open(image.path());
            let damaged = store.damaged();
            let plan = LeafPlan::Raw(RawPlan { matchers: all_series(), range: TimeRange::ALL });
            let errors: Vec<String> = match store.leaf(&TenantId::default(), &plan, &ReadContext::unlimited()) {
                Ok(stream) => stream.filter_map(Result::err).map(|error| error.full_message()).collect(),
                Err(error) => vec![error.full_message()],
            };
            for message in errors.iter().chain(&damaged) {
                assert!(message.contains("byte") || message.contains("version"), "{message}");
                // A description that lies about a file's length is found out at that file.
                assert!(message.contains(name) || name == "meta.json", "{message}");
            }
            if damaged.is_empty() && errors.is_empty() {
                // A byte that means nothing for reading, such as padding or a level in the description.
                assert_eq!(seconds(&store), expected, "{name} byte {at}");
            } else {
                reported += 1;
            }
            // The newest window lies in another part: it is served in any case.
            let recent = RawPlan { matchers: all_series(), range: TimeRange::new(CASE_TIME_MS, i64::MAX) };
            let plan = LeafPlan::Raw(recent);
            let served = store.leaf(&TenantId::default(), &plan, &ReadContext::unlimited()).unwrap();
            assert_eq!(served.filter_map(Result::ok).count(), 2, "{name} byte {at}");
        }
    }
    assert!(reported > 20, "only {reported} flips were noticed");
}

#[test]
fn a_cut_file_is_reported_and_left_alone() {
    let dir = three_parts();
    let path = files(&dir.path().join("tenants")).into_iter().find(|path| path.ends_with("data")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.damaged().len(), 1);
    assert!(store.damaged()[0].contains("data"));
    store.compact().unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 1, "evidence is kept");
    let found = store.series(
        &TenantId::default(),
        &[vec![Matcher::equal("n", "1")]],
        TimeRange::ALL,
        &ReadContext::unlimited(),
    );
    assert_eq!(found.unwrap().count(), 1);
}
