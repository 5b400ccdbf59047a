//! What `--from` names: a capture, or text that another tool printed. The content decides, not the name.
//!
//! Input: paths, or `-` for standard input. Output: for each host a recording, or one snapshot. What such text does not tell is a
//! gap.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use jiff::Timestamp;

use crate::capture::foreign::{self, Tool};
use crate::cli::args::Replay;
use crate::cli::bundle::{self, Bundle};
use crate::cli::history::{self, History};
use crate::collect::error::reason;
use crate::collect::proc::net_tcp;
use crate::model::gap::{Attribute, Missing, WayOut, Why};
use crate::model::pattern;
use crate::model::snapshot::Netns;
use crate::model::{Family, Gap, Snapshot, Source};

/// Text of two million sockets.
const MOST_BYTES: u64 = 1 << 30;
/// Whose text it is that nobody named.
const UNKNOWN: &str = "?";
/// How the tables of the kernel begin.
const PROC_HEADING: &str = "sl  local_address";

/// What was saved of one host.
pub(crate) enum Saved {
    Capture(History),
    /// With a note on which file it is.
    Text(Box<Snapshot>, Option<String>),
}

/// What was saved.
#[derive(Default)]
pub(crate) struct Opened {
    /// At least one host, by name.
    pub hosts: Vec<Saved>,
    /// What was left out, in sentences.
    pub notes: Vec<String>,
}

/// Opens what `--from` names.
pub(crate) fn open(replay: &Replay) -> anyhow::Result<Opened> {
    let (mut captures, mut texts) = (Vec::new(), Vec::new());
    for path in &replay.from {
        match look(path)? {
            Content::Captures(files) => captures.extend(files),
            Content::Text(text) => texts.push((path, text)),
        }
    }
    if let (Some((path, _)), Some(_)) = (texts.first(), replay.at) {
        bail!("{} is no capture, and has one moment only; leave out --at", path.display());
    }
    let mut opened = Opened::default();
    if !captures.is_empty() {
        captures.sort();
        captures.dedup();
        let found = History::open(&captures, replay.host.as_deref(), replay.at)?;
        opened.notes = found.notes;
        opened.hosts.extend(found.hosts.into_iter().map(Saved::Capture));
    }
    let is_one = texts.len() == 1 && opened.hosts.is_empty();
    for (path, text) in texts {
        let Text { mut snapshot, note } = text;
        // Where there are several, the name of the file tells them apart.
        if !is_one && snapshot.host == UNKNOWN {
            snapshot.host = path.file_stem().map_or_else(|| UNKNOWN.into(), |name| name.to_string_lossy().into_owned());
        }
        if replay.host.as_ref().is_none_or(|only| pattern::is(only, &snapshot.host)) {
            opened.hosts.push(Saved::Text(snapshot, note));
        }
    }
    match (&opened.hosts[..], &replay.host) {
        ([], Some(only)) => bail!("--host {only}: nothing that --from names is of such a host"),
        ([], None) => bail!("--from names no file"),
        _ => Ok(opened),
    }
}

/// What a path leads to.
enum Content {
    Captures(Vec<PathBuf>),
    Text(Text),
}

/// Text of another tool.
struct Text {
    snapshot: Box<Snapshot>,
    note: Option<String>,
}

