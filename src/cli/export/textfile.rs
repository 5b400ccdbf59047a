//! A file for the textfile collector of node_exporter, which must never read half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context as _, anyhow};

use crate::collect::error::reason;

/// Replaces the file as a whole: it is written beside it under another name, and renamed.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let Some(name) = file.file_name() else {
        return Err(anyhow!("--textfile: `{}` is no name of a file", file.display()));
    };
    // The collector takes `*.prom` only; two exporters do not meet.
    let mut other = std::ffi::OsString::from(".");
    other.push(name);
    other.push(format!(".{}", std::process::id()));
    let other = file.with_file_name(other);
    let written = write(&other, bytes).and_then(|()| fs::rename(&other, file));
    if written.is_err() {
        let _ = fs::remove_file(&other);
    }
    written
        .map_err(|e| anyhow!("{}", reason(&e)))
        .with_context(|| format!("cannot replace the file {}", file.display()))
}

/// A new file that all may read, as node_exporter is another user.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Neither a file nor a link of that name is followed; what is left of a killed run goes.
    let _ = fs::remove_file(path);
    let mut file = File::create_new(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tcpstate.prom");
        replace(&file, b"one\n").unwrap();
        let before = File::open(&file).unwrap();
        replace(&file, b"two\n").unwrap();
        assert_eq!(io::read_to_string(before).unwrap(), "one\n", "who reads the old one is not disturbed");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["tcpstate.prom"]);
    }

    #[test]
    fn what_cannot_be_written_is_named_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("tcpstate.prom");
        fs::create_dir(&sub).unwrap();
        let error = format!("{:#}", replace(&sub, b"x").unwrap_err());
        assert!(error.starts_with("cannot replace the file ") && !error.contains('\n'), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = format!("{:#}", replace(&dir.path().join("no/such/x.prom"), b"x").unwrap_err());
        assert!(error.contains("no/such/x.prom"), "{error}");
        assert!(replace(Path::new("/"), b"x").is_err());
    }
}
