//! No two files of a folder use each other, over whichever others. Input: the paths in the program's lines. Output: the
//! files of every circle. Not here: who may use which folder (`tidy`).
//!
//! A module may have a reason: then its head says ``Circle with `name`: why``, and its use of `name` does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tidy::{program_lines, read, rust_files, test_files};

/// The modules from `src` down to a file: `["collect", "netlink", "stream"]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().skip(1).map(|p| p.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Every path of a text that begins at the crate, as words; `super` and `self` count from `module`.
fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            if text[..at].ends_with(|c| is_word(c) || c == ':') {
                continue;
            }
            let mut base: Vec<String> = if root == "crate::" { Vec::new() } else { module.to_vec() };
            let mut rest = &text[at + root.len()..];
            if root == "super::" {
                base.pop();
                while let Some(more) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = more;
                }
            }
            expand(rest, &base, &mut found);
        }
    }
    found
}

/// Reads `a::{b::C, d}` after `base`; returns what follows.
fn expand<'t>(text: &'t str, base: &[String], found: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut list) = text.strip_prefix('{') {
        loop {
            list = expand(list, base, found).trim_start();
            match list.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => list = more,
                Some(more) => return more.trim_start().strip_prefix('}').unwrap_or(more),
                None => return list.strip_prefix('}').unwrap_or(list),
            }
        }
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut path = base.to_vec();
    if word != "self" && !word.is_empty() {
        path.push(word.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(below) if !word.is_empty() => expand(below, &path, found),
        _ => {
            found.push(path);
            match rest.trim_start().strip_prefix("as ") {
                Some(name) => name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'),
                None => rest,
            }
        }
    }
}

/// Keeps the members of circles, and what lies between two circles.
fn circles(mut uses: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let before = uses.len();
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        for used in uses.values_mut() {
            used.retain(|u| left.contains(u));
        }
        let used: BTreeSet<String> = uses.values().flatten().cloned().collect();
        uses.retain(|name, to| !to.is_empty() && used.contains(name));
        if uses.len() == before {
            return uses;
        }
    }
}

#[test]
fn no_files_of_a_folder_use_each_other_without_a_reason() {
    let files = rust_files("src");
    let tests = test_files(&files);
    // By folder, then by the file or folder in it.
    let mut folders: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let programs: Vec<(Vec<String>, String)> =
        files.iter().filter(|f| !tests.contains(*f)).map(|f| (module_of(f), read(f))).collect();
    for (module, _) in &programs {
        for depth in 1..module.len() {
            folders.entry(module[..depth].to_vec()).or_default().entry(module[depth].clone()).or_default();
        }
    }
    let mut checked = 0;
    for (module, text) in &programs {
        let lines = program_lines(text);
        let program = lines.iter().map(|(_, l)| *l).collect::<Vec<_>>().join("\n");
        let excuses: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("//! Circle with ")?.split_once("`: "))
            .filter(|(_, why)| why.len() > 20)
            .map(|(names, _)| names)
            .collect();
        let excused =
            |name: &str| excuses.iter().any(|names| names.split(", ").any(|word| word.trim_matches('`') == name));
        for path in paths(&program, module) {
            for depth in 1..module.len().min(path.len()) {
                let (Some(from), Some(to)) = (module.get(depth), path.get(depth)) else { continue };
                if path[..depth] != module[..depth] || from == to || excused(to) {
                    continue;
                }
                let folder = folders.get_mut(&module[..depth]).unwrap();
                if folder.contains_key(to) {
                    checked += 1;
                    folder.get_mut(from).unwrap().insert(to.clone());
                }
            }
        }
    }
    assert!(checked > 200, "{checked}");
    let found: Vec<String> = folders
        .into_iter()
        .map(|(folder, uses)| (folder, circles(uses)))
        .filter(|(_, uses)| !uses.is_empty())
        .map(|(folder, uses)| format!("src/{}: {uses:?}", folder.join("/")))
        .collect();
    assert!(found.is_empty(), "these use each other:\n{}", found.join("\n"));
}

#[test]
fn paths_are_found_in_every_form() {
    let module: Vec<String> = ["collect", "netlink", "stream"].map(str::to_owned).to_vec();
    let found = |text: &str| -> Vec<String> { paths(text, &module).iter().map(|p| p.join("::")).collect() };
    assert_eq!(found("use crate::collect::poll::Poll;"), ["collect::poll::Poll"]);
    assert_eq!(
        found("use crate::collect::{self, a::{B as C, d}, e};"),
        ["collect", "collect::a::B", "collect::a::d", "collect::e"]
    );
    assert_eq!(found("super::decode::row(x)"), ["collect::netlink::decode::row"]);
    assert_eq!(found("let x = super::super::poll::Poll::new();"), ["collect::poll::Poll::new"]);
    assert_eq!(found("use mycrate::collect::poll;"), [""; 0]);
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            uses.entry((*to).to_owned()).or_default();
        }
        circles(uses).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(uses(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("c", "e")]), ["a", "b", "c"]);
    assert_eq!(uses(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
}
