//! Flipped and missing bytes: told with file and place, the rest read, no panic.

use std::path::Path;

use pharos_prometheus_data::DataError;
use proptest::prelude::*;

use crate::fixture::{self, Contents};

/// Reads a copy of the fixture after `change` had its way with one file.
fn read_changed(fixture: &str, change: impl FnOnce(&Path)) -> Contents {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("data");
    fixture::copy(&fixture::path(fixture), &copy);
    change(&copy);
    fixture::read(&copy)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// The file of this name in the largest block.
fn in_block(data: &Path, name: &str) -> std::path::PathBuf {
    let candidates = fixture::files(data).into_iter().filter(|path| path.ends_with(name));
    candidates
        .max_by_key(|path| {
            std::fs::metadata(path.parent().unwrap().join(name.rsplit('/').next().unwrap())).unwrap().len()
        })
        .unwrap()
}

#[test]
fn a_flipped_byte_in_any_file_is_told_with_its_place_and_the_rest_is_read() {
    let sound = fixture::read(&fixture::path("modern"));
    // File, byte, and how many samples may be lost.
    for (name, at, lost_max) in [
        ("chunks/000001", 2, 0),
        ("chunks/000001", 100, 250),
        ("chunks/000001", 5_000, 250),
        ("tombstones", 8, 0),
        ("meta.json", 0, 0),
        ("index", 450, 250),
        ("wal/00000004", 2_000, 2_000),
        ("wal/checkpoint.00000001/00000000", 5_000, 2_000),
    ] {
        let mut changed = std::path::PathBuf::new();
        let contents = read_changed("modern", |data| {
            changed = in_block(data, name);
            flip(&changed, at);
        });
        let told: Vec<_> = contents.damage.iter().filter(|damage| damage.path == changed).collect();
        assert!(!told.is_empty(), "{name}: {:?}", contents.damage);
        assert!(told[0].offset <= at as u64 && !told[0].reason.is_empty(), "{name}: {}", told[0]);
        assert_eq!(told.len(), contents.damage.len(), "{name}: {:?}", contents.damage);
        let (has, had) = (contents.sample_count(), sound.sample_count());
        assert!(has + lost_max >= had, "{name}: {has} of {had} samples, {}", told[0]);
        if lost_max > 0 {
            assert!(has < had, "{name}: what is damaged is not read");
        }
    }
}

#[test]
fn without_a_table_of_contents_the_series_are_found() {
    let sound = fixture::read(&fixture::path("modern"));
    let contents = read_changed("modern", |data| {
        let index = in_block(data, "index");
        let length = std::fs::metadata(&index).unwrap().len() as usize;
        flip(&index, length - 10);
    });
    assert!(contents.damage[0].reason.contains("table of contents"), "{:?}", contents.damage);
    assert_eq!(contents.sample_count(), sound.sample_count());
}

#[test]
fn a_missing_file_of_chunks_and_a_torn_log_are_told() {
    let contents = read_changed("classic", |data| std::fs::remove_file(in_block(data, "chunks/000001")).unwrap());
    assert!(contents.damage.iter().all(|damage| damage.reason.contains("no such file")), "{:?}", contents.damage);
    assert!(!contents.damage.is_empty() && contents.sample_count() > 0);

    let sound = fixture::read(&fixture::path("classic"));
    let contents = read_changed("classic", |data| {
        let path = in_block(data, "wal/00000004");
        let bytes = std::fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        std::fs::write(path, &bytes[..end - 3]).unwrap();
    });
    assert_eq!(contents.damage.len(), 1, "{:?}", contents.damage);
    assert!(contents.sample_count() + 30 > sound.sample_count());
}

#[test]
fn samples_of_series_that_the_log_lost_are_counted() {
    let contents = read_changed("modern", |data| flip(&in_block(data, "wal/checkpoint.00000001/00000000"), 200));
    assert!(contents.damage[0].reason.contains("checksum"), "{:?}", contents.damage);
    assert!(contents.orphan_count > 100, "{}", contents.orphan_count);
    assert_eq!(fixture::read(&fixture::path("modern")).orphan_count, 0);
}

#[test]
fn a_folder_of_something_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = pharos_prometheus_data::DataFolder::open(folder.path(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, DataError::NoData { .. }), "{error}");
    let error = pharos_prometheus_data::DataFolder::open(&folder.path().join("none"), &mut |_| ()).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any bytes anywhere, lengths and all: no panic, and never more than was there.
    #[test]
    fn whatever_is_written_over_a_file_nothing_panics(
        fixture in prop::sample::select(vec!["classic", "modern", "index-v1"]),
        file: prop::sample::Index,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        read_changed(fixture, |data| {
            let files = fixture::files(data);
            let path = &files[file.index(files.len())];
            let mut bytes = std::fs::read(path).unwrap();
            for (at, byte) in patches {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            std::fs::write(path, bytes).unwrap();
        });
    }
}

/// References name files by number: those of a file that is gone must not meet another's bytes.
#[test]
fn a_missing_file_of_chunks_loses_its_chunks_and_no_others() {
    let sound = fixture::read(&fixture::path("modern"));
    let contents = read_changed("modern", |data| {
        let first = in_block(data, "chunks/000001");
        std::fs::rename(&first, first.with_file_name("000002")).unwrap();
    });
    assert!(contents.damage.iter().all(|damage| damage.path.ends_with("chunks/000001")), "{:?}", contents.damage);
    assert!(!contents.damage.is_empty());
    assert!(contents.sample_count() < sound.sample_count());
}
