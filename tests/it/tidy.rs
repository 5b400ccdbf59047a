//! The rules of the repository that no compiler checks: who may import whom, what every file begins with, what is
//! generated and committed. Comes in: the files of the repository. Goes out: the place of every breach. Never here: the
//! kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use tcpstate::diagnose::RULES;
use tcpstate::model::counter::{Counter, SockStat};
use tcpstate::model::sysctl::Sysctl;

use crate::harness::finish;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// Every Rust file below a folder, as a path from the root.
pub(crate) fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(root().join(&folder)).unwrap_or_else(|e| panic!("read {}: {e}", folder.display()))
        {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no Rust file below {folder}");
    found
}

fn names(folder: &str, extension: &str) -> BTreeSet<String> {
    std::fs::read_dir(root().join(folder))
        .unwrap_or_else(|e| panic!("read {folder}: {e}"))
        .map(|entry| PathBuf::from(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// The lines that end up in the program, with their numbers: no comments, and no modules of tests.
pub(crate) fn program_lines(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line.trim_start() == "#[cfg(test)]" {
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            // Further attributes, then one item: up to its closing brace, or its semicolon.
            for (_, line) in lines.by_ref() {
                let attribute = line.trim_start().starts_with("#[");
                if line == end || (line.trim_end().ends_with(';') && !line.starts_with(&format!("{} ", &end[1..]))) {
                    break;
                }
                if !attribute && line.trim_end().ends_with('}') && line.len() - line.trim_start().len() == indent {
                    break;
                }
            }
            continue;
        }
        if !line.trim_start().starts_with("//") {
            kept.push((at + 1, line));
        }
    }
    kept
}

/// Files that only tests compile: `#[cfg(test)]`, then `mod name;`.
pub(crate) fn test_files(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in files {
        let text = read(file);
        let lines: Vec<&str> = text.lines().collect();
        for at in (0..lines.len()).filter(|at| lines[*at].trim() == "#[cfg(test)]") {
            let item = lines[at + 1..].iter().find(|l| !l.trim_start().starts_with("#["));
            let Some(name) = item.and_then(|l| l.trim().strip_suffix(';')?.rsplit_once("mod ")) else { continue };
            let stem = file.file_stem().unwrap();
            let folder = if stem == "mod" || stem == "lib" { file.with_file_name("") } else { file.with_extension("") };
            found.insert(folder.join(format!("{}.rs", name.1)));
            found.insert(folder.join(name.1).join("mod.rs"));
        }
    }
    // And what belongs to such a folder.
    files
        .iter()
        .filter(|f| {
            found.contains(*f)
                || f.ancestors().any(|a| found.contains(&a.join("mod.rs")) || found.contains(&a.with_extension("rs")))
        })
        .cloned()
        .collect()
}

/// The folders of the crate that a line refers to.
fn references(line: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at].ends_with(is_word) {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            // `use crate::{a::B, c}`: the first word of each part at the first level.
            let mut depth = 0;
            let mut start = 0;
            for (i, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        found.push(list[start..i].trim());
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push(list[start..i].trim());
                        start = i + 1;
                    }
                    _ => {}
                }
            }
        } else {
            found.push(rest);
        }
    }
    found.into_iter().map(|r| &r[..r.find(|c| !is_word(c)).unwrap_or(r.len())]).filter(|r| !r.is_empty()).collect()
}

/// The table of docs/ARCHITECTURE.md: folder, and what it may use.
fn import_table() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("docs/ARCHITECTURE.md");
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folder, _, uses] = cells.as_slice() else { continue };
        let Some(folder) = folder.strip_prefix('`').and_then(|f| f.strip_suffix('`')) else { continue };
        let uses = match *uses {
            "nothing" => BTreeSet::new(),
            "everything" => ["*".to_owned()].into(),
            list => list.split(',').map(|w| w.trim().to_owned()).collect(),
        };
        table.insert(folder.to_owned(), uses);
    }
    table
}

