//! Snapshots: the store as it is now, by hard links, in `snapshots/<name>` of its directory.
//!
//! Parts never change and metadata is replaced whole, so a link to each file is a copy that costs no space until
//! compaction or retention takes the original. A snapshot has the layout of a store without a log and opens as one.
//! Parts that could not be opened are in it, too, as they are: whoever repairs them finds everything.
//!
//! It is built under a temporary name, synced directory by directory and then renamed: after a crash a
//! snapshot is whole or not there.

use std::fs;
use std::path::{Path, PathBuf};

use pharos_model::TenantId;
use pharos_storage::{StorageError, UNFINISHED_PREFIX, check_snapshot_name};

use crate::TsdbError;
use crate::part;
use crate::shared::{METADATA_FILE, PARTS_DIR, Shared, TOMBSTONES_FILE, log_dir, tenants_dir};

const SNAPSHOTS_DIR: &str = "snapshots";

impl Shared {
    /// Makes the snapshot `name`; with `head`, everything acknowledged before the call is in it, else only what
    /// is in parts already.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a name that is none or is taken; else what the disk says.
    pub(crate) fn create_snapshot(&self, name: &str, head: bool) -> Result<(), StorageError> {
        check_snapshot_name(name)?;
        // No part may go while it is linked.
        let _parts_stay = self.parts_stay.lock();
        let target = self.snapshots_dir().join(name);
        if target.exists() {
            return Err(StorageError::Invalid { message: format!("there is a snapshot {name:?} already") });
        }
        if head {
            self.flush()?;
        }
        Ok(self.link_snapshot(name, &target)?)
    }

    /// Names of all snapshots, ascending.
    pub(crate) fn snapshots(&self) -> Result<Vec<String>, TsdbError> {
        let mut names = self.entries()?;
        names.retain(|name| check_snapshot_name(name).is_ok());
        names.sort();
        Ok(names)
    }

    /// Deletes a snapshot; false if there is none of that name.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a name that is none; else what the disk says.
    pub(crate) fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        check_snapshot_name(name)?;
        let _not_while_one_is_made = self.parts_stay.lock();
        let path = self.snapshots_dir().join(name);
        if !path.is_dir() {
            return Ok(false);
        }
        part::remove(self.disk.as_ref(), &path)?;
        Ok(true)
    }

    fn snapshots_dir(&self) -> PathBuf {
        self.dir.join(SNAPSHOTS_DIR)
    }

    fn entries(&self) -> Result<Vec<String>, TsdbError> {
        let dir = self.snapshots_dir();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(TsdbError::io("list", &dir))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(TsdbError::io("list", &dir))?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn link_snapshot(&self, name: &str, target: &Path) -> Result<(), TsdbError> {
        let root = self.snapshots_dir();
        for left_over in self.entries()?.iter().filter(|name| name.starts_with(UNFINISHED_PREFIX)) {
            let path = root.join(left_over);
            self.disk.remove_dir_all(&path).map_err(TsdbError::io("remove", &path))?;
        }
        let building = root.join(format!("{UNFINISHED_PREFIX}{name}"));
        for dir in [log_dir(&building), tenants_dir(&building)] {
            self.create_dir(&dir)?;
        }
        self.sync_dir(&self.dir)?;
        let linked = self.link_tenants(&building);
        if linked.is_err() {
            // The next snapshot would remove it, too; the disk may be full now.
            let _ = self.disk.remove_dir_all(&building);
        }
        linked?;
        self.disk.rename(&building, target).map_err(TsdbError::io("rename", &building))?;
        self.sync_dir(&root)
    }

    fn link_tenants(&self, building: &Path) -> Result<(), TsdbError> {
        let tenants = tenants_dir(building);
        for tenant in self.tenants.all() {
            let mut parts: Vec<PathBuf> = tenant.state.read().parts.iter().map(|part| part.dir.clone()).collect();
            // Nothing of the store touches them; somebody else may have taken them away.
            parts.extend(tenant.unopened.lock().iter().filter(|dir| dir.is_dir()).cloned());
            self.link_tenant(&tenant.id, &parts, &tenants.join(tenant.id.as_str()))?;
        }
        self.sync_dir(&tenants)?;
        self.sync_dir(building)
    }

    fn link_tenant(&self, id: &TenantId, parts: &[PathBuf], target: &Path) -> Result<(), TsdbError> {
        let parts_dir = target.join(PARTS_DIR);
        self.create_dir(&parts_dir)?;
        for name in [METADATA_FILE, TOMBSTONES_FILE] {
            let file = self.tenant_dir(id).join(name);
            if file.try_exists().map_err(TsdbError::io("stat", &file))? {
                self.link(&file, &target.join(name))?;
            }
        }
        for part in parts {
            let linked = parts_dir.join(part.file_name().unwrap_or_default());
            self.create_dir(&linked)?;
            for entry in fs::read_dir(part).map_err(TsdbError::io("list", part))? {
                let entry = entry.map_err(TsdbError::io("list", part))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    tracing::warn!(path = %entry.path().display(), "no file of a part, left out of the snapshot");
                    continue;
                }
                self.link(&entry.path(), &linked.join(entry.file_name()))?;
            }
            self.sync_dir(&linked)?;
        }
        self.sync_dir(&parts_dir)?;
        self.sync_dir(target)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), TsdbError> {
        self.disk.create_dir_all(dir).map_err(TsdbError::io("create", dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), TsdbError> {
        self.disk.sync_dir(dir).map_err(TsdbError::io("sync", dir))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), TsdbError> {
        self.disk.hard_link(from, to).map_err(TsdbError::io("link", from))
    }
}
