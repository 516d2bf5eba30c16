//! A copy of a partition for a snapshot, by hard links, while it is in use.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::Partition;
use super::open::{INDEX_DIRECTORY, SPANS_DIRECTORY};
use crate::TraceStoreError;
use crate::disk::sync_directory;

/// What tantivy writes last in a commit or merge, and replaces whole: the segments that count.
const INDEX_META: &str = "meta.json";
/// The files that tantivy may remove when no segment needs them.
const INDEX_MANAGED: &str = ".managed.json";
/// How often a copy is begun anew because a merge ended under it.
const INDEX_ATTEMPTS_MAX: usize = 8;

impl Partition {
    /// Copies spans and index into the new directory `target`. The caller sees to it that nothing is committed to the
    /// index and that the partition is not dropped meanwhile.
    pub(crate) fn copy_to(&self, target: &Path) -> Result<(), TraceStoreError> {
        fs::create_dir_all(target).map_err(TraceStoreError::io("create", target))?;
        // The index first: it must never know spans that are not there.
        let (index, copied) = (self.directory.join(INDEX_DIRECTORY), target.join(INDEX_DIRECTORY));
        if !copy_index(&index, &copied).map_err(TraceStoreError::io("copy the index of", &index))? {
            tracing::warn!(day = %self.day, "a busy search index is not in the snapshot; it will be rebuilt when that is opened");
        }
        self.database.checkpoint(&target.join(SPANS_DIRECTORY))?;
        sync_directory(target).map_err(TraceStoreError::io("sync", target))
    }
}

/// Links the files of an index's segments; false if they changed each time.
///
/// Merges run in the background and then remove what they merged. If the list of segments is the same after all files were linked
/// as it was before, the files of every listed segment are there. So may be some of a merge under way, which no list
/// names: they are in [`INDEX_MANAGED`] like the others, and tantivy removes them at its next clean-up.
fn copy_index(index: &Path, target: &Path) -> io::Result<bool> {
    for _ in 0..INDEX_ATTEMPTS_MAX {
        let meta = fs::read(index.join(INDEX_META))?;
        fs::create_dir(target)?;
        let linked = link_segments(index, target)?;
        if linked.is_some() && fs::read(index.join(INDEX_META))? == meta {
            write_synced(&target.join(INDEX_META), &meta)?;
            write_synced(&target.join(INDEX_MANAGED), managed(&linked.unwrap_or_default()).as_bytes())?;
            sync_directory(target)?;
            return Ok(true);
        }
        fs::remove_dir_all(target)?;
    }
    Ok(false)
}

/// Links every file of a segment and returns their names; none if one went away meanwhile.
fn link_segments(index: &Path, target: &Path) -> io::Result<Option<Vec<String>>> {
    let mut linked = Vec::new();
    for entry in fs::read_dir(index)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().filter(|name| is_of_segment(name)).map(str::to_owned) else {
            continue;
        };
        match fs::hard_link(entry.path(), target.join(&name)) {
            Ok(()) => linked.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(linked))
}

/// Segments' files are called by the segment's id, 32 hexadecimal digits, and what is in them.
fn is_of_segment(name: &str) -> bool {
    let id = name.split('.').next().unwrap_or_default();
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// As tantivy writes it: a JSON list of names. These are letters, digits and dots.
fn managed(names: &[String]) -> String {
    let names: Vec<_> =
        names.iter().map(String::as_str).chain([INDEX_META]).map(|name| format!("\"{name}\"")).collect();
    format!("[{}]\n", names.join(","))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
