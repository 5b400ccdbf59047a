//! The files of a recording: one after the other, the oldest removed, none left half written.
//!
//! Input: snapshots. Output: captures, and sentences about what went wrong. A full disk loses snapshots, not the recording.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;

use crate::capture::Writer;
use crate::cli::history::SUFFIX;
use crate::cli::parse;
use crate::collect::clock::{millis, wall_ms};
use crate::collect::error::reason;
use crate::filter;
use crate::model::Snapshot;
use crate::model::names::NameTable;
use crate::text;

/// A time or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Time(Duration),
    Bytes(u64),
}

impl Limit {
    pub(crate) fn parse(text: &str) -> Result<Limit, String> {
        let text = text.trim();
        let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
        if let (true, Ok(time)) = (has_unit, parse::duration(text)) {
            return Ok(Limit::Time(time));
        }
        match filter::size(text) {
            Ok(bytes) if has_unit && bytes >= 1 << 16 => Ok(Limit::Bytes(bytes)),
            _ => Err(format!("`{text}` is neither a time such as 1h nor a size such as 100M (64k at least)")),
        }
    }
}

struct Current {
    path: PathBuf,
    file: File,
    writer: Writer,
    began_ms: u64,
}

/// A recording: the file that is written, and those before.
pub(crate) struct Recording {
    folder: PathBuf,
    /// What the names of its files begin with.
    stem: String,
    /// The one file of a recording that does not rotate.
    single: Option<PathBuf>,
    rotate: Option<Limit>,
    keep: Option<Limit>,
    current: Option<Current>,
    files: u64,
    snapshots: u64,
    bytes: u64,
    /// Snapshots that found no room since the latest one that did, and in all.
    lost_now: u64,
    lost: u64,
}

impl Recording {
    /// Makes the first file, so that a wrong path is told before anything is read.
    pub(crate) fn begin(
        path: &Path,
        rotate: Option<Limit>,
        keep: Option<Limit>,
        host: &str,
    ) -> anyhow::Result<Recording> {
        let is_folder = path.is_dir();
        let folder = if is_folder { path } else { path.parent().unwrap_or(Path::new("")) };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = if is_folder { host.to_owned() } else { name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned() };
        let single = (rotate.is_none() && !is_folder).then(|| path.to_owned());
        let mut recording = Recording {
            folder: folder.to_owned(),
            stem,
            single,
            rotate,
            keep,
            current: None,
            files: 0,
            snapshots: 0,
            bytes: 0,
            lost_now: 0,
            lost: 0,
        };
        recording.open(wall_ms())?;
        Ok(recording)
    }

    fn open(&mut self, now_ms: u64) -> anyhow::Result<&mut Current> {
        let (path, file) = self.create(now_ms)?;
        self.files += 1;
        Ok(self.current.insert(Current { path, file, writer: Writer::default(), began_ms: now_ms }))
    }

