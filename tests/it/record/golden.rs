//! What every command says of a kept capture, word for word. Comes in: the captures beside this file. Goes out: whether the text is
//! the one that was looked at. `TCPSTATE_WRITE_GOLDEN=1 cargo test --test it golden::` writes it anew: read the difference then.

use std::path::{Path, PathBuf};

use crate::harness::{finish, in_netns};
use crate::product;
use crate::tidy::root;

/// Command lines; `{}` is the capture.
const COMMANDS: &[&str] = &[
    "summary --from {}",
    "summary --from {} --at -20s --no-owners",
    "summary --from {} --by process,state --json",
    "list --from {} -tanopiem --limit 20",
    "list --from {} -i -m -e --json --limit 3",
    "list --from {} --format csv -c state,local,peer,host,comm,age --sort -recv-q --limit 9",
    "doctor --from {} -v",
    "doctor --from {} --once --json",
    "doctor --from {} --since 1h",
    "doctor --from {} --nagios",
    "watch --from {} --count 3",
    "trace --from {} --since 5s",
    "explain machine --from {}",
    "diff {}@-20s {}",
    "diff {}@-1s {} --json --limit 2",
    "report {}",
    "convert {} --to csv --since 2s state established",
    "convert {} --to jsonl --since 1s state listen",
];

fn captures(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(".tcps.zst")).collect();
    found.sort();
    found
}

#[test]
fn every_command_says_of_kept_captures_what_was_looked_at() {
    in_netns(|ns| {
        let folder = root().join("tests/it/record");
        let captures = captures(&folder);
        assert!(!captures.is_empty());
        for path in captures {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            let mut said = String::new();
            for line in COMMANDS {
                let line = line.replace("{}", name);
                let words: Vec<&str> = line.split(' ').collect();
                // The name of the file is in answers: it must not be that of this checkout.
                let output = finish(product::with(ns, &words).current_dir(&folder));
                let text = |bytes| String::from_utf8(bytes).expect("text");
                said.push_str(&format!("$ tcpstate {line}\n{}", text(output.stdout)));
                for note in text(output.stderr).lines() {
                    said.push_str(&format!("! {note}\n"));
                }
                said.push_str(&format!("? {}\n\n", output.status.code().expect("an exit code")));
            }
            let said = said.replace(env!("CARGO_PKG_VERSION"), "VERSION");
            let golden = folder.join(name.replace(".tcps.zst", ".golden.txt"));
            if std::env::var_os("TCPSTATE_WRITE_GOLDEN").is_some() {
                std::fs::write(&golden, &said).expect("the golden text is written");
            }
            let kept = std::fs::read_to_string(&golden).expect("a golden text beside the capture");
            for (at, (said, kept)) in said.lines().zip(kept.lines()).enumerate() {
                assert_eq!(said, kept, "{}: line {}", golden.display(), at + 1);
            }
            assert_eq!(said.len(), kept.len(), "{}", golden.display());
        }
    });
}
