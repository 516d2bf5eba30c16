//! A disk that fails on cue and forgets what was not synced.
//!
//! It works on real files and keeps book of what a power loss would leave: bytes up to the last sync of
//! each file, entries up to the last sync of their directory. [`FaultDisk::cut_power`] makes it so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pharos_tsdb::{Disk, DiskFile, RealDisk};

/// How long a sync that was held up until a merge begins waits for what the merge writes.
const HEAD_START: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "faults that have nothing to do with each other")]
struct Book {
    /// Length at the last sync of each file written.
    synced: BTreeMap<PathBuf, u64>,
    /// Entries made since the last sync of their directory: what to do to lose them.
    entries: Vec<Entry>,
    syncs: u64,
    fail_after_syncs: Option<u64>,
    failed: bool,
    full: bool,
    full_after_writes: Option<u64>,
    /// So many more files and directories can be opened.
    descriptors: Option<u64>,
    full_for_parts: bool,
    /// Parts cannot be removed.
    stuck: bool,
    /// What `free_bytes` answers; everything is free without it.
    free: Option<u64>,
    /// What one call will meet, and after how many others.
    planned: Option<(u64, Fault)>,
    /// Files of which a sync failed: the kernel has forgotten what was not on the disk, whatever later syncs say.
    lost: BTreeSet<PathBuf>,
    /// Bytes written to files of parts.
    part_bytes: u64,
    /// Data files of parts that are being written, and the most at a time so far.
    parts_open: u64,
    parts_open_max: u64,
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is gone from now on.
    Gone,
    /// An I/O error, this once. Of a write a part is done.
    Once,
    /// The same, and from then on no part can be removed, until [`FaultDisk::unstick`].
    Stuck,
}

