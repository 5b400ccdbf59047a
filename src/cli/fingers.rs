//! What fingers trained on ss, netstat and lsof type, as words of this program.
//!
//! Input: the words of a command line. Output: the words that clap parses, with what was left out; or the command to
//! type instead. Words with a meaning of their own here keep it.

use std::ffi::OsString;

use crate::cli::habits;

/// The words to parse.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub words: Vec<OsString>,
    /// What was left out or taken for something else, for standard error.
    pub notes: Vec<String>,
}

/// Letters that mean `list` when no command is given.
const LIST_LETTERS: &str = "tanplimoeHcuW";
/// Letters of `list` that take no value: only a word made of these is a cluster of ss or netstat.
const PLAIN_LETTERS: &str = "tanplimoeH46uWOvs";
/// Letters that say which sockets or what to show: `-u` beside one of these is a habit, alone it is a wish for UDP.
const BESIDE_UDP: &str = "tanpl";

/// What is said when `-u` is left out.
const WITHOUT_UDP: &str = "-u: UDP is not shown, only TCP";
/// Long options that only `list` has and ss has too.
const LIST_LONGS: [&str; 16] = [
    "--tcp",
    "--all",
    "--listening",
    "--numeric",
    "--processes",
    "--info",
    "--memory",
    "--options",
    "--extended",
    "--no-header",
    "--format",
    "--columns",
    "--list-columns",
    "--exists",
    "--oneline",
    "--wide",
];
/// Words that begin a filter.
const FILTER_BEGINS: [&str; 9] = ["state", "exclude", "dst", "src", "dport", "sport", "dev", "(", "not"];