#[test]
fn nobody_imports_what_the_architecture_does_not_allow() {
    let table = import_table();
    // A stage is a folder, or a single file.
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("src"))
        .unwrap()
        .map(|e| PathBuf::from(e.unwrap().file_name()).with_extension("").to_str().unwrap().to_owned())
        .filter(|name| name != "lib" && name != "main")
        .collect();
    assert_eq!(folders, table.keys().cloned().collect(), "the table has one line for each folder and file of src");
    let files = rust_files("src");
    let tests = test_files(&files);
    let mut breaches = Vec::new();
    let mut checked = 0;
    for file in files.iter().filter(|f| !tests.contains(*f)) {
        let stage = file.iter().nth(1).map(|f| Path::new(f).with_extension(""));
        let Some(folder) = stage.as_ref().and_then(|f| f.to_str()).filter(|f| folders.contains(*f)) else {
            continue;
        };
        let may = &table[folder];
        let text = read(file);
        let lines = program_lines(&text);
        let joined = lines.iter().map(|(_, l)| *l).collect::<Vec<_>>().join("\n");
        // A list over several lines has no line of its own.
        let whole = references(&joined);
        let single: usize = lines.iter().map(|(_, l)| references(l).len()).sum();
        for (at, used) in lines
            .iter()
            .flat_map(|(at, line)| references(line).into_iter().map(move |used| (*at, used)))
            .chain(if whole.len() > single { whole } else { Vec::new() }.into_iter().map(|used| (0, used)))
        {
            checked += 1;
            if used != folder && folders.contains(used) && !may.contains(used) && !may.contains("*") {
                breaches.push(format!("{}:{at}: {folder} uses {used}", file.display()));
            }
        }
        for (at, line) in &lines {
            if line.contains("super::super::super") {
                breaches.push(format!("{}:{at}: write the path from `crate`", file.display()));
            }
        }
    }
    assert!(checked > 100, "{checked}");
    assert!(breaches.is_empty(), "docs/ARCHITECTURE.md does not allow:\n{}", breaches.join("\n"));
}

/// The parser of the rule above: what it must see, and what it must not.
#[test]
fn imports_are_found_in_every_form() {
    for (line, wanted) in [
        ("use crate::model::Socket;", &["model"][..]),
        ("use crate::{model::Socket, render};", &["model", "render"]),
        ("use crate::{model::{A, B}, cli};", &["model", "cli"]),
        ("    let x = crate::collect::open(crate::model::y());", &["collect", "model"]),
        ("use mycrate::model;", &[]),
        ("pub(crate) fn f() {}", &[]),
    ] {
        assert_eq!(references(line), wanted, "{line}");
    }
    let text = "//! crate::cli\nuse crate::model;\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\nuse crate::render;\n\
                #[cfg(test)]\n#[allow(x)]\npub(crate) mod testkit;\nfn f() {}\n#[cfg(test)]\nfn g() {\n    h();\n}\nlast";
    let kept: Vec<usize> = program_lines(text).iter().map(|(at, _)| *at).collect();
    assert_eq!(kept, [2, 7, 11, 16]);
}

/// Every Rust file of the repository.
fn all_files() -> Vec<PathBuf> {
    ["src", "tests", "benches", "examples"].iter().flat_map(|folder| rust_files(folder)).collect()
}

