//! Which sockets: the selection flags and the filter words as one [`Expr`].

use std::io::{self, Write};

use anyhow::{anyhow, bail};

use crate::cli::args::{Origin, Selection};
use crate::cli::env::Env;
use crate::cli::habits;
use crate::cli::session::Session;
use crate::collect::names::SystemNames;
use crate::collect::proc::processes;
use crate::filter::{self, End, Expr};
use crate::model::{Family, StateSet};

/// The expression that all flags and words together mean.
pub(crate) fn expression(selection: &Selection, names: &SystemNames) -> anyhow::Result<Expr> {
    let mut parts = Vec::new();
    if !selection.state.is_empty() {
        let either = selection.state.iter().fold(StateSet::EMPTY, |all, set| all.union(*set));
        parts.push(Expr::states(either));
    }
    if selection.listening {
        parts.push(Expr::states(StateSet::LISTEN));
    }
    if selection.ipv4 {
        parts.push(Expr::family(Family::V4));
    }
    if selection.ipv6 {
        parts.push(Expr::family(Family::V6));
    }
    if let Some(ports) = &selection.port {
        parts.push(Expr::parse_port(ports, names).map_err(|e| anyhow!("--port: {e}"))?);
    }
    for (flag, text, end) in [("--local", &selection.local, End::Local), ("--peer", &selection.peer, End::Peer)] {
        if let Some(text) = text {
            parts.push(Expr::parse_endpoint(text, end, names).map_err(|e| anyhow!("{flag}: {e}"))?);
        }
    }
    if let Some(pid) = selection.pid {
        parts.push(Expr::pid(pid));
    }
    if let Some(process) = &selection.process {
        parts.push(Expr::process(process));
    }
    if let Some(unit) = &selection.unit {
        parts.push(Expr::unit(unit));
    }
    if let Some(user) = &selection.user {
        parts.push(Expr::user(user, names).map_err(|e| anyhow!("--user: {e}"))?);
    }
    if !selection.filter.is_empty() {
        parts.push(filter::parse(&selection.filter.join(" "), names).map_err(anyhow::Error::new)?);
    }
    Ok(Expr::and(parts))
}

/// The same for a command line, where one word that is no expression may still be clear: an address, a port, a process.
/// Standard error says what it was taken for.
pub(crate) fn of_command_line(
    selection: &Selection,
    origin: &Origin,
    names: &SystemNames,
    env: &mut Env,
) -> anyhow::Result<Expr> {
    let members = [origin.container.as_deref().map(Expr::container), origin.pod.as_deref().map(Expr::pod)];
    let mut parts: Vec<Expr> = members.into_iter().flatten().collect();
    parts.push(of_words(selection, names, env)?);
    Ok(Expr::and(parts))
}

/// The same for each of several hosts, where a name of a user or an interface is another number on each.
pub(crate) fn of_each(
    selection: &Selection,
    origin: &Origin,
    sessions: &[Session],
    env: &mut Env,
) -> anyhow::Result<Vec<Expr>> {
    let (mut filters, mut stderr) = (Vec::with_capacity(sessions.len()), None);
    for session in sessions {
        filters.push(of_command_line(selection, origin, &session.names, env));
        // What a word was taken for is said once.
        stderr.get_or_insert_with(|| std::mem::replace(&mut env.stderr, Box::new(io::sink())));
    }
    if let Some(stderr) = stderr {
        env.stderr = stderr;
    }
    filters.into_iter().collect()
}

