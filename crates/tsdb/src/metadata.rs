//! A tenant's metadata on disk: one small file, replaced whole when something changed.
//!
//! Layout: a [`SmallFile`] whose payload is the list of [`crate::log::record::push_metadata`].

use std::path::Path;
use std::sync::atomic::Ordering;

use pharos_chunk::bytes::Reader;
use pharos_model::MetricMetadata;

use crate::TsdbError;
use crate::log::record;
use crate::shared::{METADATA_FILE, Shared};
use crate::small_file::SmallFile;
use crate::tenant::Tenant;

const FILE: SmallFile = SmallFile { magic: *b"PHAROSMD", version: 1, name: METADATA_FILE, what: "metadata file" };

/// Brings changed metadata to disk.
pub(crate) fn write_if_changed(shared: &Shared, tenant: &Tenant) -> Result<(), TsdbError> {
    if !tenant.metadata_changed.swap(false, Ordering::AcqRel) {
        return Ok(());
    }
    let all: Vec<MetricMetadata> = tenant.metadata.read().values().cloned().collect();
    let mut payload = Vec::new();
    record::push_metadata(&mut payload, &all);
    let written = FILE.write(shared, tenant, &payload);
    if written.is_err() {
        tenant.metadata_changed.store(true, Ordering::Release);
    }
    written
}

/// Reads the file of the tenant's directory; no file is no metadata.
pub(crate) fn read(dir: &Path) -> Result<Vec<MetricMetadata>, TsdbError> {
    let Some(payload) = FILE.read(dir)? else { return Ok(Vec::new()) };
    record::take_metadata(&mut Reader::new(&payload)).map_err(TsdbError::chunk("metadata", &dir.join(FILE.name), 0))
}
