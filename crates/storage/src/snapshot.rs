//! Names of snapshots: the same rule for every store, because one operation makes a snapshot of all of them under one name.

use crate::StorageError;

/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 64;
/// Stores build snapshots under names that begin so.
pub const UNFINISHED_PREFIX: &str = "tmp-";

/// Checks that a snapshot may be called so: names stay inside their folder and are no temporary ones.
///
/// # Errors
/// [`StorageError::Invalid`].
pub fn check_snapshot_name(name: &str) -> Result<(), StorageError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_sound = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
    if is_sound && !name.starts_with(UNFINISHED_PREFIX) {
        return Ok(());
    }
    let message = format!("{name:?} is no name of a snapshot: 1 to {NAME_BYTES_MAX} letters, digits, '-' and '_'");
    Err(StorageError::Invalid { message })
}
