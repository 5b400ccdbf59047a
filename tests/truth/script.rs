//! The shell that makes the state of a case. Input: a script of `tests/truth/cases`, a name for its namespaces, a folder
//! that it may write to. Output: the command to start. It says READY when the state is there, and removes what it made at
//! the end of its input.

use std::path::Path;
use std::process::{Command, Stdio};

/// Bash with the functions of `lib.sh`, then the script.
pub fn command(script: &Path, name: &str, folder: &Path) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", ". \"$1\"; . \"$2\"", "truth", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/truth/lib.sh")])
        .arg(script)
        .env("T", env!("CARGO_BIN_EXE_tcpstate"))
        .env("W", folder)
        .env("N", name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}