fn of_words(selection: &Selection, names: &SystemNames, env: &mut Env) -> anyhow::Result<Expr> {
    let error = match expression(selection, names) {
        Ok(expr) => return Ok(expr),
        Err(error) => error,
    };
    let [word] = selection.filter.as_slice() else { return Err(error) };
    let Some(guess) = guess(word, names, processes::is_running) else {
        if let Some(answer) = habits::filter(word) {
            bail!("`{word}` is no filter: {answer}");
        }
        // Under a single word no caret is needed.
        return Err(match error.downcast_ref::<filter::ParseError>() {
            Some(e) if e.meant.is_none() && is_plain(word) => {
                anyhow!("filter: {}, nor the name of a running process; see `tcpstate list --help`", e.found)
            }
            Some(e) => anyhow!("{}", e.one_line()),
            None => error,
        });
    };
    writeln!(env.stderr, "tcpstate: `{word}` is taken for {}", guess.said)?;
    let rest = Selection { filter: Vec::new(), ..selection.clone() };
    Ok(Expr::and(vec![expression(&rest, names)?, guess.expr]))
}

/// Whether words that no command precedes are a filter, or one word that would be taken for one.
pub(crate) fn is_filter(words: &[&str]) -> bool {
    let names = SystemNames::default();
    filter::parse(&words.join(" "), &names).is_ok()
        || matches!(words, [word] if guess(word, &names, processes::is_running).is_some())
}

/// Whether it has no letter of the filter language.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What a single word probably means.
struct Guess {
    expr: Expr,
    said: String,
}

fn guess(word: &str, names: &SystemNames, is_running: impl Fn(&str) -> bool) -> Option<Guess> {
    let ports = |text: &str| Expr::parse_port(text, names).ok();
    let is_address = |c: char| c.is_ascii_hexdigit() || ".:/[]*%".contains(c);
    if let Some(expr) = word.strip_prefix(':').filter(|rest| !rest.contains(':')).and_then(ports) {
        return Some(Guess { expr, said: format!("a port of either end: --port {}", &word[1..]) });
    }
    if let Ok(number) = word.parse::<u32>() {
        let Ok(port) = u16::try_from(number) else {
            return Some(Guess { expr: Expr::pid(number), said: format!("a process: --pid {number}") });
        };
        let said = format!("a port: --port {port}; for a process type --pid {port}");
        return Some(Guess { expr: ports(word)?, said });
    }
    if word.contains(['.', ':']) && word.chars().all(is_address) {
        let ends = [End::Local, End::Peer].map(|end| Expr::parse_endpoint(word, end, names).ok());
        let [Some(local), Some(peer)] = ends else { return None };
        return Some(Guess {
            expr: Expr::or(vec![local, peer]),
            said: format!("an address: src {word} or dst {word}"),
        });
    }
    if word.eq_ignore_ascii_case("localhost") {
        let ends = ["127.0.0.0/8", "::1"].into_iter().flat_map(|net| [(net, End::Local), (net, End::Peer)]);
        let parts = ends.filter_map(|(net, end)| Expr::parse_endpoint(net, end, names).ok()).collect();
        return Some(Guess {
            expr: Expr::or(parts),
            said: "this host at either end: src or dst 127.0.0.0/8 or ::1".into(),
        });
    }
    if is_running(word) {
        return Some(Guess { expr: Expr::process(word), said: format!("the name of a process: --process {word}") });
    }
    Some(Guess { expr: ports(word)?, said: format!("a service: --port {word}") })
}

/// A filter as typed into an input line, or a word that is taken for one as on a command line.
pub(crate) fn typed(text: &str) -> anyhow::Result<Expr> {
    let word = text.trim();
    match filter::parse(word, &SystemNames::default()) {
        Ok(expr) => Ok(expr),
        Err(error) => match guess(word, &SystemNames::default(), processes::is_running) {
            Some(guess) => Ok(guess.expr),
            // The line below the input is short.
            None if is_plain(word) && error.meant.is_none() => {
                Err(anyhow!("`{word}` is no filter, port, address or running process"))
            }
            None => Err(anyhow!("{}", error.one_line())),
        },
    }
}

/// A filter.
#[cfg(test)]
pub(crate) fn parse(text: &str) -> anyhow::Result<Expr> {
    filter::parse(text, &SystemNames::default()).map_err(|e| anyhow!("{}", e.one_line()))
}

