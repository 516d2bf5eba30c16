//! Randomness from the operating system.

use rand::TryRng;
use rand::rngs::SysRng;

/// `N` bytes fit for secrets and unique ids.
///
/// # Panics
/// If the operating system has no randomness to give: nothing secure can run then.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system provides randomness");
    bytes
}
