//! What fingers trained on ss, netstat and lsof type, as words of this program.
//!
//! Input: the words of a command line. Output: the words that clap parses, with what was left out; or the command to
//! type instead. Words with a meaning of their own here keep it.

use std::ffi::OsString;

/// The words to parse.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub words: Vec<OsString>,
    /// `-u` was left out.
    pub without_udp: bool,
}

/// Letters that mean `list` when no command is given.
const LIST_LETTERS: &str = "tanplimoeHcu";
/// Letters of `list` that take no value: only a word made of these is a cluster of ss or netstat.
const PLAIN_LETTERS: &str = "tanplimoeH46uWvs";
/// Letters that say which sockets or what to show: `-u` beside one of these is a habit, alone it is a wish for UDP.
const BESIDE_UDP: &str = "tanpl";

/// Reads a command line.
///
/// # Errors
/// What to type instead, where the words belong to lsof or to an action that does not exist here.
pub(crate) fn read(args: &[OsString]) -> Result<Words, String> {
    let text: Vec<&str> = args.iter().skip(1).map(|a| a.to_str().unwrap_or("\u{fffd}")).collect();
    let command = text.first().copied().filter(|w| !w.starts_with('-'));
    if command.is_none_or(|c| c == "list") {
        let own = &text[usize::from(command.is_some())..];
        if let Some(instead) = lsof(own) {
            return Err(format!("these are arguments of lsof; type `{instead}`"));
        }
        if own.contains(&"-K") || own.contains(&"--kill") {
            return Err("tcpstate ends no connection: end its process (`tcpstate list -p` names it), or type \
                        `ss -K` with the same filter"
                .to_owned());
        }
    }
    let mut words = args.to_vec();
    let mut without_udp = false;
    if let Some(command) = command {
        if command == "list" {
            without_udp = clean(&mut words, 2);
        }
        return Ok(Words { words, without_udp });
    }
    let at = 1.min(words.len());
    match shorthand(&text) {
        Shorthand::List => {
            words.insert(at, "list".into());
            without_udp = clean(&mut words, 2);
        }
        Shorthand::Statistics => {
            words = [words[0].clone(), "summary".into()].into_iter().chain(families(&words)).collect();
        }
        Shorthand::Continuous => {
            words = vec![words[0].clone(), "watch".into(), "--plain".into()];
        }
        Shorthand::Program => {}
        Shorthand::Summary => words.insert(at, "summary".into()),
    }
    Ok(Words { words, without_udp })
}

enum Shorthand {
    /// Letters of ss and netstat.
    List,
    /// `-s` without states.
    Statistics,
    /// `-c` of netstat.
    Continuous,
    /// Help and version of the program.
    Program,
    /// Nothing, or flags of `summary`.
    Summary,
}

fn shorthand(text: &[&str]) -> Shorthand {
    if text.first().is_some_and(|w| matches!(*w, "-h" | "--help" | "-V" | "--version")) {
        return Shorthand::Program;
    }
    let value_after = |at: usize| text.get(at + 1).is_some_and(|next| !next.starts_with('-'));
    for (at, word) in text.iter().enumerate() {
        let Some(letters) = cluster(word) else { continue };
        if letters.ends_with('c') && !value_after(at) {
            return Shorthand::Continuous;
        }
        if letters.contains('s') && !value_after(at) && letters.chars().all(|c| "satnW46".contains(c)) {
            return Shorthand::Statistics;
        }
    }
    let is_list = |word: &&str| cluster(word).is_some_and(|l| l.contains(|c| LIST_LETTERS.contains(c)));
    let is_filter = |word: &&str| !word.starts_with('-');
    let is_family = |word: &&str| matches!(*word, "-4" | "-6");
    let only_families = !text.is_empty() && text.iter().all(|w| is_family(w) || is_filter(w));
    if text.iter().any(is_list) || only_families { Shorthand::List } else { Shorthand::Summary }
}

/// The letters of `-tlnp`; `None` for a long flag and for letters that nobody joins.
fn cluster(word: &str) -> Option<&str> {
    let letters = word.strip_prefix('-').filter(|l| !l.is_empty() && !l.starts_with('-'))?;
    letters.chars().all(|c| PLAIN_LETTERS.contains(c) || c == 'c').then_some(letters)
}

/// Takes letters out that say nothing here: `-W` and `-v` of netstat, which are always so, and `-u` beside TCP's. Says
/// whether a `-u` went.
fn clean(words: &mut Vec<OsString>, from: usize) -> bool {
    let joined: String = words.iter().skip(from).filter_map(|w| w.to_str().and_then(cluster)).collect();
    let drops_udp = joined.contains('u') && joined.contains(|c| BESIDE_UDP.contains(c));
    let mut kept: Vec<OsString> = Vec::with_capacity(words.len());
    for (at, word) in words.drain(..).enumerate() {
        // `-state` behind these is a column, the largest first.
        let is_value = kept.last().is_some_and(|w| w == "--sort" || w == "--columns" || w == "-c");
        let is_letters = |l: &&str| at >= from && !is_value && !l.contains('c');
        let Some(letters) = word.to_str().and_then(cluster).filter(is_letters) else {
            kept.push(word);
            continue;
        };
        let mut seen = String::new();
        for letter in letters.chars() {
            // Twice is as good as once: `-ee`.
            if !(matches!(letter, 'W' | 'v') || drops_udp && letter == 'u' || seen.contains(letter)) {
                seen.push(letter);
            }
        }
        if !seen.is_empty() {
            kept.push(format!("-{seen}").into());
        }
    }
    *words = kept;
    drops_udp
}