#[derive(Debug)]
enum Entry {
    Created(PathBuf),
    /// With what was synced of the file that it replaced.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<Vec<u8>>,
    },
    /// A removed file with what was synced of it.
    Removed {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    /// A directory that was renamed and then removed: its old name, and one file of it, may come back.
    HalfRemoved {
        path: PathBuf,
        name: PathBuf,
        bytes: Vec<u8>,
    },
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FaultDisk(Arc<Mutex<Book>>, Arc<Stall>);

/// Holds up syncs of files.
#[derive(Debug, Default)]
struct Stall {
    stalled: Mutex<Stalled>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Stalled {
    all: bool,
    /// Files with this word in their names, until somebody asks how much room parts have: a merge that begins. What
    /// was held up then gives the merge some time to go ahead.
    until_merge: Option<&'static str>,
    /// Folders of parts that were begun.
    parts_begun: u64,
    /// Syncs that wait now.
    waiting: u64,
    /// Parts that got their names.
    parts_named: u64,
}

impl Stalled {
    fn holds(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.all || self.until_merge.is_some_and(|word| name.contains(word))
    }
}

impl FaultDisk {
    /// Every call fails once this many syncs were done.
    pub(crate) fn failing_after(syncs: u64) -> Self {
        let disk = Self::default();
        disk.book().fail_after_syncs = Some(syncs);
        disk
    }

    /// So many more calls of any kind succeed, then one meets the fault.
    pub(crate) fn plan(&self, calls: u64, fault: Fault) {
        self.book().planned = Some((calls, fault));
    }

    /// Takes back what [`FaultDisk::plan`] planned; true if it had not happened yet.
    pub(crate) fn unplan(&self) -> bool {
        self.book().planned.take().is_some()
    }

    /// Parts can be removed again.
    pub(crate) fn unstick(&self) {
        self.book().stuck = false;
    }

    /// Writes answer "no space left" or work again.
    pub(crate) fn set_full(&self, full: bool) {
        let mut book = self.book();
        (book.full, book.full_after_writes) = (full, None);
    }

    /// No file can be opened (`EMFILE`), or they can again.
    pub(crate) fn set_out_of_descriptors(&self, out: bool) {
        self.book().descriptors = out.then_some(0);
    }

    /// So many more files and directories can be opened, then none.
    pub(crate) fn set_descriptors(&self, left: u64) {
        self.book().descriptors = Some(left);
    }

    /// Parts find no space although the log does, or both do again.
    pub(crate) fn set_full_for_parts(&self, full: bool) {
        self.book().full_for_parts = full;
    }

    /// Syncs of files wait until this is taken back.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.change_stall(|stall| stall.all = stalled);
    }

    /// Waits until a sync is held up by [`set_stalled`](Self::set_stalled).
    pub(crate) fn await_stall(&self) {
        let stalled = self.1.stalled.lock().unwrap();
        drop(self.1.changed.wait_while(stalled, |stalled| stalled.waiting == 0).unwrap());
    }

    /// Syncs of files with this word in their names wait until a merge begins; and this, until one waits.
    pub(crate) fn stall_until_merge(&self, word: &'static str, meanwhile: impl FnOnce()) {
        self.change_stall(|stall| stall.until_merge = Some(word));
        meanwhile();
        self.await_stall();
    }

    /// Waits until so many parts got their names; false if that takes a minute.
    pub(crate) fn wait_for_parts(&self, count: u64) -> bool {
        let stalled = self.1.stalled.lock().unwrap();
        let is_missing = |stalled: &mut Stalled| stalled.parts_named < count;
        let (stalled, _) = self.1.changed.wait_timeout_while(stalled, Duration::from_mins(1), is_missing).unwrap();
        stalled.parts_named >= count
    }

    fn change_stall(&self, change: impl FnOnce(&mut Stalled)) {
        change(&mut self.1.stalled.lock().unwrap());
        self.1.changed.notify_all();
    }

    /// The disk is full after so many more writes.
    pub(crate) fn full_after(&self, writes: u64) {
        self.book().full_after_writes = Some(writes);
    }

    /// What is said to be free.
    pub(crate) fn set_free(&self, free: u64) {
        self.book().free = Some(free);
    }

    /// Bytes written to files of parts so far.
    pub(crate) fn part_bytes(&self) -> u64 {
        self.book().part_bytes
    }

    /// The most data files of parts that were written at a time.
    pub(crate) fn parts_open_max(&self) -> u64 {
        self.book().parts_open_max
    }

    /// A file that someone else wrote and synced up to here only.
    pub(crate) fn forget_after(&self, path: &Path, length: u64) {
        self.book().synced.insert(path.to_owned(), length);
    }

    /// Whether the fault has happened.
    pub(crate) fn has_failed(&self) -> bool {
        self.book().failed
    }

    /// Leaves on the real disk what a power loss would.
    pub(crate) fn cut_power(&self) {
        let mut book = self.book();
        // Unsynced removals reach the disk in any order: the worst is that the oldest alone did not.
        let mut removed: Vec<_> = book.entries.extract_if(.., |entry| matches!(entry, Entry::Removed { .. })).collect();
        if let Some(Entry::Removed { path, bytes }) = removed.drain(..).next() {
            std::fs::write(path, bytes).unwrap();
        }
        while let Some(entry) = book.entries.pop() {
            match entry {
                Entry::Removed { .. } => {}
                Entry::HalfRemoved { path, name, bytes } => {
                    std::fs::create_dir_all(&path).unwrap();
                    std::fs::write(path.join(name), bytes).unwrap();
                }
                Entry::Created(path) if path.is_dir() => std::fs::remove_dir_all(&path).unwrap(),
                Entry::Created(path) => {
                    if path.exists() {
                        std::fs::remove_file(&path).unwrap();
                    }
                }
                Entry::Renamed { from, to, replaced } => {
                    if to.exists() {
                        std::fs::rename(&to, &from).unwrap();
                        moved(&mut book.synced, &to, &from);
                    }
                    if let Some(bytes) = replaced {
                        book.synced.insert(to.clone(), bytes.len() as u64);
                        std::fs::write(to, bytes).unwrap();
                    }
                }
            }
        }
        for (path, length) in &book.synced {
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) {
                file.set_len(*length).unwrap();
            }
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    fn open_descriptor(&self) -> io::Result<()> {
        match &mut self.book().descriptors {
            Some(0) => Err(rustix::io::Errno::MFILE.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check(&self) -> io::Result<()> {
        let mut book = self.book();
        match &mut book.planned {
            Some((0, fault)) => {
                let fault = *fault;
                book.failed |= fault == Fault::Gone;
                book.stuck |= fault == Fault::Stuck;
                book.planned = None;
                return Err(rustix::io::Errno::IO.into());
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        if book.failed { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    fn count_sync(&self) -> io::Result<()> {
        self.check()?;
        let mut book = self.book();
        if book.failed || book.fail_after_syncs.is_some_and(|max| book.syncs >= max) {
            book.failed = true;
            return Err(io::Error::other("the disk is gone"));
        }
        book.syncs += 1;
        Ok(())
    }

    fn count_write(&self) {
        let mut book = self.book();
        match &mut book.full_after_writes {
            Some(0) => book.full = true,
            Some(left) => *left -= 1,
            None => {}
        }
    }

    fn check_space(&self) -> io::Result<()> {
        if self.book().full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn moved(synced: &mut BTreeMap<PathBuf, u64>, from: &Path, to: &Path) {
    let below: Vec<_> = synced.keys().filter(|path| path.starts_with(from)).cloned().collect();
    for path in below {
        let length = synced.remove(&path).unwrap();
        let rest = path.strip_prefix(from).unwrap();
        let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        synced.insert(target, length);
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.check()?;
        self.check_space()?;
        self.open_descriptor()?;
        if self.book().full_for_parts && path.components().any(|part| part.as_os_str() == "parts") {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = RealDisk.create(path)?;
        let mut book = self.book();
        book.synced.insert(path.to_owned(), 0);
        book.lost.remove(path);
        book.entries.push(Entry::Created(path.to_owned()));
        if is_part_data(path) {
            book.parts_open += 1;
            book.parts_open_max = book.parts_open_max.max(book.parts_open);
        }
        drop(book);
        Ok(Box::new(FaultFile { disk: self.clone(), file, path: path.to_owned(), length: 0 }))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.check()?;
        self.open_descriptor()?;
        RealDisk.truncate(path, length)?;
        self.book().synced.insert(path.to_owned(), length);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        let mut missing: Vec<_> = path.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
        RealDisk.create_dir_all(path)?;
        missing.reverse();
        if is_leftover(path) {
            self.change_stall(|stall| stall.parts_begun += 1);
        }
        self.book().entries.extend(missing.into_iter().map(Entry::Created));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        if self.book().stuck && is_leftover(to) {
            return Err(rustix::io::Errno::IO.into());
        }
        let mut replaced = std::fs::read(to).ok();
        RealDisk.rename(from, to)?;
        let mut book = self.book();
        if let (Some(bytes), Some(length)) = (&mut replaced, book.synced.remove(to)) {
            bytes.truncate(length as usize);
        }
        moved(&mut book.synced, from, to);
        for entry in &mut book.entries {
            let path = match entry {
                Entry::Created(path) | Entry::Removed { path, .. } | Entry::HalfRemoved { path, .. } => path,
                Entry::Renamed { to, .. } => to,
            };
            if path != from && path.starts_with(from) {
                *path = to.join(path.strip_prefix(from).unwrap());
            }
        }
        book.entries.push(Entry::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        drop(book);
        if to.parent().is_some_and(|dir| dir.ends_with("parts")) && !is_leftover(to) {
            self.change_stall(|stall| stall.parts_named += 1);
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        RealDisk.hard_link(from, to)?;
        let mut book = self.book();
        let synced = book.synced.get(from).copied();
        book.synced.extend(synced.map(|length| (to.to_owned(), length)));
        book.entries.push(Entry::Created(to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        let mut bytes = std::fs::read(path)?;
        let mut book = self.book();
        if let Some(length) = book.synced.remove(path) {
            bytes.truncate(length as usize);
        }
        book.entries.push(Entry::Removed { path: path.to_owned(), bytes });
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        let mut book = self.book();
        book.synced.retain(|file, _| !file.starts_with(path));
        let was_renamed = |entry: &Entry| match entry {
            Entry::Renamed { from, to, .. } if to == path => Some(from.clone()),
            _ => None,
        };
        let old_name = book.entries.iter().find_map(was_renamed);
        book.entries.retain(|entry| match entry {
            Entry::Created(entry) | Entry::Removed { path: entry, .. } | Entry::HalfRemoved { path: entry, .. } => {
                !entry.starts_with(path)
            }
            Entry::Renamed { to, .. } => !to.starts_with(path),
        });
        let mut files = std::fs::read_dir(path)?.filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file()));
        if let (Some(old_name), Some(file)) = (old_name, files.next()) {
            let (name, bytes) = (file.file_name().into(), std::fs::read(file.path())?);
            book.entries.push(Entry::HalfRemoved { path: old_name, name, bytes });
        }
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.open_descriptor()?;
        self.count_sync()?;
        self.book().entries.retain(|entry| match entry {
            Entry::Created(entry) | Entry::Removed { path: entry, .. } | Entry::HalfRemoved { path: entry, .. } => {
                entry.parent() != Some(path)
            }
            Entry::Renamed { to, .. } => to.parent() != Some(path),
        });
        Ok(())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        if path.ends_with("parts") {
            self.change_stall(|stall| stall.until_merge = None);
        }
        Ok(self.book().free.unwrap_or(u64::MAX))
    }
}

/// The file of which every part being written has one open.
fn is_part_data(path: &Path) -> bool {
    path.ends_with("data") && path.components().any(|part| part.as_os_str() == "parts")
}

fn is_leftover(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tmp-"))
}

struct FaultFile {
    disk: FaultDisk,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    length: u64,
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        if is_part_data(&self.path) {
            self.disk.book().parts_open -= 1;
        }
    }
}

impl DiskFile for FaultFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.disk.check() {
            let part = &bytes[..bytes.len() / 2];
            self.length += self.file.write_all(part).map(|()| part.len() as u64)?;
            return Err(error);
        }
        self.disk.count_write();
        if self.disk.book().full {
            // What a full disk really does: some of the bytes, then the error.
            let part = &bytes[..bytes.len() / 2];
            self.file.write_all(part)?;
            self.length += part.len() as u64;
            return self.disk.check_space();
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        if self.path.components().any(|component| component.as_os_str() == "parts") {
            self.disk.book().part_bytes += bytes.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let stall = &self.disk.1;
        let mut stalled = stall.stalled.lock().unwrap();
        if stalled.holds(&self.path) {
            stalled.waiting += 1;
            stall.changed.notify_all();
            let until_merge = stalled.until_merge.is_some();
            stalled = stall.changed.wait_while(stalled, |stalled| stalled.holds(&self.path)).unwrap();
            if until_merge {
                let begun = stalled.parts_begun;
                let none_begins = |stalled: &mut Stalled| stalled.parts_begun == begun;
                stalled = stall.changed.wait_timeout_while(stalled, HEAD_START, none_begins).unwrap().0;
            }
            stalled.waiting -= 1;
        }
        drop(stalled);
        if let Err(error) = self.disk.count_sync() {
            self.disk.book().lost.insert(self.path.clone());
            return Err(error);
        }
        self.disk.check_space()?;
        // Nothing is synced in earnest: what a power loss leaves is a matter of the book.
        // The store may have renamed the file's directory, but it syncs before it renames.
        let mut book = self.disk.book();
        if !book.lost.contains(&self.path) {
            book.synced.insert(self.path.clone(), self.length);
        }
        Ok(())
    }
}
