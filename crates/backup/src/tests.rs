//! Repositories in folders, from outside: backups share, restores equal, damage is found and named.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pharos_base::SimClock;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::place::PIECE_BYTES;

type Files = BTreeMap<String, Vec<u8>>;

struct Fixture {
    folder: TempDir,
    clock: std::sync::Arc<SimClock>,
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder: TempDir::new().unwrap(), clock: SimClock::at_ms(1_700_000_000_000), runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn repository(&self) -> Repository {
        let location = Location::Folder(self.path("repository"));
        Repository::open(&location, RepositorySettings::default(), self.clock.clone()).unwrap()
    }

    /// Makes the data folder hold exactly `files`.
    fn write(&self, files: &Files) {
        let data = self.path("data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).unwrap();
        for (path, contents) in files {
            let path = data.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
    }

    fn save(&self) -> Result<Saved, BackupError> {
        // Backups may follow one another at once and keep their order.
        self.clock.advance_ms(1);
        let tree = SourceTree::of_stopped(&self.path("data")).unwrap();
        self.runtime.block_on(self.repository().save(tree, &Unobserved))
    }

    fn restore(&self, name: Option<&str>) -> Result<Files, BackupError> {
        let target = self.path("restored");
        let _ = fs::remove_dir_all(&target);
        self.runtime.block_on(self.repository().restore(name, &target, &Unobserved))?;
        assert!(!target.join(UNFINISHED_FOLDER).exists());
        let mut files = Files::new();
        read_into(&target, "", &mut files);
        Ok(files)
    }

    fn verify(&self) -> Verified {
        self.runtime.block_on(self.repository().verify(None, &Unobserved)).unwrap()
    }

    fn prune(&self, keep: usize, dry_run: bool) -> Result<Pruned, BackupError> {
        self.runtime.block_on(self.repository().prune(NonZeroUsize::new(keep).unwrap(), dry_run))
    }

    fn object_of(&self, contents: &[u8]) -> PathBuf {
        self.path("repository").join(digest::Digest::of(contents).key())
    }
}

fn read_into(root: &Path, below: &str, files: &mut Files) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            read_into(root, &path, files);
        } else {
            files.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

fn files(given: &[(&str, &[u8])]) -> Files {
    given.iter().map(|(path, contents)| ((*path).to_owned(), contents.to_vec())).collect()
}

#[test]
fn a_second_backup_sends_only_what_is_new_and_each_is_restored_as_it_was() {
    let fixture = Fixture::new();
    let large = vec![7; PIECE_BYTES + 5];
    let mut data = files(&[("metrics/parts/1", &large), ("metrics/parts/2", b"two"), ("tokens.json", b"{}")]);
    fixture.write(&data);
    let first = fixture.save().unwrap();
    assert_eq!((first.files, first.bytes_reused), (3, 0));
    assert!(first.bytes_sent > large.len() as u64);
    let first_data = data.clone();
    data.remove("metrics/parts/2");
    data.insert("metrics/parts/3".to_owned(), b"three".to_vec());
    // Equal contents are sent once, whatever they are called.
    data.insert("traces/copy".to_owned(), b"three".to_vec());
    fixture.write(&data);
    let second = fixture.save().unwrap();
    assert_eq!(second.bytes_reused, large.len() as u64 + 2 + 5);
    assert!(second.bytes_sent < 2_000, "{second:?}");
    assert!(second.name > first.name);
    assert_eq!(fixture.restore(None).unwrap(), data);
    assert_eq!(fixture.restore(Some(&first.name)).unwrap(), first_data);
    let verified = fixture.verify();
    assert_eq!((verified.backups, verified.objects, verified.faults), (2, 4, Vec::new()));
    let listed = fixture.runtime.block_on(fixture.repository().list()).unwrap();
    assert_eq!(listed.iter().map(|entry| &entry.name).collect::<Vec<_>>(), [&first.name, &second.name]);
    let note = listed[0].told.as_ref().unwrap();
    assert_eq!(
        (note.files, note.bytes, note.created_at.as_str()),
        (3, large.len() as u64 + 5, "2023-11-14T22:13:20.001Z")
    );
}

#[test]
fn locks_snapshots_and_unfinished_restores_are_not_in_a_backup_and_empty_folders_are() {
    let fixture = Fixture::new();
    fixture.write(&files(&[
        ("LOCK", b"1"),
        ("traces/LOCK", b""),
        ("traces/rows/LOCK", b""),
        ("metrics/snapshots/s/x", b"old"),
        ("metrics/tenants/0/parts/1/snapshots", b"a file may be called so"),
        (".restoring/x", b"half"),
    ]));
    fs::create_dir_all(fixture.path("data/metrics/log")).unwrap();
    fixture.save().unwrap();
    let restored = fixture.restore(None).unwrap();
    assert_eq!(restored.into_keys().collect::<Vec<_>>(), ["metrics/tenants/0/parts/1/snapshots"]);
    assert!(fixture.path("restored/metrics/log").is_dir());
}

#[test]
fn a_snapshot_is_taken_from_every_store_that_has_it() {
    let fixture = Fixture::new();
    fixture.write(&files(&[
        ("metrics/log/1", b"not this"),
        ("metrics/snapshots/s/tenants/0/a", b"metrics"),
        ("metrics/snapshots/t/tenants/0/b", b"another"),
        ("traces/snapshots/s/days/c", b"traces"),
        ("archive/d", b"no snapshot"),
        ("tokens.json", b"{}"),
    ]));
    let tree = SourceTree::of_snapshot(&fixture.path("data"), "s").unwrap();
    assert_eq!(tree.left_out(), ["archive"]);
    let saved = fixture.runtime.block_on(fixture.repository().save(tree, &Unobserved)).unwrap();
    assert_eq!(saved.left_out, ["archive"]);
    let expected =
        [("metrics/tenants/0/a", b"metrics".as_slice()), ("tokens.json", b"{}"), ("traces/days/c", b"traces")];
    assert_eq!(fixture.restore(None).unwrap(), files(&expected));
    for absent in ["none", "..", "s/tenants", ""] {
        let error = SourceTree::of_snapshot(&fixture.path("data"), absent).unwrap_err();
        assert!(matches!(error, BackupError::NoSnapshot { .. }), "{absent}: {error}");
    }
}

#[test]
fn damage_is_found_and_named() {
    let fixture = Fixture::new();
    fixture.write(&files(&[("a", b"first"), ("b", b"second"), ("c", b"third")]));
    let name = fixture.save().unwrap().name;
    let check = |file: &str, problem: &str| {
        let faults = fixture.verify().faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].file == file && faults[0].problem.contains(problem), "{faults:?}");
        assert_eq!(faults[0].backups, std::slice::from_ref(&name));
        let error = fixture.restore(None).unwrap_err();
        assert!(matches!(&error, BackupError::Damaged { file: named, .. } if named == file), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
        // Nothing of a damaged backup gets to its place.
        assert_eq!(fs::read_dir(fixture.path("restored")).unwrap().count(), 0);
    };
    for (file, contents, damaged, problem) in [
        ("a", b"first".as_slice(), Some(b"firsT".as_slice()), "the hash"),
        ("b", b"second", Some(b"secon"), "5 bytes instead of 6"),
        ("c", b"third", None, "missing"),
    ] {
        let object = fixture.object_of(contents);
        match damaged {
            Some(damaged) => fs::write(&object, damaged).unwrap(),
            None => fs::remove_file(&object).unwrap(),
        }
        check(file, problem);
        fs::write(&object, contents).unwrap();
    }
    // The next backup heals what is missing or has another size.
    fs::remove_file(fixture.object_of(b"third")).unwrap();
    fs::write(fixture.object_of(b"second"), b"s").unwrap();
    fixture.save().unwrap();
    assert_eq!(fixture.verify().faults, []);

    let manifest = fixture.path("repository").join(manifest::manifest_key(&name));
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    let faults = fixture.verify().faults;
    assert!(faults.len() == 1 && faults[0].key.contains(&name) && faults[0].problem.contains("damaged"), "{faults:?}");
    assert!(matches!(fixture.restore(Some(&name)).unwrap_err(), BackupError::Manifest { .. }));
    // What it needs is not known: nothing is pruned, not even in its stead.
    assert!(matches!(fixture.prune(1, false).unwrap_err(), BackupError::Manifest { .. }));
    assert_eq!(fixture.runtime.block_on(fixture.repository().list()).unwrap().len(), 2);
    fs::write(&manifest, b"pharos-backup 2\n").unwrap();
    assert!(matches!(fixture.restore(Some(&name)).unwrap_err(), BackupError::Newer { found: 2, .. }));
}

#[test]
fn a_prune_keeps_what_the_newest_need() {
    let fixture = Fixture::new();
    let mut saved = Vec::new();
    for number in 0..4_u8 {
        fixture.write(&files(&[("shared", b"always"), ("own", &[number; 10])]));
        saved.push(fixture.save().unwrap().name);
    }
    let planned = fixture.prune(2, true).unwrap();
    assert_eq!(fixture.verify().objects, 5);
    let pruned = fixture.prune(2, false).unwrap();
    assert_eq!(planned, Pruned { objects: planned.objects, bytes: planned.bytes, ..pruned.clone() });
    assert_eq!((pruned.removed.as_slice(), pruned.kept.as_slice()), (&saved[..2], &saved[2..]));
    assert_eq!((pruned.objects, pruned.bytes), (2, 20));
    let verified = fixture.verify();
    assert_eq!((verified.backups, verified.objects, verified.faults), (2, 3, Vec::new()));
    assert_eq!(fixture.restore(Some(&saved[2])).unwrap(), files(&[("shared", b"always"), ("own", &[2; 10])]));
    assert!(matches!(fixture.restore(Some(&saved[0])).unwrap_err(), BackupError::NoBackup { .. }));
    assert_eq!(fixture.prune(2, false).unwrap().removed, Vec::<String>::new());
}

#[test]
fn a_prune_and_a_backup_exclude_each_other_and_backups_do_not() {
    let fixture = Fixture::new();
    fixture.write(&files(&[("a", b"x")]));
    fixture.save().unwrap();
    let locks = fixture.path("repository/locks");
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0, "a lock is released");
    fs::write(locks.join("backup-dead"), "20260101T000000Z-00, process 7").unwrap();
    fixture.save().unwrap();
    let error = fixture.prune(1, false).unwrap_err();
    assert!(error.to_string().contains("process 7") && error.to_string().contains("unlock"), "{error}");
    fs::rename(locks.join("backup-dead"), locks.join("prune-dead")).unwrap();
    assert!(matches!(fixture.save().unwrap_err(), BackupError::Busy { what: "a prune", .. }));
    assert_eq!(fixture.runtime.block_on(fixture.repository().unlock()).unwrap(), 1);
    fixture.save().unwrap();
    fixture.prune(1, false).unwrap();
}

