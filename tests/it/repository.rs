//! What belongs to the repository and to the package: files of the root, published files, dependencies, the changelog.
//! Input: the index of git, `cargo package --list`, Cargo.toml. Output: each name that does not belong. Not here: what the
//! files say ([`crate::tidy`]).

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::finish;
use crate::tidy::{read, root, rust_files};

/// What may be in the root of the repository. A note, a log or a picture does not belong here.
const ROOT: &[&str] = &[
    ".ci",
    ".editorconfig",
    ".gitattributes",
    ".github",
    ".gitignore",
    "CODE_OF_CONDUCT.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "docs",
    "examples",
    "packaging",
    "rustfmt.toml",
    "src",
    "tests",
];

/// What is in the root: the files that git tracks, or all where this is no clone, without what cargo puts there.
fn in_the_root() -> BTreeSet<String> {
    let tracked = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output();
    if let Ok(output) = tracked
        && output.status.success()
        && !output.stdout.is_empty()
    {
        let paths = String::from_utf8(output.stdout).expect("paths in UTF-8");
        return paths.split('\0').filter_map(|path| path.split('/').next()).map(str::to_owned).collect();
    }
    let of_cargo = [".git", "target", "Cargo.toml.orig", ".cargo_vcs_info.json", ".cargo-ok"];
    std::fs::read_dir(root())
        .expect("the root")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"))
        .filter(|name| !of_cargo.contains(&name.as_str()))
        .collect()
}

#[test]
fn nothing_is_in_the_root_that_does_not_belong_there() {
    let there = in_the_root();
    let strange: Vec<&String> =
        there.iter().filter(|name| !name.is_empty() && !ROOT.contains(&name.as_str())).collect();
    assert!(there.contains("Cargo.toml") && strange.is_empty(), "not in the list `ROOT` of this file: {strange:?}");
}

/// What is published: each file is below one of these (or is one), and each of these has a file.
const PACKAGE: &[(&str, &str)] = &[
    ("Cargo.lock", ""),
    ("Cargo.toml", ""),
    ("Cargo.toml.orig", ""),
    ("LICENSE-APACHE", ""),
    ("LICENSE-MIT", ""),
    ("README.md", ""),
    ("benches/", ".rs"),
    ("clippy.toml", ""),
    ("docs/", ".md"),
    ("docs/man/", ".1"),
    ("docs/pictures/", ".svg"),
    ("docs/schema/", ".json"),
    ("examples/", ".rs"),
    ("packaging/", ".j2"),
    ("packaging/", ".json"),
    ("packaging/", ".libsonnet"),
    ("packaging/", ".md"),
    ("packaging/", ".service"),
    ("packaging/", ".sh"),
    ("packaging/", ".toml"),
    ("packaging/", ".yaml"),
    ("packaging/", ".yml"),
    ("packaging/Containerfile", ""),
    ("rustfmt.toml", ""),
    ("src/", ".rs"),
    ("src/", ".snap"),
    ("tests/", ".rs"),
    ("tests/page/", ".py"),
    ("tests/parquet/", ".py"),
    ("tests/it/", ".txt"),
    ("tests/it/", ".zst"),
    ("tests/truth/", ".md"),
    ("tests/truth/", ".py"),
    ("tests/truth/", ".sh"),
];

/// What is published only where there is any.
const PACKAGE_PERHAPS: &[(&str, &str)] = &[(".cargo_vcs_info.json", "")];

fn fits(path: &str, (start, end): (&str, &str)) -> bool {
    if end.is_empty() { path == start } else { path.starts_with(start) && path.ends_with(end) }
}

#[test]
fn the_package_has_what_is_expected_and_nothing_else() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output =
        finish(Command::new(cargo).current_dir(root()).args(["package", "--list", "--allow-dirty", "--offline"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).expect("paths in UTF-8");
    let files: Vec<&str> = list.lines().collect();
    let strange: Vec<&&str> =
        files.iter().filter(|f| !PACKAGE.iter().chain(PACKAGE_PERHAPS).any(|pattern| fits(f, *pattern))).collect();
    assert!(strange.is_empty(), "published, and not in the list `PACKAGE` of this file: {strange:?}");
    let missing: Vec<_> = PACKAGE.iter().filter(|pattern| !files.iter().any(|f| fits(f, **pattern))).collect();
    assert!(missing.is_empty(), "`include` of Cargo.toml leaves out: {missing:?}");
}

/// Whether Rust text names a crate: a path into it, or a `use` of it.
fn names_crate(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + name.len()..]);
            let imported = before.trim_end().ends_with("use") && !after.starts_with(is_word);
            // `model::name::` is a module of ours; `::name::` begins a path.
            let inside = before.strip_suffix("::").is_some_and(|b| b.ends_with(is_word));
            !before.ends_with(is_word) && !inside && (after.starts_with("::") || imported)
        })
    })
}

#[test]
fn every_dependency_is_used() {
    for (text, used) in [
        ("use winnow::Parser;", true),
        ("    let x = winnow::parse(y);", true),
        ("#[derive(winnow::Error)]", true),
        ("use winnow as w;", true),
        ("use ::winnow::{a, b};", true),
        ("// winnow::Parser", false),
        ("crate::winnow::f()", false),
        ("my_winnow::f(winnow)", false),
    ] {
        assert_eq!(names_crate(text, "winnow"), used, "{text}");
    }
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let texts = |folders: &[&str]| -> Vec<String> {
        folders.iter().filter(|f| root().join(f).is_dir()).flat_map(|f| rust_files(f)).map(read).collect()
    };
    let mut unused = Vec::new();
    for (section, texts) in
        [("dependencies", texts(&["src"])), ("dev-dependencies", texts(&["src", "tests", "benches", "examples"]))]
    {
        for package in manifest[section].as_table().expect("a table").keys() {
            let name = package.replace('-', "_");
            if !texts.iter().any(|text| names_crate(text, &name)) {
                unused.push(format!("{package} in [{section}]"));
            }
        }
    }
    assert!(unused.is_empty(), "no file uses {}: remove it from Cargo.toml", unused.join(", "));
}

#[test]
fn the_changelog_keeps_its_form() {
    let text = read("docs/CHANGELOG.md");
    let versions: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    let current = format!("[{}]", env!("CARGO_PKG_VERSION"));
    assert_eq!(versions.first(), Some(&"[Unreleased]"));
    assert!(versions.get(1).is_some_and(|v| v.starts_with(&current)), "the version after Unreleased is {current}");
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    let strange: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("### ")).filter(|kind| !kinds.contains(kind)).collect();
    assert!(strange.is_empty(), "headings that Keep a Changelog does not have: {strange:?}");
    let below = text.split("\n## ").nth(1).unwrap_or_default();
    let loose = below.split("\n### ").next().unwrap_or_default().lines().any(|l| l.starts_with("- "));
    assert!(!loose, "a line of Unreleased is below no heading");
}
