//! A terminal in which a person would run the watch. Comes in: keys and sizes. Goes out: what the person would see. Never
//! here: a sleep that hopes.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::harness::oracle::installed;
use crate::harness::{Netns, finish, skip, wait_for};

/// A tmux server of its own, with one window, inside the namespace.
pub(super) struct Tmux<'a> {
    ns: &'a Netns,
    socket: tempfile::TempDir,
}

impl<'a> Tmux<'a> {
    #[track_caller]
    pub fn start(ns: &'a Netns, columns: u16, rows: u16, command: &str) -> Tmux<'a> {
        let tmux = Tmux { ns, socket: tempfile::tempdir().expect("a directory") };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        tmux.ask(&["new-session", "-d", "-x", &columns, "-y", &rows, "-s", "t", "sh"]);
        tmux.ask(&["set-option", "-g", "window-size", "manual"]);
        tmux.ask(&["set-option", "-g", "set-clipboard", "on"]);
        tmux.keys(&[command, "Enter"]);
        tmux
    }

    fn path(&self) -> PathBuf {
        self.socket.path().join("socket")
    }

    fn try_ask(&self, args: &[&str]) -> Output {
        let mut command: Command = self.ns.command("tmux");
        command.env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color").env_remove("TMUX");
        finish(command.arg("-u").arg("-f/dev/null").arg("-S").arg(self.path()).args(args))
    }

    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.try_ask(args);
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    pub fn keys(&self, keys: &[&str]) {
        self.ask(&[&["send-keys", "-t", "t"], keys].concat());
    }

    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        self.ask(&["resize-window", "-t", "t", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    #[track_caller]
    pub fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p", "-t", "t"])
    }

    /// Waits until the screen has all of these, and returns it.
    #[track_caller]
    pub fn see(&self, all: &[&str]) -> String {
        wait_for(&format!("{all:?} on the screen"), || {
            let screen = self.screen();
            if all.iter().all(|part| screen.contains(part)) { Ok(screen) } else { Err(screen) }
        })
    }

    pub fn pane_pid(&self) -> u32 {
        self.ask(&["list-panes", "-t", "t", "-F", "#{pane_pid}"]).trim().parse().expect("a process id")
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ = self.try_ask(&["kill-server"]);
    }
}

pub(super) fn without_tmux() -> bool {
    let missing = !installed("tmux");
    if missing {
        skip("tmux is not installed");
    }
    missing
}

pub(super) fn product() -> &'static str {
    env!("CARGO_BIN_EXE_tcpstate")
}

/// The child of the shell in the pane that is the product.
pub(super) fn watch_pid(tmux: &Tmux<'_>) -> u32 {
    let shell = tmux.pane_pid();
    wait_for("the watch to run", || {
        let path = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        children.split_whitespace().next().and_then(|c| c.parse().ok()).ok_or("no child".into())
    })
}
