//! Makes the state of a case, and has the doctor look at it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value as Json;

use crate::case::Case;
use crate::judge::{Judged, Verdict, judge};
use crate::script;

/// What became of a case.
pub enum Outcome {
    Judged(Judged),
    /// It could not be made here: why.
    NotRun(String),
}

/// A script that runs.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    words: Receiver<String>,
    name: String,
}

impl Running {
    fn start(case: &Case, number: usize) -> Result<Running, String> {
        let name = format!("t{}x{number}", std::process::id());
        let folder = std::env::temp_dir().join(format!("tcpstate-truth-{name}"));
        std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let log = std::fs::File::create(folder.join("err")).map_err(|e| format!("cannot write a log: {e}"))?;
        let mut bash = script::command(&case.script, &name, &folder);
        let mut child = bash.stderr(log).spawn().map_err(|e| format!("cannot start bash: {e}"))?;
        let (sender, words) = channel();
        let input = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Running { child, input, words, name })
    }

    /// Waits for a word of the script.
    fn wait_for(&self, word: &str, most: Duration) -> Result<(), String> {
        loop {
            match self.words.recv_timeout(most) {
                Ok(line) if line == word => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(format!("the script did not say {word}")),
            }
        }
    }

    fn say(&mut self, word: &str) {
        if let Some(input) = &mut self.input {
            // A script that ended is noticed by the next wait.
            let _ = writeln!(input, "{word}");
        }
    }

    /// What the doctor says inside a namespace.
    fn doctor(&self, case: &Case, arguments: &[String]) -> Result<Json, String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec"]).arg(format!("{}{}", self.name, case.header.look_from));
        if case.header.nobody {
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command.arg(env!("CARGO_BIN_EXE_tcpstate")).args(["doctor", "--json"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot start ip: {e}"))?;
        let mut document: Json = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("doctor: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
        if let Some(findings) = document["findings"].as_array_mut() {
            findings.retain(|finding| self.is_ours(finding));
        }
        Ok(document)
    }

    /// What `--netns all` finds in the namespaces of other cases is none of this one.
    fn is_ours(&self, finding: &Json) -> bool {
        let Some(netns) = finding["subject"]["netns"].as_u64() else { return true };
        ["c", "s", "r"].iter().any(|end| {
            let path = format!("/run/netns/{}{end}", self.name);
            std::fs::metadata(path).is_ok_and(|found| found.ino() == netns)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input ends the script, and its trap removes what it made.
        self.input = None;
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one case and keeps the worst of its looks.
#[must_use]
pub fn run(case: &Case, number: usize) -> Outcome {
    if let Some(missing) = case.header.needs.iter().find(|program| !is_installed(program)) {
        return Outcome::NotRun(format!("{missing} is not installed"));
    }
    match attempt(case, number) {
        Ok(judged) => Outcome::Judged(judged),
        Err(why) => Outcome::NotRun(why),
    }
}

fn attempt(case: &Case, number: usize) -> Result<Judged, String> {
    let most = Duration::from_secs(u64::from(case.header.seconds) * 3 + 30);
    let mut script = Running::start(case, number)?;
    script.wait_for("READY", most)?;
    let sets = if case.header.doctor.is_empty() { vec![Vec::new()] } else { case.header.doctor.clone() };
    let mut worst: Option<Judged> = None;
    let mut said = Vec::new();
    for arguments in sets.iter().flat_map(|set| std::iter::repeat_n(set, case.header.times as usize)) {
        let judged = judge(case, &script.doctor(case, arguments)?);
        said.extend(judged.said.clone());
        if worst.as_ref().is_none_or(|known| judged.verdict > known.verdict) {
            worst = Some(judged);
        }
    }
    let mut judged = worst.ok_or("the case asks for no look")?;
    judged.said = said;
    if let Some(seconds) = case.header.silent_after_cure_seconds {
        script.say("cure");
        script.wait_for("CURED", most)?;
        std::thread::sleep(Duration::from_secs(u64::from(seconds)));
        let after = script.doctor(case, &[])?;
        let left = after["findings"].as_array().into_iter().flatten().filter(|f| f["severity"] != "info");
        let left: Vec<String> = left.map(|f| format!("after the cure: {}", f["summary"])).collect();
        if !left.is_empty() {
            judged.verdict = judged.verdict.max(Verdict::Partly);
            judged.why.extend(left);
        }
    }
    Ok(judged)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}
