//! Small Python programs with a fault, or without it. Comes in: the text of a program and its arguments. Goes out: the
//! running program, which tells how far it has come and waits to be told to go on. Never here: what a program does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::helper::process_state;
use super::{Netns, oracle, skip};

/// A Python program that tells when it has come so far, and ends with its input.
pub struct Script {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Starts a program; `None` (and a skip) where there is no Python.
    pub fn start(ns: &Netns, code: &str, args: &[&str]) -> Option<Script> {
        if !oracle::installed("python3") {
            skip("python3 is not installed");
            return None;
        }
        let mut command = ns.command("python3");
        command.arg("-c").arg(code).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: one raw system call between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().expect("start python3");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Some(Script { child, output })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read from the script");
        assert!(!line.is_empty(), "the script ended");
        line.trim_end().to_owned()
    }

    /// Writes a line to it.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("its input");
        input.write_all(format!("{line}\n").as_bytes()).expect("write to the script");
    }

    /// Lets it go on to its next step.
    #[track_caller]
    pub fn go_on(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"\n").expect("write to the script");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal our own child");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Its own children end first, as it kills them when its input ends; a stopped one takes only the kill.
        drop(self.child.stdin.take());
        if process_state(self.pid()) != 'T' {
            let _ = self.output.read_to_end(&mut Vec::new());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
