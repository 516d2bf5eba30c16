//! Golden files: expected answers beside the tests, rewritten by `UPDATE_GOLDEN=1`.

use std::path::Path;

/// Compares `actual` with the file at `path`.
///
/// # Panics
/// If they differ, or there is no file (unless `UPDATE_GOLDEN` is set, which writes it).
pub fn assert_golden(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder of golden files can be made");
        }
        std::fs::write(path, actual).expect("a golden file can be written");
        return;
    }
    let expected = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("no golden file {}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    assert!(expected == actual, "{} differs:\n--- expected\n{expected}\n--- found\n{actual}", path.display());
}
