//! A flipped bit in any file of a data folder, at bytes of every kind: told with file and offset, never served, and the
//! rest is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pharos_model::{TenantId, TimeRange};
use pharos_storage::{LeafPlan, LeafSeries, MetricStore, RawPlan, ReadContext};
use pharos_tsdb::{RealDisk, Settings, Tsdb};
use tempfile::TempDir;

use crate::format::fixture;
use crate::support::{all_series, copy_dir, files, open_with};

/// Bytes flipped in the middle of each file; headers and footers are flipped more densely.
const MIDDLE_FLIPS: usize = 8;

/// What a reader of everything gets: by what was asked the answer, and the errors.
#[derive(Debug, Default, PartialEq)]
struct Answers {
    sound: BTreeMap<String, String>,
    errors: Vec<String>,
}

fn ask(store: &Tsdb) -> Answers {
    let mut answers = Answers { errors: store.damaged(), ..Answers::default() };
    for tenant in ["0", "team-a"].map(|name| name.parse::<TenantId>().unwrap()) {
        let context = ReadContext::unlimited();
        let plan = LeafPlan::Raw(RawPlan { matchers: all_series(), range: TimeRange::ALL });
        match store.leaf(&tenant, &plan, &context) {
            Ok(stream) => {
                for series in stream {
                    match series {
                        Ok(LeafSeries::Raw(series)) => answers.sound(format!("{tenant} {}", series.labels), &series),
                        Ok(LeafSeries::Grid(_)) => panic!("nobody asked for a grid"),
                        Err(error) => answers.errors.push(error.full_message()),
                    }
                }
            }
            Err(error) => answers.errors.push(error.full_message()),
        }
        match store.exemplars(&tenant, &[], TimeRange::ALL, &context) {
            Ok(found) => answers.sound(format!("{tenant} exemplars"), &found),
            Err(error) => answers.errors.push(error.full_message()),
        }
        answers.sound(format!("{tenant} metadata"), &store.metadata(&tenant, None, 100).unwrap());
    }
    answers
}

impl Answers {
    fn sound(&mut self, asked: String, answer: &impl std::fmt::Debug) {
        self.sound.insert(asked, format!("{answer:?}"));
    }
}

fn open(dir: &Path) -> Result<Tsdb, pharos_tsdb::TsdbError> {
    open_with(dir, Settings::for_tests(), Arc::new(RealDisk))
}

/// Some of the header, of the middle and of the end, where footers stand.
fn places(length: usize) -> Vec<usize> {
    let middle = (0..MIDDLE_FLIPS).map(|step| 16 + step * length.saturating_sub(40) / MIDDLE_FLIPS);
    let mut places: Vec<usize> =
        (0..24).step_by(5).chain(middle).chain((length.saturating_sub(24)..length).step_by(4)).collect();
    places.retain(|at| *at < length);
    places.dedup();
    places
}

fn check(name: &str) {
    let dir = TempDir::new().unwrap();
    copy_dir(&fixture(name), dir.path());
    let sound = ask(&open(dir.path()).unwrap());
    assert!(sound.errors.is_empty(), "{:?}", sound.errors);
    let all = files(&fixture(name));
    let all: Vec<_> = all.iter().map(|path| path.strip_prefix(fixture(name)).unwrap().to_owned()).collect();
    let mut told = 0;
    for file in all.iter().filter(|path| !path.starts_with("snapshots")) {
        let bytes = std::fs::read(fixture(name).join(file)).unwrap();
        for at in places(bytes.len()) {
            let image = TempDir::new().unwrap();
            for folder in ["log", "tenants"] {
                copy_dir(&fixture(name).join(folder), &image.path().join(folder));
            }
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(image.path().join(file), flipped).unwrap();
            told +=
                usize::from(check_flip(image.path(), file, &sound, &format!("{name}/{} byte {at}", file.display())));
        }
    }
    assert!(told > all.len() * 4, "only {told} flips were noticed");
}

/// Whether it was noticed.
fn check_flip(image: &Path, file: &Path, sound: &Answers, what: &str) -> bool {
    let kind = file.file_name().unwrap().to_str().unwrap();
    let is_log = file.extension().is_some_and(|kind| kind == "log");
    let is_told = |message: &str| {
        // A description that lies about a file's length is found out at that file.
        let at = if kind == "meta.json" { file.parent().unwrap() } else { file };
        let offset = message.contains("byte") || message.contains("version");
        assert!(message.contains(at.to_str().unwrap()) && offset, "{what}: {message}");
    };
    let store = match open(image) {
        Ok(store) => store,
        Err(error) => {
            assert!(is_log || kind == "tombstones", "{what}: {error}");
            is_told(&error.to_string());
            return true;
        }
    };
    let found = ask(&store);
    found.errors.iter().for_each(|message| is_told(message));
    if found.errors.is_empty() {
        if is_log {
            // The last record may be torn at a crash: one that is not whole was never acknowledged.
            assert!(
                found
                    .sound
                    .iter()
                    .all(|(asked, answer)| sound.sound.get(asked).is_some_and(|sound| { answer.len() <= sound.len() })),
                "{what}"
            );
            return found != *sound;
        }
        assert_eq!(found, *sound, "{what}: served");
        return false;
    }
    // Whatever has nothing in the damaged file is answered as before.
    let tenant = file.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    for (asked, answer) in sound.sound.iter().filter(|(asked, _)| !asked.starts_with(&format!("{tenant} "))) {
        assert_eq!(found.sound.get(asked), Some(answer), "{what}");
    }
    assert!(!found.sound.is_empty(), "{what}: the rest is served");
    true
}

#[test]
fn no_flipped_bit_of_version_1_is_served() {
    check("v1");
}

#[test]
fn no_flipped_bit_of_a_store_in_use_is_served() {
    check("in-use-1");
}
