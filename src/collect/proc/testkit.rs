//! Files of a `/proc` and of control groups that a test makes.

use std::path::Path;

/// Writes a file and the folders that it is in.
pub(crate) fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