#[test]
fn every_file_says_what_it_is_and_none_is_too_long() {
    let mut breaches = Vec::new();
    for file in all_files() {
        let text = read(&file);
        if !text.starts_with("//! ") {
            breaches.push(format!("{} does not begin with `//!`", file.display()));
        }
        let lines = text.lines().count();
        let excused =
            text.lines().take_while(|l| l.starts_with("//!")).any(|l| l.starts_with("//! Longer than 600 lines: "));
        if lines > 600 && !excused {
            breaches.push(format!(
                "{} has {lines} lines; split it, or say why in its head: `//! Longer than 600 lines: ...`",
                file.display()
            ));
        }
        if let Some(line) = text.lines().position(|l| l.chars().count() > 140) {
            breaches.push(format!("{}:{}: a line of more than 140 characters", file.display(), line + 1));
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_rule_begins_with_the_lead_of_its_page_and_includes_it() {
    for rule in tcpstate::diagnose::RULES {
        let text = read(format!("src/diagnose/rules/{}.rs", rule.id.replace('-', "_")));
        let said: Vec<&str> = text.lines().map_while(|l| l.strip_prefix("//! ")).collect();
        let lead = rule.page.split("\n\n").nth(1).unwrap_or_default();
        assert_eq!(said.join(" "), lead.split_whitespace().collect::<Vec<_>>().join(" "), "{}", rule.id);
        assert!(
            text.contains(&format!("#![doc = include_str!(\"../../../docs/rules/{}.md\")]", rule.id)),
            "{}",
            rule.id
        );
    }
}

#[test]
fn no_rule_uses_another_rule() {
    let mut breaches = Vec::new();
    for file in rust_files("src/diagnose/rules").iter().filter(|f| !f.ends_with("mod.rs")) {
        for (at, line) in program_lines(&read(file)) {
            // A file in the folder of a rule is a part of it.
            let is_part = file.strip_prefix("src/diagnose/rules").is_ok_and(|inside| inside.components().count() > 1);
            let outside = if is_part { "super::super::" } else { "super::" };
            let uses_rules = line.contains("diagnose::rules") || line.replace("pub(super)", "").contains(outside);
            if uses_rules {
                breaches.push(format!("{}:{at}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(breaches.is_empty(), "what two rules need is in a module of its own:\n{}", breaches.join("\n"));
}

#[test]
fn nothing_is_printed_past_the_streams_and_nothing_is_left_undone() {
    // Put together here, so that this file does not find itself.
    let printing: Vec<String> = ["print", "println", "eprint", "eprintln", "dbg"].map(|m| format!("{m}!(")).to_vec();
    let undone: Vec<String> = vec![
        ["#[ig", "nore"].concat(),
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["FIX", "ME"].concat(),
    ];
    // Each panics where no thread can be made; `cores` has calls that return an error.
    let threads = ["thread::spawn(", "scope.spawn("];
    let files = all_files();
    let tests = test_files(&rust_files("src"));
    let mut breaches = Vec::new();
    for file in &files {
        let text = read(file);
        for (at, line) in text.lines().enumerate() {
            for word in undone.iter().filter(|w| line.contains(*w)) {
                breaches.push(format!("{}:{}: {word}", file.display(), at + 1));
            }
        }
        if !file.starts_with("src") || tests.contains(file) {
            continue;
        }
        for (at, line) in program_lines(&text) {
            let found = |word: &&String| {
                line.match_indices(word.as_str())
                    .any(|(i, _)| !line[..i].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
            };
            for word in printing.iter().filter(found) {
                breaches.push(format!("{}:{at}: {word}: write to a stream of `Env`", file.display()));
            }
            for word in threads.iter().filter(|w| line.contains(*w)) {
                breaches.push(format!("{}:{at}: {word}: use `cores::start`", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_rule_is_one_file_with_one_page() {
    let mut files = names("src/diagnose/rules", "rs");
    files.remove("mod");
    let files: BTreeSet<String> = files.iter().map(|f| f.replace('_', "-")).collect();
    let rules: BTreeSet<String> = RULES.iter().map(|r| r.id.to_owned()).collect();
    let mut pages = names("docs/rules", "md");
    pages.remove("README");
    assert_eq!(files, rules, "files in src/diagnose/rules, and the list in mod.rs");
    assert_eq!(rules.len(), RULES.len(), "each id once");
    for rule in &rules {
        assert!(pages.contains(rule), "docs/rules/{rule}.md is missing");
    }
    let ahead: Vec<&String> = pages.difference(&rules).collect();
    assert!(ahead.is_empty(), "pages without a rule: {ahead:?}");
}

/// The words of a line that follow `prefix`: `Counter::TcpExtTw` gives `TcpExtTw`.
fn variants_named<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(prefix)
        .filter(|(at, _)| !line[..*at].ends_with(is_word))
        .map(|(at, _)| &line[at + prefix.len()..])
        .map(|rest| &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())])
        .collect()
}

/// `collect` reads every name of these tables by going through `ALL`, so a variant that it names is one it decides by.
#[test]
fn every_counter_and_sysctl_that_is_read_is_used() {
    let files = rust_files("src");
    let tests = test_files(&files);
    let mut used: BTreeSet<String> = BTreeSet::new();
    for file in files.iter().filter(|f| !tests.contains(*f) && !f.starts_with("src/model")) {
        for (_, line) in program_lines(&read(file)) {
            for table in ["Counter::", "SockStat::", "Sysctl::"] {
                used.extend(variants_named(line, table).into_iter().map(|name| format!("{table}{name}")));
            }
        }
    }
    let counters = Counter::ALL.iter().map(|c| format!("Counter::{c:?}"));
    let counts = SockStat::ALL.iter().map(|s| format!("SockStat::{s:?}"));
    let sysctls = Sysctl::ALL.iter().map(|s| format!("Sysctl::{s:?}"));
    let unused: Vec<String> = counters.chain(counts).chain(sysctls).filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "read from the kernel for nobody: {}", unused.join(", "));
    assert_eq!(variants_named("f(&[Counter::A, XCounter::B]) + Counter::C.name()", "Counter::"), ["A", "C"]);
}

/// What the program prints about itself, without a kernel.
fn generated(args: &[&str]) -> String {
    let output = finish(Command::new(env!("CARGO_BIN_EXE_tcpstate")).arg("generate").args(args));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_is_generated_and_committed_is_fresh() {
    for (what, path) in [
        ("columns", "docs/columns.md"),
        ("metrics", "docs/metrics.md"),
        ("rules", "docs/rules/README.md"),
        ("schema", "docs/schema/v1.json"),
        ("topics", "docs/topics/README.md"),
    ] {
        // Not assert_eq: nobody reads two schemas on one screen.
        let fresh = read(path) == generated(&[what]);
        assert!(fresh, "{path} is not what the program prints: run `cargo run -- generate {what} > {path}`");
    }
}

#[test]
fn the_manual_has_one_fresh_page_per_command_and_its_references_lead_somewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    generated(&["man", "--dir", dir.path().to_str().expect("a path")]);
    let mend = "run `cargo run -- generate man --dir docs/man`";
    let committed = names("docs/man", "1");
    let fresh: BTreeSet<String> = std::fs::read_dir(dir.path())
        .expect("pages")
        .map(|entry| entry.expect("a page").path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(committed, fresh, "pages in docs/man, and those of the program: {mend}, remove what is gone");
    assert!(fresh.contains("tcpstate-list") && fresh.len() > 5, "{fresh:?}");
    for page in &fresh {
        let text = std::fs::read_to_string(dir.path().join(format!("{page}.1"))).expect("a page");
        assert!(read(format!("docs/man/{page}.1")) == text, "docs/man/{page}.1 is not what the program writes: {mend}");
        assert_eq!(text.matches("\n.TH ").count(), 1, "{page} is one page");
        let plain = text.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
        let mut referred = BTreeSet::new();
        for (at, _) in plain.match_indices("(1)") {
            let word = plain[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default();
            assert!(fresh.contains(word), "{page} refers to {word}(1)");
            referred.insert(word.to_owned());
        }
        let wanted = if page == "tcpstate" { &fresh - &["tcpstate".into()].into() } else { ["tcpstate".into()].into() };
        assert!(referred.is_superset(&wanted), "{page} refers to {referred:?}, not to all of {wanted:?}");
    }
    assert!(generated(&["man"]) == read("docs/man/tcpstate.1"), "without --dir the page of the program is printed");
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut documents: Vec<PathBuf> = ["README.md", "SECURITY.md", "CODE_OF_CONDUCT.md"].map(PathBuf::from).into();
    for folder in ["docs", "docs/rules", "docs/states", "docs/topics"] {
        documents.extend(names(folder, "md").into_iter().map(|name| Path::new(folder).join(format!("{name}.md"))));
    }
    let mut broken = Vec::new();
    let mut checked = 0;
    for document in &documents {
        let text = read(document);
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            checked += 1;
            if !root().join(document).with_file_name(target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(checked > 5 && broken.is_empty(), "{checked} links; broken: {}", broken.join(", "));
}

/// `1.88` and `1.88.0` as numbers.
fn version(text: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = text.split('.').map(|n| n.parse().expect("a version of numbers")).collect();
    numbers.resize(3, 0);
    numbers
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_we_promise() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let promised = manifest["package"]["rust-version"].as_str().expect("rust-version").to_owned();
    let readme = read("README.md");
    assert!(readme.contains(&format!("{promised} or later")), "the README promises another version than {promised}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = finish(Command::new(cargo).current_dir(root()).args([
        "metadata",
        "--offline",
        "--locked",
        "--format-version=1",
        "--filter-platform",
        &target,
    ]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let used: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    let mut newer = Vec::new();
    let mut checked = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let Some(needs) = package["rust_version"].as_str().filter(|_| used.contains(package["id"].as_str().unwrap()))
        else {
            continue;
        };
        checked += 1;
        if version(needs) > version(&promised) {
            newer.push(format!("{} {} needs {needs}", package["name"], package["version"]));
        }
    }
    assert!(checked > 50, "{checked}");
    assert!(newer.is_empty(), "rust-version is {promised}, but {}", newer.join(", "));
}