#[test]
fn a_restore_never_overwrites_and_takes_up_an_unfinished_one() {
    let fixture = Fixture::new();
    fixture.write(&files(&[("metrics/a", b"x")]));
    fixture.save().unwrap();
    let target = fixture.path("target");
    fs::create_dir_all(target.join(UNFINISHED_FOLDER).join("metrics")).unwrap();
    fs::write(target.join("LOCK"), "1").unwrap();
    let restore = || fixture.runtime.block_on(fixture.repository().restore(None, &target, &Unobserved));
    restore().unwrap();
    assert_eq!(fs::read(target.join("metrics/a")).unwrap(), b"x");
    let error = restore().unwrap_err();
    assert!(matches!(&error, BackupError::NotEmpty { found, .. } if found == "metrics"), "{error}");
    assert_eq!(fs::read(target.join("metrics/a")).unwrap(), b"x");
}

#[test]
fn a_place_without_backups_says_so() {
    let fixture = Fixture::new();
    assert!(fixture.restore(None).unwrap_err().to_string().contains("there is no backup in"));
    assert!(fixture.prune(1, false).unwrap_err().to_string().contains("there is no backup in"));
    assert_eq!(fixture.verify().backups, 0);
    assert!(!fixture.path("repository").exists(), "looking makes nothing");
    let error = fixture.restore(Some("../../etc")).unwrap_err();
    assert!(matches!(error, BackupError::NoBackup { .. }), "{error}");
}