    /// A new file, which only its owner may read: it has command lines.
    fn create(&self, now_ms: u64) -> anyhow::Result<(PathBuf, File)> {
        let new = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let fail = |path: &Path, error: &io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                anyhow!(
                    "{} exists; give another name, or --rotate to write files with times in their names",
                    path.display()
                )
            }
            _ => anyhow!("cannot create {}: {}", path.display(), reason(error)),
        };
        if let Some(path) = &self.single {
            return new(path).map(|file| (path.clone(), file)).map_err(|e| fail(path, &e));
        }
        let time = text::compact_time(now_ms);
        let mut last = None;
        for n in 1..100 {
            let more = if n == 1 { String::new() } else { format!("-{n}") };
            let path = self.folder.join(format!("{}-{time}{more}{SUFFIX}", self.stem));
            match new(&path) {
                Ok(file) => return Ok((path, file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = Some(fail(&path, &e)),
                Err(e) => return Err(fail(&path, &e)),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("cannot create a file in {}", self.folder.display())))
    }

    /// Adds a snapshot. Returns what there is to tell.
    pub(crate) fn add(&mut self, snapshot: &Snapshot, names: &NameTable) -> anyhow::Result<Option<String>> {
        if self.current.as_ref().is_some_and(|current| self.is_full(current, snapshot.taken_at_ms)) {
            self.finish();
        }
        if self.current.is_none() {
            // Without room for another file, the next snapshot tries again.
            if let Err(error) = self.open(snapshot.taken_at_ms) {
                return Ok(self.lose(&error.to_string()));
            }
            self.remove_old();
        }
        let Some(current) = &mut self.current else { return Ok(None) };
        let bytes = current.writer.snapshot(snapshot, names)?;
        let end = current.writer.bytes();
        match current.file.write_all(&bytes) {
            Ok(()) => {
                current.writer.written();
                self.snapshots += 1;
                self.bytes += bytes.len() as u64;
                let missing = std::mem::take(&mut self.lost_now);
                let many = text::count(missing, "snapshot is", "snapshots are");
                Ok((missing > 0).then(|| format!("there is room again; {many} missing")))
            }
            Err(error) => {
                current.writer.lost();
                let why = format!("cannot write {}: {}", current.path.display(), reason(&error));
                // The file ends where it did before.
                let restored = current.file.set_len(end).and_then(|()| current.file.seek(SeekFrom::Start(end)));
                if restored.is_err() {
                    self.current = None;
                }
                self.remove_old();
                Ok(self.lose(&why))
            }
        }
    }

    fn lose(&mut self, why: &str) -> Option<String> {
        self.lost_now += 1;
        self.lost += 1;
        (self.lost_now == 1).then(|| format!("{why}; snapshots are missing until there is room"))
    }

    fn is_full(&self, current: &Current, now_ms: u64) -> bool {
        match self.rotate {
            None => false,
            Some(Limit::Bytes(bytes)) => current.writer.bytes() >= bytes,
            Some(Limit::Time(time)) => u128::from(now_ms.saturating_sub(current.began_ms)) >= time.as_millis(),
        }
    }

    /// Ends the current file with its index. A reader does without, so a full disk is no error here.
    fn finish(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        let end = current.writer.bytes();
        if end == 0 {
            // Nothing was recorded: half a file is worse than none.
            drop(std::fs::remove_file(&current.path));
            return;
        }
        let Ok(index) = current.writer.index() else { return };
        if current.file.write_all(&index).is_err() {
            drop(current.file.set_len(end));
        } else {
            self.bytes += index.len() as u64;
        }
    }

    /// Removes the oldest files of this recording, and of those before it under the same name.
    fn remove_old(&self) {
        let Some(keep) = self.keep else { return };
        let mut files = self.rotated();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        let is_current = |path: &Path| self.current.as_ref().is_some_and(|current| current.path == path);
        for (changed, path, bytes) in files {
            let goes = match keep {
                Limit::Bytes(limit) => total > limit,
                Limit::Time(age) => changed.elapsed().is_ok_and(|old| old > age),
            };
            if goes && !is_current(&path) && std::fs::remove_file(&path).is_ok() {
                total -= bytes;
            }
        }
    }

    /// The files that carry the name of this recording and a time.
    fn rotated(&self) -> Vec<(SystemTime, PathBuf, u64)> {
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let prefix = format!("{}-", self.stem);
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&prefix)?.strip_suffix(SUFFIX)?;
            let (time, number) = time.split_once('-').unwrap_or((time, "2"));
            let is_time = time.len() == 16 && time.bytes().all(|b| b.is_ascii_digit() || b"TZ".contains(&b));
            (is_time && number.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            // As they are opened: `-2.tcps.zst` in the folder of the file that was named.
            Some((metadata.modified().ok()?, self.folder.join(name), metadata.len()))
        });
        found.collect()
    }

    /// What is written where, how often, and how it ends: for whoever started it and sees nothing else.
    pub(crate) fn plan(&self, interval: Duration, duration: Option<Duration>) -> String {
        let place = match (&self.single, &self.current) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(current)) => format!("{} and files after it", current.path.display()),
            (None, None) => self.folder.display().to_string(),
        };
        let every = text::duration(millis(interval));
        let end = match duration {
            Some(duration) => format!("for {}", text::duration(millis(duration))),
            None => "until Ctrl-C (--duration TIME ends it)".to_owned(),
        };
        format!("recording a snapshot each {every} to {place}, {end}")
    }

    /// Snapshots in all files.
    pub(crate) fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// How far it is, for a terminal.
    pub(crate) fn progress(&self, sockets: u64) -> String {
        let path = self.current.as_ref().map_or("", |current| current.path.to_str().unwrap_or(""));
        let many = text::count(self.snapshots, "snapshot", "snapshots");
        let missing = if self.lost > 0 { format!(", {} missing", self.lost) } else { String::new() };
        let sockets = text::count(sockets, "socket", "sockets");
        format!("{many}{missing}, {}, {sockets} now: {path}", text::bytes(self.bytes))
    }

    /// Ends the recording, and says what was recorded.
    pub(crate) fn end(&mut self, skipped: u64) -> String {
        let path = self.current.as_ref().map(|current| current.path.display().to_string());
        self.finish();
        let many = text::count(self.snapshots, "snapshot", "snapshots");
        let place = match (self.files, path) {
            (1, Some(path)) => path,
            (n, _) => format!("{} in {}", text::count(n, "file", "files"), self.folder.display()),
        };
        let mut told = format!("recorded {many} ({}) to {place}", text::bytes(self.bytes));
        if self.lost > 0 {
            told += &format!("; {} could not be written", self.lost);
        }
        if skipped > 0 {
            told += &format!("; {} came too late for the interval", text::count(skipped, "snapshot", "snapshots"));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_time_or_a_size_and_never_a_bare_number() {
        assert_eq!(Limit::parse("1h"), Ok(Limit::Time(Duration::from_secs(3600))));
        assert_eq!(Limit::parse("100M"), Ok(Limit::Bytes(100 << 20)));
        assert_eq!(Limit::parse("2G"), Ok(Limit::Bytes(2 << 30)));
        assert_eq!(Limit::parse("5m"), Ok(Limit::Time(Duration::from_secs(300))));
        for bad in ["", "7", "1k", "x", "-1h", "0s"] {
            assert!(Limit::parse(bad).unwrap_err().contains("neither a time"), "{bad}");
        }
    }
}