/// Reads a command line.
///
/// # Errors
/// What to type instead, where the words belong to lsof or to an action that does not exist here.
pub(crate) fn read(args: &[OsString]) -> Result<Words, String> {
    let text: Vec<&str> = args.iter().skip(1).map(|a| a.to_str().unwrap_or("\u{fffd}")).collect();
    if let Some(words) = help(args, &text) {
        return Ok(Words { words, notes: Vec::new() });
    }
    if let [tool @ ("ss" | "netstat" | "lsof"), rest @ ..] = &text[..] {
        let instead = if *tool == "lsof" { lsof(rest, true) } else { None };
        let instead = instead.unwrap_or_else(|| format!("tcpstate {}", rest.join(" ")).trim_end().to_owned());
        return Err(format!("`{tool}` is not a command; type `{instead}`"));
    }
    let command = text.first().copied().filter(|w| !w.starts_with('-'));
    if command.is_none_or(|c| c == "list") {
        let own = &text[usize::from(command.is_some())..];
        let is_udp = |w: &str| w.to_ascii_lowercase().starts_with("udp");
        if own.iter().any(|w| w.strip_prefix("-i").is_some_and(is_udp))
            || own.windows(2).any(|w| w[0] == "-i" && is_udp(w[1]))
        {
            return Err("these are arguments of lsof for UDP, and tcpstate shows TCP only; leave them out".to_owned());
        }
        if let Some(instead) = lsof(own, false) {
            return Err(format!("these are arguments of lsof; type `{instead}`"));
        }
        if own.contains(&"-K") || own.contains(&"--kill") {
            return Err(habits::ENDS.to_owned());
        }
    }
    let mut words = args.to_vec();
    let mut notes = Vec::new();
    if let Some(command) = command {
        if command == "list" {
            clean(&mut words, 2, &mut notes);
        }
        return Ok(Words { words, notes });
    }
    let at = 1.min(words.len());
    match shorthand(&text) {
        Shorthand::List => {
            words.insert(at, "list".into());
            clean(&mut words, 2, &mut notes);
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
    Ok(Words { words, notes })
}

/// `COMMAND help` and `help --help`, which clap takes for a filter and a command.
fn help(args: &[OsString], text: &[&str]) -> Option<Vec<OsString>> {
    let command = match text {
        ["help", "-h" | "--help" | "help"] => return Some(vec![args[0].clone(), "--help".into()]),
        [command, "help"] if !command.starts_with('-') => *command,
        _ => return None,
    };
    Some(vec![args[0].clone(), "help".into(), command.into()])
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
        if letters.contains('s') && !value_after(at) && letters.chars().all(|c| "satnuW46".contains(c)) {
            return Shorthand::Statistics;
        }
    }
    let is_list = |word: &&str| {
        cluster(word).is_some_and(|l| l.contains(|c| LIST_LETTERS.contains(c)))
            || is_joined(word)
            || LIST_LONGS.contains(&word.split('=').next().unwrap_or(word))
    };
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

/// Letters of ss of which some are unknown here: `-tZ`.
fn is_joined(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or_default();
    let takes_value = |c: char| "Ncs".contains(c);
    letters.len() > 1
        && letters.bytes().all(|b| b.is_ascii_alphanumeric())
        && !letters.starts_with(takes_value)
        && letters.contains(|c| BESIDE_UDP.contains(c))
}

/// Takes letters out that say nothing here: `-O` and `-v`, which are always so, and `-u` beside TCP's. `-p 812` is
/// a process.
fn clean(words: &mut Vec<OsString>, from: usize, notes: &mut Vec<String>) {
    let joined: String = words.iter().skip(from).filter_map(|w| w.to_str().and_then(cluster)).collect();
    let drops_udp = joined.contains('u') && joined.contains(|c| BESIDE_UDP.contains(c));
    let mut kept: Vec<OsString> = Vec::with_capacity(words.len());
    let is_number = |word: &OsString| word.to_str().is_some_and(|w| w.bytes().all(|b| b.is_ascii_digit()));
    let mut typed = std::mem::take(words).into_iter().enumerate().peekable();
    while let Some((at, word)) = typed.next() {
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
            if !(matches!(letter, 'v' | 'O') || drops_udp && letter == 'u' || seen.contains(letter)) {
                seen.push(letter);
            }
        }
        if !seen.is_empty() {
            kept.push(format!("-{seen}").into());
        }
        if letters.ends_with('p')
            && let Some((_, pid)) = typed.next_if(|(_, next)| is_number(next))
        {
            notes.push(format!("`-p {0}` is taken for --pid {0}", pid.to_string_lossy()));
            kept.extend(["--pid".into(), pid]);
        }
    }
    *words = kept;
    if drops_udp {
        notes.push(WITHOUT_UDP.to_owned());
    }
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

/// What to type instead of words of lsof; `is_lsof`: that they are is known.
fn lsof(text: &[&str], mut is_lsof: bool) -> Option<String> {
    let is_internet = |w: &str| {
        let w = any_version(w);
        w.starts_with(':') || w.starts_with('@') || w.to_ascii_lowercase().starts_with("tcp")
    };
    let (mut parts, mut at) = (vec!["tcpstate list".to_owned()], 0);
    while let Some(word) = text.get(at) {
        at += 1;
        let next = text.get(at).copied();
        if *word == "-P" || is_joined(word) && word.contains('P') && !next.is_some_and(is_internet) {
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
            // With `-i` no column is meant.
            is_lsof |= text.contains(&"-i");
            at += 1;
            parts.push(format!("--process {name}"));
        } else if let Some(user) =
            next.filter(|next| *word == "-u" && !next.starts_with('-') && !FILTER_BEGINS.contains(next))
        {
            is_lsof = true;
            at += 1;
            parts.push(format!("--user {user}"));
        }
    }
    is_lsof.then(|| parts.join(" "))
}

/// `TCP:443` of `6TCP:443`; a bare `4` or `6` is a letter of ss too.
fn any_version(text: &str) -> &str {
    text.strip_prefix(['4', '6']).filter(|rest| !rest.is_empty()).unwrap_or(text)
}

/// `TCP@10.0.0.1:443` of lsof.
fn internet_address(text: &str) -> Option<String> {
    let text = any_version(text);
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
        let notes = read.notes.iter().map(|note| if note == WITHOUT_UDP { " (no udp)" } else { " (taken)" });
        Ok(joined.join(" ") + &notes.collect::<String>())
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
            ("-tnW", "list -tnW"),
            ("-W", "list -W"),
            ("-tnO", "list -tn"),
            ("-tZ", "list -tZ"),
            ("--tcp --numeric --listening", "list --tcp --numeric --listening"),
            ("--columns=state", "list --columns=state"),
            ("-Nall", "summary -Nall"),
            ("-p 812", "list -p --pid 812 (taken)"),
            ("list -tnp 812 -H", "list -tnp --pid 812 -H (taken)"),
            ("list --sort -p 812", "list --sort -p 812"),
            ("list help", "help list"),
            ("help -h", "--help"),
            ("-stu", "summary"),
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
            ("-nPi", "tcpstate list"),
            ("-i6TCP:443", "tcpstate list --port 443"),
            ("-i 4TCP -P", "tcpstate list"),
            ("-c nginx -i", "tcpstate list --process nginx"),
            ("-u root -i", "tcpstate list --user root"),
            ("lsof -p 812", "tcpstate list --pid 812"),
            ("netstat -tlnp", "tcpstate -tlnp"),
            ("-i @10.0.0.1", "tcpstate list 'src 10.0.0.1 or dst 10.0.0.1'"),
            ("-nP -i TCP@10.0.0.1:443 -p 812", "tcpstate list 'src 10.0.0.1:443 or dst 10.0.0.1:443' --pid 812"),
        ] {
            let answer = words(typed).unwrap_err();
            assert!(answer.ends_with(&format!("type `{instead}`")), "{typed}: {answer}");
        }
        assert!(words("list -K dst 10.0.0.1").unwrap_err().contains("tcpstate kill"));
    }
}