/// Interrupts after so many bytes.
struct Impatient(AtomicU64);

impl Observer for Impatient {
    fn total(&self, _bytes: u64) {}

    fn done(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 30
    }
}

#[test]
fn an_interrupted_backup_is_none_and_the_next_one_takes_up_what_it_sent() {
    let fixture = Fixture::new();
    let contents: Vec<_> = (0..20_u8).map(|number| (format!("f{number}"), vec![number; 10])).collect();
    fixture.write(&contents.into_iter().collect());
    let tree = SourceTree::of_stopped(&fixture.path("data")).unwrap();
    let saved = fixture.runtime.block_on(fixture.repository().save(tree, &Impatient(AtomicU64::new(0))));
    assert!(matches!(saved.unwrap_err(), BackupError::Interrupted));
    assert!(matches!(fixture.restore(None).unwrap_err(), BackupError::NoBackup { .. }));
    assert!(fixture.save().unwrap().bytes_reused >= 30);
}

fn arb_files() -> impl Strategy<Value = Files> {
    let path = "[ab]{1,2}(/[ab]{1,2}){0,2}/f[0-3]";
    prop::collection::btree_map(path, prop::collection::vec(0..3_u8, 0..6), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the data folder went through, each backup restores what was there when it was made, and so it is
    /// after a prune for those that stay.
    #[test]
    fn every_backup_restores_what_was_there(states in prop::collection::vec(arb_files(), 1..5), keep in 1..4_usize) {
        let fixture = Fixture::new();
        let mut saved = Vec::new();
        for state in &states {
            fixture.write(state);
            saved.push((fixture.save().unwrap().name, state));
        }
        for (name, state) in &saved {
            prop_assert_eq!(&&fixture.restore(Some(name)).unwrap(), state);
        }
        fixture.prune(keep, false).unwrap();
        for (name, state) in saved.iter().rev().take(keep) {
            prop_assert_eq!(&&fixture.restore(Some(name)).unwrap(), state);
        }
        prop_assert_eq!(fixture.verify().faults, Vec::new());
    }
}

/// What the file system of a volume puts there is nobody's data, and only root may look into it.
#[test]
fn lost_and_found_is_neither_backed_up_nor_in_the_way() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let data = files(&[("metrics/a", b"a")]);
    fixture.write(&data);
    for place in ["data", "repository"] {
        let lost = fixture.path(place).join("lost+found");
        fs::create_dir_all(lost.join("#1")).unwrap();
        // Root may enter, and would meet this.
        fs::write(lost.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        fs::set_permissions(&lost, fs::Permissions::from_mode(0o000)).unwrap();
    }
    assert_eq!(fixture.save().unwrap().files, 1);
    let snapshot = fixture.path("data/metrics/snapshots/s1");
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(snapshot.join("a"), "a").unwrap();
    let tree = SourceTree::of_snapshot(&fixture.path("data"), "s1").unwrap();
    assert_eq!((tree.left_out(), tree.bytes()), (&[][..], 1));
    assert_eq!(fixture.restore(None).unwrap(), data);
    for place in ["data", "repository"] {
        fs::set_permissions(fixture.path(place).join("lost+found"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_prune_removes_what_crashed_backups_left() {
    let fixture = Fixture::new();
    fixture.write(&files(&[("metrics/a", b"a")]));
    fixture.save().unwrap();
    let left = fixture.object_of(b"a").with_file_name(".tmp-0123456789abcdef");
    fs::write(&left, "half").unwrap();
    fixture.prune(1, true).unwrap();
    assert!(left.exists(), "a dry run removes nothing");
    fixture.prune(1, false).unwrap();
    assert!(!left.exists());
    assert!(fixture.object_of(b"a").exists());
}

/// Reading a folder fails as a file on a dying disk does.
#[test]
fn an_object_that_cannot_be_read_is_a_fault_and_the_others_are_read_all_the_same() {
    let fixture = Fixture::new();
    fixture.write(&files(&[("metrics/a", b"a"), ("metrics/b", b"b")]));
    fixture.save().unwrap();
    let object = fixture.object_of(b"a");
    fs::remove_file(&object).unwrap();
    fs::create_dir(&object).unwrap();
    fs::write(fixture.object_of(b"b"), "B").unwrap();
    let mut told: Vec<_> = fixture.verify().faults.into_iter().map(|fault| (fault.file, fault.problem)).collect();
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1.contains("cannot read"), "{told:?}");
    assert!(told[1].1.contains("hash"), "{told:?}");
}