/// Whether a watch can track it: a watch must see rows that do not match, too.
pub(crate) fn can_be_watched(expr: &Expr, owners: bool) -> anyhow::Result<()> {
    if expr.is_kernel_only() {
        bail!("filter: only the kernel knows `autobound`, and it cannot be followed; use `tcpstate list`");
    }
    if !owners && expr.needs().owners {
        bail!("filter: it needs socket owners; remove --no-owners");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    #[test]
    fn flags_and_words_join() {
        let selection = Selection {
            state: vec![StateSet::of(&[State::TimeWait]), StateSet::of(&[State::CloseWait])],
            port: Some("443".into()),
            filter: vec!["dst".into(), "10.0.0.0/8".into()],
            process: Some("ngin*".into()),
            ..Selection::default()
        };
        let text = expression(&selection, &SystemNames::default()).unwrap().to_string();
        assert_eq!(parse(&text).unwrap(), expression(&selection, &SystemNames::default()).unwrap(), "{text}");
        assert!(expression(&Selection::default(), &SystemNames::default()).unwrap().is_all());
        let wrong = |selection: Selection| expression(&selection, &SystemNames::default()).unwrap_err().to_string();
        assert!(wrong(Selection { filter: vec!["dport".into()], ..Selection::default() }).contains("dport"));
    }

    #[test]
    fn a_single_word_is_taken_for_what_it_looks_like() {
        let names = SystemNames::default();
        let meant = |word: &str| {
            let guess = guess(word, &names, |name| name == "nginx")?;
            Some((guess.expr, guess.said))
        };
        for (word, filter, said) in [
            (":443", "sport = 443 or dport = 443", "--port 443"),
            ("443", "sport = 443 or dport = 443", "--pid 443"),
            ("70000", "pid = 70000", "--pid 70000"),
            ("10.0.0.1", "src 10.0.0.1 or dst 10.0.0.1", "dst 10.0.0.1"),
            ("10.0.0.0/8", "src 10.0.0.0/8 or dst 10.0.0.0/8", "src 10.0.0.0/8"),
            ("10.0.0.1:443", "src 10.0.0.1:443 or dst 10.0.0.1:443", "an address"),
            ("[fd00::1]:443", "src [fd00::1]:443 or dst [fd00::1]:443", "an address"),
            ("nginx", "process = nginx", "--process nginx"),
            ("::1", "src ::1 or dst ::1", "an address"),
            ("localhost", "src 127.0.0.0/8 or dst 127.0.0.0/8 or src ::1 or dst ::1", "this host"),
        ] {
            let (expr, told) = meant(word).unwrap_or_else(|| panic!("{word}"));
            assert_eq!(expr.to_string(), parse(filter).unwrap().to_string(), "{word}");
            assert!(told.contains(said), "{word}: {told}");
        }
        assert_eq!(typed("8080").unwrap(), parse("sport = 8080 or dport = 8080").unwrap());
        assert_eq!(typed(" dport = 443 ").unwrap(), parse("dport = 443").unwrap());
        let said = typed("no-such-word").unwrap_err().to_string();
        assert_eq!(said, "`no-such-word` is no filter, port, address or running process");
        // A misspelt predicate stays an error.
        for word in ["recvq", "ngnix", "10.0.0.300", "state="] {
            assert!(meant(word).is_none(), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let outcome = |text: &str, owners| can_be_watched(&parse(text).unwrap(), owners).map_err(|e| e.to_string());
        assert_eq!(outcome("state tw and dport = 443 and recv-q > 0", false), Ok(()));
        assert!(outcome("autobound and dport = 443", true).unwrap_err().contains("autobound"));
        assert!(outcome("process = nginx", false).unwrap_err().contains("--no-owners"));
        assert_eq!(outcome("process = nginx", true), Ok(()));
    }
}