/// The words but the first; of letters only the families, which mean something to `summary`.
fn families(words: &[OsString]) -> Vec<OsString> {
    let strip = |word: &OsString| match word.to_str().and_then(cluster) {
        Some(letters) => {
            let left: String = letters.chars().filter(|c| "46".contains(*c)).collect();
            (!left.is_empty()).then(|| format!("-{left}").into())
        }
        None => Some(word.clone()),
    };
    words.iter().skip(1).filter_map(strip).collect()
}

/// What to type instead of words of lsof.
fn lsof(text: &[&str]) -> Option<String> {
    let is_internet = |w: &str| w.starts_with(':') || w.starts_with('@') || w.to_ascii_lowercase().starts_with("tcp");
    let mut is_lsof = false;
    let (mut parts, mut at) = (vec!["tcpstate list".to_owned()], 0);
    while let Some(word) = text.get(at) {
        at += 1;
        let next = text.get(at).copied();
        if matches!(*word, "-nP" | "-Pn" | "-P") {
            is_lsof = true;
        } else if let Some(states) = word.strip_prefix("-sTCP:") {
            is_lsof = true;
            parts.push(format!("--state {}", states.to_ascii_lowercase()));
        } else if let Some(internet) = word.strip_prefix("-i").filter(|w| is_internet(w)) {
            is_lsof = true;
            parts.extend(internet_address(internet));
        } else if let Some(internet) =
            next.filter(|next| word.ends_with('i') && word.starts_with('-') && is_internet(next))
        {
            is_lsof = true;
            at += 1;
            parts.extend(internet_address(internet));
        } else if let Some(pid) = next.filter(|next| *word == "-p" && next.bytes().all(|b| b.is_ascii_digit())) {
            at += 1;
            parts.push(format!("--pid {pid}"));
        } else if let Some(name) = next.filter(|next| *word == "-c" && !next.starts_with('-')) {
            at += 1;
            parts.push(format!("--process {name}"));
        } else if let Some(user) = next.filter(|next| *word == "-u" && !next.starts_with('-')) {
            at += 1;
            parts.push(format!("--user {user}"));
        }
    }
    is_lsof.then(|| parts.join(" "))
}

/// `TCP@10.0.0.1:443` of lsof.
fn internet_address(text: &str) -> Option<String> {
    let rest = if text.get(..3).is_some_and(|t| t.eq_ignore_ascii_case("tcp")) { &text[3..] } else { text };
    match rest.strip_prefix('@') {
        Some(host) => Some(format!("'src {host} or dst {host}'")),
        None => rest.strip_prefix(':').map(|ports| format!("--port {ports}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<String, String> {
        let args: Vec<OsString> =
            std::iter::once("tcpstate").chain(text.split_whitespace()).map(OsString::from).collect();
        let read = read(&args)?;
        let joined: Vec<String> = read.words.into_iter().skip(1).map(|w| w.into_string().unwrap()).collect();
        Ok(joined.join(" ") + if read.without_udp { " (no udp)" } else { "" })
    }

    #[test]
    fn letters_without_a_command_are_a_list() {
        for (typed, meant) in [
            ("", "summary"),
            ("--json", "summary --json"),
            ("-N web", "summary -N web"),
            ("--help", "--help"),
            ("list -l", "list -l"),
            ("-tlnp", "list -tlnp"),
            ("-plant", "list -plant"),
            ("-tan", "list -tan"),
            ("-t -a -n", "list -t -a -n"),
            ("-l", "list -l"),
            ("-4 -tln", "list -4 -tln"),
            ("-tn state established", "list -tn state established"),
            ("-tulnp", "list -tlnp (no udp)"),
            ("-tulpen", "list -tlpen (no udp)"),
            ("-antup", "list -antp (no udp)"),
            ("list -tunap", "list -tnap (no udp)"),
            ("list -u", "list -u"),
            ("list -t --sort -state", "list -t --sort -state"),
            ("-u", "list -u"),
            ("-tnW", "list -tn"),
            ("-tnee", "list -tne"),
            ("-s", "summary"),
            ("-st", "summary"),
            ("-s4", "summary -4"),
            ("-s established", "summary -s established"),
            ("-c", "watch --plain"),
            ("-tanc", "watch --plain"),
            ("-c state,peer", "list -c state,peer"),
            ("watch -i 1", "watch -i 1"),
            ("doctor -v", "doctor -v"),
        ] {
            assert_eq!(words(typed), Ok(meant.to_owned()), "{typed}");
        }
    }

    #[test]
    fn words_of_lsof_are_answered_with_the_command() {
        for (typed, instead) in [
            ("-i :443", "tcpstate list --port 443"),
            ("-i:443", "tcpstate list --port 443"),
            ("-i TCP:80,443 -sTCP:LISTEN", "tcpstate list --port 80,443 --state listen"),
            ("-iTCP -sTCP:LISTEN -nP", "tcpstate list --state listen"),
            ("-nP -iTCP", "tcpstate list"),
            ("-nPi :22", "tcpstate list --port 22"),
            ("list -i :443", "tcpstate list --port 443"),
            ("-i @10.0.0.1", "tcpstate list 'src 10.0.0.1 or dst 10.0.0.1'"),
            ("-nP -i TCP@10.0.0.1:443 -p 812", "tcpstate list 'src 10.0.0.1:443 or dst 10.0.0.1:443' --pid 812"),
        ] {
            let answer = words(typed).unwrap_err();
            assert!(answer.ends_with(&format!("type `{instead}`")), "{typed}: {answer}");
        }
        assert!(words("list -K dst 10.0.0.1").unwrap_err().contains("ss -K"));
    }
}
