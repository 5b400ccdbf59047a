//! The binary: real streams in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    tcpstate::cli::run(std::env::args_os(), &mut tcpstate::cli::Env::real()).into()
}
