//! The log read again at a start.

use std::path::Path;

use pharos_model::SpanBatch;
use pharos_storage::BatchId;

use crate::SamplingError;
use crate::log::{self, Fault, Record};
use crate::sampler::{Components, Decode};

/// Reads a file of the log; one that is damaged is set aside after what is sound in it was read. A torn end is damage
/// where another file was begun after it.
pub(crate) fn read_file(
    folder: &Path,
    file: u64,
    is_last: bool,
    decode: &Decode,
    mut each: impl FnMut(&Record, SpanBatch) -> Result<(), SamplingError>,
) -> Result<(), SamplingError> {
    let (records, fault) = log::decode(&log::read(folder, file)?);
    let mut is_sound = fault.is_none() || (is_last && fault == Some(Fault::Torn));
    for record in records {
        match decode(record.form, &record.body) {
            Ok(batch) => each(&record, batch)?,
            Err(error) => {
                is_sound = false;
                tracing::error!(file, error, "a request in the sampling log cannot be read any more");
            }
        }
    }
    if !is_sound {
        log::set_aside(folder, file)?;
        tracing::error!(
            file,
            "a file of the sampling log is damaged: what is sound in it was read, and it is set aside"
        );
    }
    Ok(())
}

/// Sampling is off: everything that waited is kept.
pub(crate) fn store_all(
    folder: &Path,
    file: u64,
    is_last: bool,
    components: &Components,
    decode: &Decode,
) -> Result<(), SamplingError> {
    read_file(folder, file, is_last, decode, |record, batch| {
        let stored = components.store.append(&record.tenant, batch, BatchId::random()).wait();
        stored.ok_or(SamplingError::Closed)??;
        Ok(())
    })?;
    log::remove(folder, file)
}
