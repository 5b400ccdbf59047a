//! The page for an emergency, followed. Input: `docs/first-aid.md` and the cases of `tests/truth`. Output: for each fault
//! what its commands print while it is there: the words that the page promises.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{finish, netns, skip};

#[path = "../truth/script.rs"]
mod script;

struct Fault {
    title: String,
    case: String,
    /// The end of the pair to look from.
    look: String,
    commands: Vec<String>,
    /// The promised words, in pieces between what varies.
    promised: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn faults() -> Vec<Fault> {
    let page = std::fs::read_to_string(root().join("docs/first-aid.md")).expect("the page");
    page.split("\n## ").skip(1).map(fault).collect()
}

fn fault(section: &str) -> Fault {
    let mark = section.split("<!-- ").nth(1).and_then(|m| m.split(" -->").next()).expect("a mark");
    let of = |key: &str| mark.split("; ").find_map(|part| part.strip_prefix(key)).map(str::to_owned);
    let fence = section.split("```sh\n").nth(1).and_then(|f| f.split("```").next()).unwrap_or_default();
    let quote: Vec<&str> = section.lines().filter_map(|l| l.strip_prefix("> ")).collect();
    // Numbers are of one run.
    let is_fixed = |word: &&str| {
        let word = word.trim_end_matches([';', ':', ',']);
        word.chars().any(char::is_alphabetic) || word.contains('.') && word.len() > 3
    };
    let quote = quote.join(" ");
    let promised = quote.split(' ').filter(is_fixed).map(|w| w.trim_end_matches([';', ':', ',']).to_owned());
    Fault {
        title: section.lines().next().unwrap_or_default().to_owned(),
        case: of("case: ").expect("a case"),
        look: of("look: ").expect("an end"),
        commands: fence.lines().map(str::to_owned).collect(),
        promised: promised.collect(),
    }
}

#[test]
fn there_are_ten_faults_with_at_most_three_commands() {
    let faults = faults();
    assert!(faults.len() >= 10, "{}", faults.len());
    for fault in faults {
        assert!((1..=3).contains(&fault.commands.len()), "{}: {:?}", fault.title, fault.commands);
        assert!(fault.promised.len() > 4, "{}: {:?}", fault.title, fault.promised);
        let case = root().join(format!("tests/truth/cases/{}.sh", fault.case));
        assert!(case.is_file(), "{}: there is no case {}", fault.title, fault.case);
        for command in fault.commands {
            assert!(command.starts_with("tcpstate "), "{command}");
        }
    }
}

/// A case of `tests/truth`, held as long as its input is open.
struct Made {
    script: Child,
    name: String,
}

impl Made {
    fn start(case: &str, folder: &Path) -> Made {
        let name = format!("fa{}x{}", std::process::id(), case.len());
        let case_script = root().join(format!("tests/truth/cases/{case}.sh"));
        let mut bash = script::command(&case_script, &name, folder);
        let mut script = bash.stderr(Stdio::null()).spawn().expect("start bash");
        let output = script.stdout.take().expect("a pipe");
        // The script ends by itself when it cannot make the state: then the line does not come.
        let is_ready = BufReader::new(output).lines().map_while(Result::ok).any(|line| line == "READY");
        let made = Made { script, name };
        assert!(is_ready, "{case} was not made");
        made
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // The end of its input ends the script, whose trap removes what it made.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

#[test]
fn its_commands_lead_from_the_symptom_to_the_culprit() {
    if !netns::is_real_root() {
        return skip("only root can make the namespaces of the cases");
    }
    // One after the other: what a case prints depends on seconds, and so on the load.
    for fault in faults() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Made::start(&fault.case, folder.path());
        let mut printed = String::new();
        for command in &fault.commands {
            let mut run = Command::new("ip");
            run.args(["netns", "exec", &format!("{}{}", made.name, fault.look), env!("CARGO_BIN_EXE_tcpstate")]);
            let output = finish(run.args(command.split(' ').skip(1)));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(matches!(output.status.code(), Some(0 | 1)) && !text.is_empty(), "{command}: {output:?}");
            printed.push_str(&text);
        }
        let said = printed.split_whitespace().collect::<Vec<&str>>().join(" ");
        let missing: Vec<&String> =
            fault.promised.iter().filter(|w| w.len() > 3 && !w.contains("...") && !said.contains(w.as_str())).collect();
        assert!(missing.is_empty(), "{}: {missing:?} is not in {said}", fault.title);
    }
}
