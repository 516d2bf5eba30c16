//! The second list of a day's tenants, beside RocksDB: blocks name their tenant by its number alone, and without the names nobody
//! could say whose their spans are.
//!
//! `TENANTS`: a line `pharos tenants 1`, for each tenant a line with its number and its name, and a line with the CRC-32 of all
//! before as eight hexadecimal digits. It is made anew, whole, whenever a checkpoint finds that there are more.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use pharos_model::TenantId;

use crate::TraceStoreError;
use crate::disk::replace_file;

const FILE: &str = "TENANTS";
const HEAD: &str = "pharos tenants 1\n";

/// Writes the list of the day in `directory`, durably.
pub(super) fn write(directory: &Path, tenants: &[(u32, TenantId)]) -> io::Result<()> {
    let mut text = HEAD.to_owned();
    // To write to a text does not fail.
    for (number, tenant) in tenants {
        let _ = writeln!(text, "{number} {tenant}");
    }
    let checksum = crc32fast::hash(text.as_bytes());
    let _ = writeln!(text, "{checksum:08x}");
    replace_file(&directory.join(FILE), text.as_bytes())
}

/// Reads the list of the day in `directory`: none if it was never written.
pub(super) fn read(directory: &Path) -> Result<Vec<(u32, TenantId)>, TraceStoreError> {
    let path = directory.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TraceStoreError::io("read", &path)(error)),
    };
    parse(&text).ok_or_else(|| TraceStoreError::Corrupt {
        what: "list of tenants",
        partition: directory.display().to_string(),
        detail: format!("{FILE} does not agree with its checksum"),
    })
}

fn parse(text: &str) -> Option<Vec<(u32, TenantId)>> {
    let (listed, checksum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    let listed = &text[..=listed.len()];
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(listed.as_bytes()) {
        return None;
    }
    let entry = |line: &str| {
        let (number, name) = line.split_once(' ')?;
        Some((number.parse().ok()?, name.parse().ok()?))
    };
    listed.strip_prefix(HEAD)?.lines().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_were_written_and_every_changed_bit_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap().is_empty());
        let tenants: Vec<(u32, TenantId)> = vec![(0, TenantId::default()), (7, "a.b:c(d)".parse().unwrap())];
        write(directory.path(), &tenants).unwrap();
        assert_eq!(read(directory.path()).unwrap(), tenants);
        let path = directory.path().join(FILE);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            // The case of a digit of the checksum means nothing.
            assert!(read(directory.path()).is_err() || changed.eq_ignore_ascii_case(&bytes), "bit {at}");
        }
        write(directory.path(), &[]).unwrap();
        assert!(read(directory.path()).unwrap().is_empty());
    }
}
