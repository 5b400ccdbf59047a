//! The configuration file and the flags that override it.
//!
//! Input: `/etc/tcpstate/config.toml`, then the user's own, then `--threshold NAME=VALUE`; later ones win. Output:
//! thresholds, each with its origin, and the look of `watch`. A bad key or value is an error with file and line.
//!
//! Circle with `doctor`: `--config` and `--threshold` are arguments of that command, which loads its thresholds
//! here.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::cli::doctor::DoctorArgs;
use crate::cli::env::Env;
use crate::cli::parse;
use crate::collect::error::reason;
use crate::collect::rights;
use crate::diagnose::Thresholds;
use crate::diagnose::thresholds::THRESHOLDS;
use crate::render::tui::Palette;

/// What is set for the screen of `watch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub theme: Option<Palette>,
    pub mouse: Option<bool>,
}

/// The thresholds in effect, and the origin of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub thresholds: Thresholds,
    pub watch: Look,
    origins: BTreeMap<&'static str, String>,
}

impl Settings {
    /// The table of `doctor --show-thresholds`.
    pub(crate) fn table(&self) -> String {
        let widest = THRESHOLDS.iter().map(|t| t.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for threshold in THRESHOLDS {
            let value = self.thresholds.get(threshold.name).unwrap_or(threshold.default);
            let origin = self.origins.get(threshold.name).map_or("default", String::as_str);
            text.push_str(&format!("{:widest$} = {value:<6} {origin:24} {}\n", threshold.name, threshold.help));
        }
        text
    }

    fn set(&mut self, name: &str, value: f64, origin: &str) -> Result<(), crate::diagnose::thresholds::Refused> {
        let name = self.thresholds.set(name, value)?;
        self.origins.insert(name, origin.to_owned());
        Ok(())
    }
}

/// Reads the files that exist, then the flags.
pub(crate) fn load(args: &DoctorArgs, env: &mut Env) -> anyhow::Result<Settings> {
    let mut settings = files(env)?;
    for assignment in &args.threshold {
        let set = settings.set(assignment.name, assignment.value, "--threshold");
        set.map_err(|e| anyhow::anyhow!("--threshold: {e}"))?;
    }
    Ok(settings)
}

/// Reads the files that exist. A mistake in the user's own file is an error; where that file belongs to another
/// user, as under sudo with the caller's HOME, it is reported on standard error and the file is ignored.
pub(crate) fn files(env: &mut Env) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    let system = PathBuf::from("/etc/tcpstate/config.toml");
    file(&mut settings, &system)?;
    let own = env
        .var("XDG_CONFIG_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env.var("HOME").filter(|v| !v.is_empty())?).join(".config")))
        .map(|dir| dir.join("tcpstate/config.toml"));
    if let Some(path) = own {
        let mut with_own = settings.clone();
        match file(&mut with_own, &path) {
            Ok(()) => settings = with_own,
            Err(error) if is_foreign(&path) => {
                env.note(&format!("{error:#}; ignored, because the file belongs to another user"))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(settings)
}

fn is_foreign(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.uid() != rights::user())
}

/// Applies a file, if it exists.
fn file(settings: &mut Settings, path: &Path) -> anyhow::Result<()> {
    match read(path) {
        Ok(text) => apply(settings, path, &text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // After a change of user, HOME may be inaccessible: then a file there cannot be known. One that exists but
        // cannot be read is an error.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && std::fs::metadata(path).is_err() => Ok(()),
        Err(e) => bail!("cannot read the configuration {}: {}", path.display(), reason(&e)),
    }
}

/// The text of a regular file. Without `O_NONBLOCK` a pipe would wait for a writer; a device may never end.
fn read(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn apply(settings: &mut Settings, path: &Path, text: &str) -> anyhow::Result<()> {
    let at = |offset: usize| {
        let line = text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1);
        format!("{}:{line}", path.display())
    };
    let table = match toml::de::DeTable::parse(text) {
        Ok(table) => table,
        Err(e) => bail!("{}: {}", at(e.span().map_or(0, |s| s.start)), e.message().replace('\n', ", ")),
    };
    for (key, value) in table.get_ref() {
        let (name, place) = (key.get_ref(), at(key.span().start));
        if !matches!(name.as_ref(), "thresholds" | "watch") {
            bail!("{place}: `{name}` is not a section; there are [thresholds] and [watch]");
        }
        let toml::de::DeValue::Table(entries) = value.get_ref() else {
            bail!("{place}: {name} is a section: write [{name}] on a line of its own");
        };
        for (entry, value) in entries {
            let place = at(entry.span().start);
            if name == "watch" {
                look(&mut settings.watch, entry.get_ref(), value.get_ref())
                    .map_err(|why| anyhow::anyhow!("{place}: {why}"))?;
            } else {
                threshold(settings, &place, entry.get_ref(), value.get_ref())?;
            }
        }
    }
    Ok(())
}

fn threshold(settings: &mut Settings, place: &str, name: &str, value: &toml::de::DeValue<'_>) -> anyhow::Result<()> {
    let number = match value {
        toml::de::DeValue::Integer(n) => n.as_str().parse().ok(),
        toml::de::DeValue::Float(n) => n.as_str().parse().ok(),
        _ => None,
    };
    let Some(number) = number else { bail!("{place}: the value of `{name}` is not a number") };
    settings
        .set(name, number, place)
        .map_err(|e| anyhow::anyhow!("{place}: {e}; see `tcpstate doctor --show-thresholds`"))
}

fn look(look: &mut Look, name: &str, value: &toml::de::DeValue<'_>) -> Result<(), String> {
    match (name, value) {
        ("theme", toml::de::DeValue::String(word)) => {
            let found = parse::theme().parse(word).map_err(|why| format!("theme: {why}"))?;
            look.theme = Some(found);
        }
        ("theme", _) => return Err("the value of `theme` is not a word in quotes".into()),
        ("mouse", toml::de::DeValue::Boolean(taken)) => look.mouse = Some(*taken),
        ("mouse", _) => return Err("the value of `mouse` is neither true nor false".into()),
        _ => return Err(format!("`{name}` is no setting of watch; there are theme and mouse")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_text(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        apply(&mut settings, Path::new("c.toml"), text).map_err(|e| e.to_string())?;
        Ok(settings)
    }

    #[test]
    fn values_are_taken_with_their_origin() {
        let settings = apply_text("# mine\n[thresholds]\nfd-warn-percent = 2\nabort_per_second = 0.5\n").unwrap();
        assert!((settings.thresholds.fd_warn_percent - 2.0).abs() < f64::EPSILON);
        assert!(settings.table().contains("c.toml:3") && settings.table().contains("default"));
    }

    #[test]
    fn the_look_of_watch_is_taken() {
        let watch = apply_text("[watch]\ntheme = \"color-blind\"\nmouse = false\n").unwrap().watch;
        assert_eq!(watch, Look { theme: Some(Palette::ColorBlind), mouse: Some(false) });
        assert_eq!(apply_text("").unwrap().watch, Look::default());
    }

    #[test]
    fn a_bad_key_or_value_names_file_and_line() {
        for (text, message) in [
            (
                "[thresholds]\nfd-wran-percent = 2",
                "c.toml:2: `fd-wran-percent` is not a threshold; did you mean `fd-warn-percent`?",
            ),
            ("[thresholds]\n\nfd-warn-percent = 200", "c.toml:3: fd-warn-percent = 200 is out of range; use 0 to 100"),
            ("[thresholds]\nfd-warn-percent = \"2\"", "c.toml:2: the value of `fd-warn-percent` is not a number"),
            ("[rules]\n", "c.toml:1: `rules` is not a section; there are [thresholds] and [watch]"),
            ("watch = 1", "c.toml:1: watch is a section: write [watch] on a line of its own"),
            ("[watch]\ntheme = \"blue\"", "c.toml:2: theme: `blue` is not a theme; use one of default color-blind"),
            ("[watch]\ntheme = 1", "c.toml:2: the value of `theme` is not a word in quotes"),
            ("[watch]\nmouse = \"no\"", "c.toml:2: the value of `mouse` is neither true nor false"),
            ("[watch]\ncolour = 1", "c.toml:2: `colour` is no setting of watch; there are theme and mouse"),
            ("[thresholds\n", "c.toml:1: "),
        ] {
            let error = apply_text(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
