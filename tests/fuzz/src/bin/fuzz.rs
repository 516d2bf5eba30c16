//! One target under libFuzzer: `fuzz TARGET [libFuzzer's options and folders]`; `make fuzz` builds and runs it.
//!
//! The name comes from the environment, as libFuzzer takes the arguments: `PHAROS_FUZZ_TARGET`.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<(pharos_fuzz::Target, PathBuf)> = LazyLock::new(|| {
    let name = std::env::var("PHAROS_FUZZ_TARGET").unwrap_or_default();
    let target = pharos_fuzz::target(&name).expect("PHAROS_FUZZ_TARGET names a target");
    (target, tempfile::Builder::new().prefix("pharos-fuzz-").tempdir().expect("a folder for scratch files").keep())
});

fuzz_target!(|bytes: &[u8]| {
    let (target, dir) = &*TARGET;
    target(dir, bytes);
});
