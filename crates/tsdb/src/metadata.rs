//! A tenant's metadata on disk: one small file, replaced whole when something changed.
//!
//! Layout: magic `PHAROSMD`, version `u32`, four zero bytes, one block ([`crate::part::block`]) whose
//! payload is the list of [`crate::log::record::push_metadata`].

use std::path::Path;
use std::sync::atomic::Ordering;

use pharos_chunk::bytes::Reader;
use pharos_model::MetricMetadata;

use crate::TsdbError;
use crate::log::record;
use crate::part::block::{self, BlockAt, BlockFile, Packing};
use crate::part::writer::write_synced;
use crate::shared::{METADATA_FILE, Shared};
use crate::tenant::Tenant;

const MAGIC: [u8; 8] = *b"PHAROSMD";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 16;

/// Brings changed metadata to disk.
pub(crate) fn write_if_changed(shared: &Shared, tenant: &Tenant) -> Result<(), TsdbError> {
    if !tenant.metadata_changed.swap(false, Ordering::AcqRel) {
        return Ok(());
    }
    let written = write(shared, tenant);
    if written.is_err() {
        tenant.metadata_changed.store(true, Ordering::Release);
    }
    written
}

fn write(shared: &Shared, tenant: &Tenant) -> Result<(), TsdbError> {
    shared.create_tenant_dirs(tenant)?;
    let all: Vec<MetricMetadata> = tenant.metadata.read().values().cloned().collect();
    let mut payload = Vec::new();
    record::push_metadata(&mut payload, &all);
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&[0; 4]);
    block::write(&payload, Packing::Zstd(3), &mut file);
    let dir = shared.tenant_dir(&tenant.id);
    let (temporary, target) = (dir.join("metadata.tmp"), dir.join(METADATA_FILE));
    write_synced(shared.disk.as_ref(), &temporary, &file)?;
    shared.disk.rename(&temporary, &target).map_err(TsdbError::io("rename", &temporary))?;
    shared.disk.sync_dir(&dir).map_err(TsdbError::io("sync", &dir))
}

/// Reads the file; no file is no metadata.
pub(crate) fn read(path: &Path) -> Result<Vec<MetricMetadata>, TsdbError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = BlockFile::open(path)?;
    let corrupt = |reason: &str| TsdbError::Corrupt {
        what: "metadata file",
        path: path.to_owned(),
        offset: 0,
        reason: reason.to_owned(),
    };
    if file.len < HEADER_LEN as u64 {
        return Err(corrupt("file is too short"));
    }
    let header = file.read_raw(0, HEADER_LEN)?;
    if header[..8] != MAGIC {
        return Err(corrupt("not a metadata file"));
    }
    let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if found != VERSION {
        return Err(TsdbError::Version { path: path.to_owned(), found, supported: VERSION });
    }
    let len = u32::try_from(file.len - HEADER_LEN as u64).map_err(|_| corrupt("file is too long"))?;
    let payload = file.read("metadata", BlockAt { offset: HEADER_LEN as u64, len })?;
    record::take_metadata(&mut Reader::new(&payload)).map_err(TsdbError::chunk("metadata", path, HEADER_LEN as u64))
}
