//! The log of requests whose spans wait: files of records, each a request as it came. `docs/log.md` has the bytes.
//!
//! Invariants
//! - G1 [`Log::append`] returns when everything appended is on disk; the file's own name was before.
//! - G2 Only the end of the file written last may be torn; what is damaged elsewhere is told and skipped to the next file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use pharos_model::TenantId;

use crate::SamplingError;

const MAGIC: [u8; 8] = *b"PHSMPLG1";
/// Length and checksum.
const FRAME_BYTES: usize = 8;
/// Largest record: a request of any size that ingest takes, and its tenant.
const RECORD_BYTES_MAX: usize = 1 << 30;
const SUFFIX: &str = "log";

/// A request out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tenant: TenantId,
    /// What its body is written in, as ingest numbers it.
    pub(crate) form: u8,
    pub(crate) body: Vec<u8>,
}

/// Appends a record to `out`.
pub(crate) fn encode(tenant: &TenantId, form: u8, body: &[u8], out: &mut Vec<u8>) {
    let frame = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    // Names of tenants are short: the model says so.
    out.push(tenant.as_str().len() as u8);
    out.extend_from_slice(tenant.as_str().as_bytes());
    out.push(form);
    out.extend_from_slice(body);
    let content = frame + FRAME_BYTES;
    let (length, checksum) = ((out.len() - content) as u32, crc32c::crc32c(&out[content..]));
    out[frame..frame + 4].copy_from_slice(&length.to_le_bytes());
    out[frame + 4..content].copy_from_slice(&checksum.to_le_bytes());
}

/// Why a file cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It ends amid a record.
    Torn,
    /// Its bytes are not what was written.
    Damaged,
}

/// The records of a file's bytes, and the fault that ends them early.
pub(crate) fn decode(bytes: &[u8]) -> (Vec<Record>, Option<Fault>) {
    let mut records = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(&MAGIC) else {
        let is_torn = bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes);
        return (records, Some(if is_torn { Fault::Torn } else { Fault::Damaged }));
    };
    while !rest.is_empty() {
        match decode_one(rest) {
            Ok((record, after)) => {
                records.push(record);
                rest = after;
            }
            Err(fault) => return (records, Some(fault)),
        }
    }
    (records, None)
}

fn decode_one(bytes: &[u8]) -> Result<(Record, &[u8]), Fault> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Fault::Torn)?;
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(Fault::Torn)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(Fault::Damaged);
    }
    let (content, after) = rest.split_at_checked(length).ok_or(Fault::Torn)?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        // A write that power loss cut short leaves zeros or old bytes at the very end.
        return Err(if after.is_empty() { Fault::Torn } else { Fault::Damaged });
    }
    let record = || {
        let (name_length, rest) = content.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
        let (form, body) = rest.split_first()?;
        let tenant = std::str::from_utf8(name).ok()?.parse().ok()?;
        Some(Record { tenant, form: *form, body: body.to_vec() })
    };
    record().map(|record| (record, after)).ok_or(Fault::Damaged)
}

/// The file that is being written, in a folder of files that are done.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
    file: File,
    number: u64,
    bytes: u64,
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.{SUFFIX}"))
}

/// Numbers of the files in a folder, ascending.
pub(crate) fn files(folder: &Path) -> Result<Vec<u64>, SamplingError> {
    let fail = SamplingError::io("list", folder);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(&fail)? {
        let path = entry.map_err(&fail)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == 16);
        if path.extension().is_some_and(|extension| extension == SUFFIX)
            && let Some(number) = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The bytes of a file.
pub(crate) fn read(folder: &Path, number: u64) -> Result<Vec<u8>, SamplingError> {
    let path = path_of(folder, number);
    let fail = SamplingError::io("read", &path);
    let mut bytes = Vec::new();
    File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(fail)?;
    Ok(bytes)
}

/// Removes a file whose spans nobody waits for any more.
pub(crate) fn remove(folder: &Path, number: u64) -> Result<(), SamplingError> {
    let path = path_of(folder, number);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SamplingError::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Gives a damaged file another name, under which nobody looks for it.
pub(crate) fn set_aside(folder: &Path, number: u64) -> Result<(), SamplingError> {
    let path = path_of(folder, number);
    fs::rename(&path, path.with_extension("damaged")).map_err(SamplingError::io("set aside", &path))
}

impl Log {
    /// Begins file `number`.
    pub(crate) fn create(folder: &Path, number: u64) -> Result<Self, SamplingError> {
        let path = path_of(folder, number);
        let create = || -> io::Result<File> {
            let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
            file.write_all(&MAGIC)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(SamplingError::io("create", &path))?;
        Ok(Self { folder: folder.to_owned(), file, number, bytes: MAGIC.len() as u64 })
    }

    /// A file that every write to fails.
    #[cfg(test)]
    pub(crate) fn read_only(folder: &Path, number: u64) -> Self {
        let file = File::open(path_of(folder, number)).unwrap();
        Self { folder: folder.to_owned(), file, number, bytes: MAGIC.len() as u64 }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends encoded records and brings them to disk.
    pub(crate) fn append(&mut self, records: &[u8]) -> Result<(), SamplingError> {
        let mut write = || -> io::Result<()> {
            self.file.write_all(records)?;
            self.file.sync_data()
        };
        write().map_err(SamplingError::io("write", &path_of(&self.folder, self.number)))?;
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Goes on in the next file.
    pub(crate) fn next(&self) -> Result<Self, SamplingError> {
        Self::create(&self.folder, self.number + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(records: &[Record]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for record in records {
            encode(&record.tenant, record.form, &record.body, &mut bytes);
        }
        bytes
    }

    fn record(body: &[u8]) -> Record {
        Record { tenant: TenantId::default(), form: 1, body: body.to_vec() }
    }

    proptest! {
        /// Whatever is cut off, what lies before is read; whatever bit flips, nothing is made up.
        #[test]
        fn records_survive_what_happens_to_others(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let records: Vec<_> = bodies.iter().map(|body| record(body)).collect();
            let bytes = file(&records);
            prop_assert_eq!(decode(&bytes), (records.clone(), None));
            let cut = at.index(bytes.len());
            let (found, fault) = decode(&bytes[..cut]);
            prop_assert!(records.starts_with(&found));
            prop_assert!(found.len() < records.len());
            prop_assert!(fault != Some(Fault::Damaged));
            let mut flipped = bytes.clone();
            flipped[cut] ^= 1 << bit;
            let (found, fault) = decode(&flipped);
            prop_assert!(records.starts_with(&found) && fault.is_some());
        }

        #[test]
        fn hostile_bytes_are_no_records(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&bytes);
            let (records, fault) = decode(&file);
            prop_assert!(records.is_empty() && (fault.is_some() || bytes.is_empty()));
        }
    }
}
