//! Completion in the shells themselves, and the manual in the programs that read it. Input: a key in a terminal, a page.
//! Output: the word that the shell completed, no complaint.

use std::process::{Child, Command, Stdio};

use crate::harness::{finish, skip, wait_for};

/// A shell in a terminal of its own.
struct Shell {
    socket: String,
    /// What a shell writes into its home goes away with it.
    _home: tempfile::TempDir,
}

impl Shell {
    /// Starts it and loads the completions; `None` where it is not installed.
    fn start(name: &str, command: &str, setup: &str) -> Option<Shell> {
        for program in [name, "tmux"] {
            if Command::new(program)
                .arg("-V")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_err()
            {
                skip(&format!("{program} is not installed"));
                return None;
            }
        }
        let home = tempfile::tempdir().expect("a folder");
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_tcpstate"));
        let folder = binary.parent().expect("a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        let start =
            format!("env PATH='{folder}:{path}' HOME='{}' TERM=xterm-256color {command}", home.path().display());
        let shell = Shell { socket: format!("tcpstate-{name}-{}", std::process::id()), _home: home };
        shell.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "180", "-y", "50", &start]);
        shell.keys(setup);
        shell.keys("echo load''ed");
        wait_for("the completions", || {
            let screen = shell.screen();
            if screen.lines().any(|line| line.trim() == "loaded") { Ok(()) } else { Err(screen) }
        });
        Some(shell)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = finish(Command::new("tmux").args(["-L", &self.socket]).args(words).env("LC_ALL", "C.UTF-8"));
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types a line.
    fn keys(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Types the beginning of a line and Tab, and waits until the line ends so.
    #[track_caller]
    fn completes(&self, typed: &str, wanted: &str) {
        self.tmux(&["send-keys", "C-u"]);
        self.tmux(&["send-keys", "-l", "clear"]);
        self.tmux(&["send-keys", "Enter"]);
        wait_for("an empty screen", || {
            let screen = self.screen();
            if screen.contains("tcpstate ") { Err(screen) } else { Ok(()) }
        });
        self.tmux(&["send-keys", "-l", typed]);
        self.tmux(&["send-keys", "Tab"]);
        wait_for(&format!("`{typed}` to become `{wanted}`"), || {
            let screen = self.screen();
            // What is typed before the shell is ready, the terminal echoes on a line of its own.
            let done = screen.lines().any(|line| line.contains("tcpstate ") && line.contains(wanted));
            if done { Ok(()) } else { Err(screen) }
        });
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).stderr(Stdio::null()).status();
    }
}

/// A process whose name no other has.
struct Named {
    child: Child,
    name: String,
    _folder: tempfile::TempDir,
}

impl Named {
    fn start(name: String) -> Named {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(&name);
        std::fs::copy("/bin/sleep", &path).expect("copy");
        let child = Command::new(&path).arg("600").spawn().expect("start it");
        Named { child, name, _folder: folder }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn check(name: &str, command: &str, setup: &str) {
    let Some(shell) = Shell::start(name, command, setup) else { return };
    let sleeper = Named::start(format!("tsz{name}{}", std::process::id()));
    let (begun, whole) = (&sleeper.name[..sleeper.name.len() - 1], &sleeper.name);
    for (typed, wanted) in [
        ("tcpstate list --state half-c", "--state half-closed"),
        ("tcpstate list -s listen,half-c", "-s listen,half-closed"),
        ("tcpstate -tan --state half-c", "--state half-closed"),
        ("tcpstate list -c state,congest", "-c state,congestion"),
        ("tcpstate list -c +congest", "-c +congestion"),
        ("tcpstate list --format cs", "--format csv"),
        ("tcpstate list -N al", "-N all"),
        ("tcpstate summary --by four", "--by four-tuple"),
        ("tcpstate doctor --rule close-wait-l", "--rule close-wait-leak"),
        ("tcpstate doctor --min-severity cri", "--min-severity critical"),
        ("tcpstate doctor --fail-on cri", "--fail-on critical"),
        ("tcpstate doctor --threshold fd-warn", "--threshold fd-warn-percent="),
        ("tcpstate explain eaddrinu", "explain eaddrinuse"),
        ("tcpstate expl", "tcpstate explain"),
        (&format!("tcpstate list --process {begun}"), &format!("--process {whole}")),
    ] {
        shell.completes(typed, wanted);
    }
}

#[test]
fn bash_completes_values() {
    check("bash", "bash --norc --noprofile", "source <(tcpstate generate completions bash)");
}

#[test]
fn zsh_completes_values() {
    let setup = "autoload -U compinit; compinit -u -D; source <(tcpstate generate completions zsh)";
    check("zsh", "zsh -f", setup);
}

#[test]
fn fish_completes_values() {
    check("fish", "fish --no-config", "tcpstate generate completions fish | source");
}

#[test]
fn the_manual_is_clean_and_its_examples_stand_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/man");
    let pages = std::fs::read_dir(folder).expect("pages").map(|page| page.expect("a page").path());
    for page in pages {
        let Ok(lint) = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output() else {
            return skip("mandoc is not installed");
        };
        assert_eq!(String::from_utf8_lossy(&lint.stdout), "", "{}", page.display());
        let Ok(shown) = Command::new("man")
            .args(["-l", "--warnings"])
            .arg(&page)
            .envs([("MANWIDTH", "100"), ("LC_ALL", "C.UTF-8")])
            .output()
        else {
            return skip("man is not installed");
        };
        assert_eq!(String::from_utf8_lossy(&shown.stderr), "", "{}", page.display());
        // Columns of the examples are columns on the page.
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let command = page.file_stem().unwrap().to_string_lossy().replace("tcpstate-", "");
        let words = if command == "tcpstate" { vec!["help"] } else { vec!["help", &command] };
        let help = finish(Command::new(env!("CARGO_BIN_EXE_tcpstate")).args(words));
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let examples = help.split("Examples:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
        assert!(examples.is_some(), "{command}");
        for line in examples.into_iter().flat_map(str::lines).filter(|line| line.chars().count() < 92) {
            let typed = |text: &str| text.replace(['\u{2010}', '\u{2212}'], "-").replace('\u{2019}', "'");
            assert!(typed(&text).contains(line.trim()), "{}: {line}\n{text}", page.display());
        }
    }
}