fn look(path: &Path) -> anyhow::Result<Content> {
    if path.is_dir() {
        let captures =
            history::captures(path).map_err(|e| anyhow!("cannot read {}: {}", path.display(), reason(&e)))?;
        if !captures.is_empty() {
            return Ok(Content::Captures(captures));
        }
        if let Some(found) = bundle::find(path) {
            return of_bundle(found).map(Content::Text);
        }
        if path.join("proc/net/tcp").is_file() {
            let root = path.join("proc");
            bail!("{} has a copy of /proc: use --proc-root {}", path.display(), root.display());
        }
        bail!("{}: there is no capture ({}) in this folder", path.display(), history::SUFFIX);
    }
    let fail = |e: &std::io::Error| anyhow!("cannot open {}: {}", path.display(), reason(e));
    let is_stdin = path.as_os_str() == "-";
    let mut file: Box<dyn Read> =
        if is_stdin { Box::new(std::io::stdin()) } else { Box::new(File::open(path).map_err(|e| fail(&e))?) };
    let mut bytes = Vec::new();
    file.by_ref().take(64).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    // A skippable frame: text does not begin so.
    if bytes.starts_with(&[0x50, 0x2a, 0x4d, 0x18]) {
        if is_stdin {
            bail!("a capture is read from a file, not from standard input");
        }
        return Ok(Content::Captures(vec![path.to_owned()]));
    }
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut snapshot = if text.trim_start().starts_with(PROC_HEADING) {
        of_proc(&text, path)?
    } else if let Some(tool) = Tool::of(&text) {
        foreign::snapshot(&text, tool)
    } else {
        bail!(
            "{} is neither a capture of tcpstate nor the output of ss, netstat, lsof or /proc/net/tcp with its heading",
            path.display()
        );
    };
    // Nobody wrote down whose it is.
    (snapshot.host, snapshot.kernel) = (UNKNOWN.into(), UNKNOWN.into());
    let saved = std::fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|at| Timestamp::try_from(at).ok());
    snapshot.taken_at_ms = u64::try_from(saved.unwrap_or_else(Timestamp::now).as_millisecond()).unwrap_or(0);
    Ok(Content::Text(Text { snapshot: Box::new(snapshot), note: None }))
}

/// The file of a support bundle that tells most. Other files of it say whose it is.
fn of_bundle(found: Bundle) -> anyhow::Result<Text> {
    let Content::Text(Text { mut snapshot, .. }) = look(&found.text)? else {
        bail!("{} is no output of ss, netstat or lsof", found.text.display());
    };
    snapshot.host = found.host.unwrap_or(snapshot.host);
    snapshot.kernel = found.kernel.unwrap_or(snapshot.kernel);
    Ok(Text { snapshot, note: Some(format!("read {}", found.text.display())) })
}

/// `/proc/net/tcp`, `tcp6`, or both one after the other.
fn of_proc(text: &str, path: &Path) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot { source: Source::Text, netns: vec![Netns::default()], ..Snapshot::default() };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tables = lines.split(|line| line.trim_start().starts_with(PROC_HEADING));
    let mut unread = (0, 0);
    for table in tables.filter(|table| !table.is_empty()) {
        let local = table[0].split_whitespace().nth(1).and_then(|word| word.split(':').next()).unwrap_or_default();
        let family = if local.len() > 8 { Family::V6 } else { Family::V4 };
        let whole = format!("{PROC_HEADING}\n{}\n", table.join("\n"));
        let sockets = &mut snapshot.sockets;
        let read = net_tcp::parse(whole.as_bytes(), family, None, &mut |socket| {
            sockets.push(socket.clone());
            ControlFlow::Continue(())
        });
        let read = read.map_err(|e| anyhow!("cannot read {}: {}", path.display(), reason(&e)))?;
        unread = (unread.0 + read.unreadable_lines, unread.1 + read.rows + read.unreadable_lines);
    }
    let gap = |missing, why| Gap::new(missing, why, WayOut::Record);
    let lacks = vec![Attribute::TcpInfo, Attribute::Congestion, Attribute::Tos, Attribute::SkMemInfo];
    snapshot.gaps.push(gap(Missing::Attributes(lacks), Why::SavedText));
    snapshot.gaps.push(gap(Missing::BoundInactive, Why::SavedText));
    snapshot.gaps.push(gap(Missing::SockDiagFields, Why::SavedText));
    if unread.0 > 0 {
        let why = Why::Malformed { path: path.display().to_string() };
        snapshot.gaps.push(Gap::new(Missing::Lines { missing: unread.0, of: unread.1 }, why, WayOut::None));
    }
    Ok(snapshot)
}
