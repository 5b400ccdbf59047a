//! The binary: real streams in, exit code out.

use std::process::ExitCode;

#[allow(clippy::disallowed_methods, reason = "the one place where the arguments come in")]
fn main() -> ExitCode {
    tcpstate::cli::run(std::env::args_os(), &mut tcpstate::cli::Env::real()).into()
}
