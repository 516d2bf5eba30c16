//! Upstream's cases lie beside the repository, not in it: they are found through `PHAROS_CONFORMANCE` or at the usual place.

use std::env;
use std::path::PathBuf;

/// The folder or file `name` of the conformance cases. Absent cases are an error only where
/// `PHAROS_REQUIRE_CONFORMANCE=1` asks for them.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let root = env::var_os("PHAROS_CONFORMANCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    let required = env::var_os("PHAROS_REQUIRE_CONFORMANCE").is_some_and(|value| value == "1");
    assert!(!required, "conformance cases are required but {} does not exist", path.display());
    println!("skipped: {} does not exist", path.display());
    None
}
