//! Small files of a tenant that are replaced whole: metadata, tombstones.
//!
//! Layout: eight bytes of magic, version `u32`, four zero bytes, one block ([`crate::part::block`]).

use std::io::ErrorKind;
use std::path::Path;

use crate::TsdbError;
use crate::part::block::{self, BlockAt, BlockFile, Packing};
use crate::part::writer::write_synced;
use crate::shared::Shared;
use crate::tenant::Tenant;

const HEADER_LEN: usize = 16;

/// One kind of small file.
pub(crate) struct SmallFile {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) name: &'static str,
    /// What it is called in errors.
    pub(crate) what: &'static str,
}

impl SmallFile {
    /// Replaces the tenant's file, durably.
    ///
    /// # Errors
    /// [`TsdbError::Io`]; the file may then be the old or the new one, never a mixture.
    pub(crate) fn write(&self, shared: &Shared, tenant: &Tenant, payload: &[u8]) -> Result<(), TsdbError> {
        shared.create_tenant_dirs(tenant)?;
        let mut file = self.magic.to_vec();
        file.extend_from_slice(&self.version.to_le_bytes());
        file.extend_from_slice(&[0; 4]);
        block::write(payload, Packing::Zstd(3), &mut file);
        let dir = shared.tenant_dir(&tenant.id);
        let (temporary, target) = (dir.join(format!("{}.tmp", self.name)), dir.join(self.name));
        write_synced(shared.disk.as_ref(), &temporary, &file)?;
        shared.disk.rename(&temporary, &target).map_err(TsdbError::io("rename", &temporary))?;
        shared.disk.sync_dir(&dir).map_err(TsdbError::io("sync", &dir))
    }

    /// The payload of the file in `dir`; `None` if there is no file.
    ///
    /// # Errors
    /// [`TsdbError`] if it cannot be read; with file and offset if it is damaged or of a newer version.
    pub(crate) fn read(&self, dir: &Path) -> Result<Option<Vec<u8>>, TsdbError> {
        let path = dir.join(self.name);
        let file = match BlockFile::open(&path) {
            Err(TsdbError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.len < HEADER_LEN as u64 {
            return Err(self.corrupt(&path, "file is too short"));
        }
        let header = file.read_raw(0, HEADER_LEN)?;
        if header[..8] != self.magic {
            return Err(self.corrupt(&path, "not a file of this kind"));
        }
        let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if found != self.version {
            return Err(TsdbError::Version { path, found, supported: self.version });
        }
        let len = u32::try_from(file.len - HEADER_LEN as u64).map_err(|_| self.corrupt(&path, "file is too long"))?;
        file.read(self.what, BlockAt { offset: HEADER_LEN as u64, len }).map(Some)
    }

    /// A payload that makes no sense.
    pub(crate) fn corrupt(&self, path: &Path, reason: &str) -> TsdbError {
        TsdbError::Corrupt { what: self.what, path: path.to_owned(), offset: 0, reason: reason.to_owned() }
    }
}
