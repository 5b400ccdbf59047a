//! The grammar: text to expression.
//!
//! Input: the command-line arguments joined by spaces, and a [`Resolver`] for names. Output: an [`Expr`] or a
//! [`ParseError`]. It never panics.

use std::ops::Range;

use super::expr::{Cmp, Col, End, Expr, Pattern, Special, Test};
use super::lex::{Tok, Token, lex};
use super::{ParseError, Problem, Resolver, show, value};
use crate::model::column::{self, COLUMNS, Kind, Type, similar};
use crate::model::{Family, State, StateSet, TimerKind};

/// Longest text of a filter.
pub const MAX_TEXT_BYTES: usize = 64 << 10;
/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 200;

/// Predicates that are not columns.
const WORDS: [&str; 12] =
    ["src", "dst", "sport", "dport", "port", "fwmark", "autobound", "exclude", "excl", "all", "none", "not"];

/// Parses a filter. Empty text matches every row.
///
/// # Errors
/// What is wrong, where, and what would be valid there.
pub fn parse(text: &str, resolver: &dyn Resolver) -> Result<Expr, ParseError> {
    let fail = |at: Range<usize>, problem: Problem| ParseError {
        text: text.to_owned(),
        at,
        found: problem.found,
        expected: problem.expected,
        meant: problem.meant,
    };
    if text.len() > MAX_TEXT_BYTES {
        let found = format!("the filter is {} bytes long", text.len());
        return Err(fail(text.len()..text.len(), Problem::new(found, format!("at most {MAX_TEXT_BYTES} bytes"))));
    }
    let tokens = lex(text).map_err(|(at, problem)| fail(at, problem))?;
    if tokens.is_empty() {
        return Ok(Expr::all());
    }
    let mut parser = Parser { tokens: &tokens, next: 0, end: text.trim_end().len(), depth: 0, resolver };
    parser
        .whole()
        .and_then(|expr| match parser.peek() {
            None => Ok(expr),
            Some(token) => Err((token.at.clone(), Problem::new("this `)` closes nothing", "and, or, or the end"))),
        })
        .map_err(|(at, problem)| fail(at, problem))
}

type Parsed<T> = Result<T, (Range<usize>, Problem)>;

/// A `state` or `exclude` clause.
enum Clause {
    Only(StateSet),
    Without(StateSet),
}

impl Clause {
    /// The states of a run of adjacent clauses: `state A state B` is either, `exclude C` removes C.
    fn after(self, before: Option<StateSet>) -> StateSet {
        match (self, before) {
            (Clause::Only(set), None) => set,
            (Clause::Without(set), None) => set.complement(),
            (Clause::Only(set), Some(before)) => before.union(set),
            (Clause::Without(set), Some(before)) => before.intersection(set.complement()),
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    /// The position of something missing.
    end: usize,
    depth: usize,
    resolver: &'a dyn Resolver,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next)
    }

    fn peek_after(&self) -> Option<&'a Tok> {
        self.tokens.get(self.next + 1).map(|t| &t.tok)
    }

    /// Takes the next token if it is this operator or keyword.
    fn take(&mut self, sign: &Tok, word: &str) -> Option<Range<usize>> {
        let token = self.peek()?;
        let hit = match &token.tok {
            Tok::Word { text, quoted: false } => {
                !word.is_empty() && (text == word || *text == word.to_ascii_uppercase())
            }
            other => other == sign,
        };
        hit.then(|| {
            self.next += 1;
            token.at.clone()
        })
    }

    fn here(&self) -> Range<usize> {
        self.peek().map_or(self.end..self.end, |t| t.at.clone())
    }

    /// The next token, for an error.
    fn found(&self) -> String {
        match self.peek().map(|t| &t.tok) {
            None => "the filter ends too early".into(),
            Some(Tok::Word { text, .. }) => format!("{} is not expected here", show(text)),
            Some(Tok::Open) => "`(` is not expected here".into(),
            Some(Tok::Close) => "`)` is not expected here".into(),
            Some(Tok::And) => "`and` is not expected here".into(),
            Some(Tok::Or) => "`or` is not expected here".into(),
            Some(Tok::Not) => "`not` is not expected here".into(),
            Some(Tok::Op(cmp)) => format!("`{}` is not expected here", cmp.sign()),
        }
    }

    fn unexpected<T>(&self, expected: &str) -> Parsed<T> {
        Err((self.here(), Problem::new(self.found(), expected)))
    }

    /// The whole filter. In ss (`misc/ss.c`, main) the state clauses in front are not part of the expression: they
    /// apply to all of it, so `state A x or y` is `state A and (x or y)`. With a word in between, as in `state A and
    /// x or y`, which ss rejects, they bind like every other test.
    fn whole(&mut self) -> Parsed<Expr> {
        let mut states = None;
        while let Some(clause) = self.state_clause()? {
            states = Some(clause.after(states));
        }
        match states {
            Some(states) if self.starts_a_part() => Ok(Expr::and(vec![Expr::states(states), self.or()?])),
            _ => {
                self.next = 0;
                self.or()
            }
        }
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.and()?];
        while self.take(&Tok::Or, "or").is_some() {
            parts.push(self.and()?);
        }
        Ok(Expr::or(parts))
    }

    /// Parts joined by `and` or by nothing. Adjacent state clauses add up.
    fn and(&mut self) -> Parsed<Expr> {
        let mut parts = Vec::new();
        let mut run: Option<StateSet> = None;
        let mut joined = true;
        loop {
            if let Some(clause) = self.state_clause()? {
                let before = run.filter(|_| !joined);
                let set = clause.after(before);
                if before.is_some() {
                    parts.pop();
                }
                parts.push(Expr::states(set));
                run = Some(set);
            } else {
                parts.push(self.not()?);
                run = None;
            }
            joined = self.take(&Tok::And, "and").is_some();
            if !joined && !self.starts_a_part() {
                return Ok(Expr::and(parts));
            }
        }
    }

    fn starts_a_part(&self) -> bool {
        match self.peek().map(|t| &t.tok) {
            Some(Tok::Word { text, quoted: false }) => !matches!(text.as_str(), "and" | "AND" | "or" | "OR"),
            Some(Tok::Word { .. } | Tok::Open | Tok::Not | Tok::Op(_)) => true,
            Some(Tok::Close | Tok::And | Tok::Or) | None => false,
        }
    }

    fn deeper(&mut self, at: Range<usize>) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH} levels of parentheses and `not`");
            return Err((at, Problem::new("the filter is nested too deeply", expected)));
        }
        Ok(())
    }

    fn not(&mut self) -> Parsed<Expr> {
        if let Some(at) = self.take(&Tok::Not, "not") {
            self.deeper(at)?;
            let inner = match self.state_clause()? {
                Some(Clause::Only(set)) => Expr::states(set),
                Some(Clause::Without(set)) => Expr::states(set.complement()),
                None => self.not()?,
            };
            self.depth -= 1;
            return Ok(Expr::not(inner));
        }
        if let Some(at) = self.take(&Tok::Open, "") {
            self.deeper(at.clone())?;
            let inner = self.or()?;
            if self.take(&Tok::Close, "").is_none() {
                if self.peek().is_none() {
                    return Err((at, Problem::new("this `(` is not closed", "a `)` later on")));
                }
                return self.unexpected("and, or, or `)`");
            }
            self.depth -= 1;
            return Ok(inner);
        }
        self.predicate()
    }

    /// A state clause, if it is next.
    fn state_clause(&mut self) -> Parsed<Option<Clause>> {
        let Some(Token { tok: Tok::Word { text, quoted: false }, .. }) = self.peek() else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "state" => {
                self.next += 1;
                let negative = self.equality("state", true)?.0 == Cmp::Ne;
                let set = self.state_list()?;
                Ok(Some(if negative { Clause::Without(set) } else { Clause::Only(set) }))
            }
            "exclude" | "excl" => {
                self.next += 1;
                Ok(Some(Clause::Without(self.state_list()?)))
            }
            _ if Col::find(text).is_none() => match StateSet::parse(text) {
                Ok(set) => {
                    self.next += 1;
                    Ok(Some(Clause::Only(set)))
                }
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn state_list(&mut self) -> Parsed<StateSet> {
        let (word, at) = self.value("a state such as established, or a list: close-wait,time-wait")?;
        StateSet::parse_list(word).map_err(|_| {
            let bad = word.split(',').find(|w| StateSet::parse(w).is_err()).unwrap_or(word);
            // In quotes the word and its place differ in length.
            let skip = word.find(bad).filter(|_| at.len() == word.len()).unwrap_or(0);
            let at = if at.len() == word.len() { at.start + skip..at.start + skip + bad.len() } else { at };
            (at, Problem::new(format!("{} is not a TCP state", show(bad)), StateSet::vocabulary()))
        })
    }

    /// The next operator; without one, `=` where that is allowed.
    fn operator(&mut self, name: &str, optional: bool, allowed: &[Cmp]) -> Parsed<(Cmp, Range<usize>)> {
        let at = self.here();
        let cmp = match self.peek().map(|t| &t.tok) {
            Some(Tok::Op(cmp)) => Some(*cmp),
            Some(Tok::Word { text, quoted: false }) => match text.to_ascii_lowercase().as_str() {
                "eq" => Some(Cmp::Eq),
                "ne" | "neq" => Some(Cmp::Ne),
                "lt" => Some(Cmp::Lt),
                "le" | "leq" => Some(Cmp::Le),
                "gt" => Some(Cmp::Gt),
                "ge" | "geq" => Some(Cmp::Ge),
                _ => None,
            },
            _ => None,
        };
        let signs = || allowed.iter().map(|c| c.sign()).collect::<Vec<_>>().join(" ");
        match cmp {
            Some(cmp) if allowed.contains(&cmp) => {
                self.next += 1;
                Ok((cmp, at))
            }
            Some(cmp) => Err((at, Problem::new(format!("`{name}` cannot be compared with `{}`", cmp.sign()), signs()))),
            None if optional => Ok((Cmp::Eq, at)),
            None => {
                let found = if self.peek().is_none() { format!("`{name}` lacks a comparison") } else { self.found() };
                Err((at, Problem::new(found, format!("a comparison: {}", signs()))))
            }
        }
    }

    fn equality(&mut self, name: &str, optional: bool) -> Parsed<(Cmp, Range<usize>)> {
        self.operator(name, optional, &[Cmp::Eq, Cmp::Ne])
    }

    /// The next word, whatever it is.
    fn value(&mut self, expected: &str) -> Parsed<(&'a str, Range<usize>)> {
        match self.peek() {
            Some(Token { tok: Tok::Word { text, .. }, at }) => {
                self.next += 1;
                Ok((text, at.clone()))
            }
            _ => self.unexpected(expected),
        }
    }

    fn predicate(&mut self) -> Parsed<Expr> {
        let Some(Token { tok: Tok::Word { text, quoted: false }, at }) = self.peek() else {
            return self.unexpected("a predicate such as dport = 443, a state, `not` or `(`");
        };
        self.next += 1;
        let name = text.to_ascii_lowercase().replace('_', "-");
        match name.as_str() {
            "src" | "local" | "local-addr" => self.endpoint(&name, End::Local),
            "dst" | "peer" | "peer-addr" => self.endpoint(&name, End::Peer),
            "sport" | "local-port" => self.port(&name, &[End::Local]),
            "dport" | "peer-port" => self.port(&name, &[End::Peer]),
            "port" => self.port(&name, &[End::Local, End::Peer]),
            "dev" => self.text_or("dev", |p, word| Ok((value::interface(word, p.resolver)?, Test::Interface))),
            "cgroup" => self.text_or("cgroup", |p, word| Ok((value::cgroup(word, p.resolver)?, Test::Cgroup))),
            "user" => self.text_or("user", |p, word| Ok((value::user(word, p.resolver)?, user_test))),
            "netns" if self.next_value_is_text() => self.text_column("netns"),
            "fwmark" => {
                let (cmp, _) = self.equality("fwmark", true)?;
                let (word, at) = self.value("VALUE or VALUE/MASK")?;
                let (mark, mask) = value::mark(word).map_err(|problem| (at, problem))?;
                Ok(Expr::Test(Test::Mark(cmp, mark, mask)))
            }
            "family" => {
                let (cmp, _) = self.equality("family", false)?;
                let (word, at) = self.value("ipv4 or ipv6")?;
                let v4 = match word.to_ascii_lowercase().as_str() {
                    "ipv4" | "inet" | "v4" | "4" => true,
                    "ipv6" | "inet6" | "v6" | "6" => false,
                    _ => return Err((at, Problem::new(format!("{} is not a family", show(word)), "ipv4 or ipv6"))),
                };
                Ok(Expr::family(if v4 == (cmp == Cmp::Eq) { Family::V4 } else { Family::V6 }))
            }
            "autobound" => Ok(Expr::Test(Test::Autobound)),
            "none" => Ok(Expr::none()),
            _ => match Col::find(&name) {
                Some(column) => self.column(column),
                None if matches!(name.as_str(), "and" | "or" | "not") => {
                    let found = format!("{} joins nothing here", show(text));
                    Err((at.clone(), Problem::new(found, "a predicate such as dport = 443, a state, `not` or `(`")))
                }
                None => Err((at.clone(), unknown_word(text))),
            },
        }
    }

    fn endpoint(&mut self, name: &str, end: End) -> Parsed<Expr> {
        let (cmp, _) = self.equality(name, true)?;
        let (word, at) = self.value("an address, such as 10.0.0.0/8, or :PORT")?;
        let expr = value::endpoints(word, end, self.resolver).map_err(|problem| (at, problem))?;
        Ok(if cmp == Cmp::Ne { Expr::not(expr) } else { expr })
    }

    fn port(&mut self, name: &str, ends: &[End]) -> Parsed<Expr> {
        const ALL: [Cmp; 6] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];
        let (cmp, _) = self.operator(name, true, &ALL)?;
        let (word, at) = self.value("a port, such as 443, :443, :https or 8000-8100")?;
        let (family, rest) = value::family_prefix(word).map_err(|problem| (at.clone(), problem))?;
        let ranges = value::ports(rest, self.resolver).map_err(|problem| (at.clone(), problem))?;
        // `!=` is applied at the end, so that `port != 80` means neither end, and a family goes with the port.
        let positive = if cmp == Cmp::Ne && (ends.len() > 1 || family.is_some()) { Cmp::Eq } else { cmp };
        let mut parts = Vec::new();
        for end in ends {
            let Some(port) = value::port(*end, positive, &ranges) else {
                let found = format!("`{}` cannot compare with several ports", cmp.sign());
                return Err((at, Problem::new(found, "one port, or = or !=")));
            };
            let of_family = family.map_or_else(Expr::all, Expr::family);
            parts.push(Expr::and(vec![of_family, port]));
        }
        let expr = Expr::or(parts);
        Ok(if positive == cmp { expr } else { Expr::not(expr) })
    }

    /// A column compared as a number when its name resolves, and as text by `~` or a pattern.
    fn text_or<N>(
        &mut self,
        name: &str,
        number: impl Fn(&Self, &str) -> Result<(N, fn(Cmp, N) -> Test), Problem>,
    ) -> Parsed<Expr> {
        let optional = name != "user";
        let (cmp, _) = self.operator(name, optional, &[Cmp::Eq, Cmp::Ne, Cmp::Has, Cmp::HasNot])?;
        let (word, at) = self.value("a name or a number")?;
        if matches!(cmp, Cmp::Has | Cmp::HasNot) || word.contains('*') {
            return Ok(column(name, |column| Test::Text(column, cmp, Pattern::new(word))));
        }
        let (number, test) = number(self, word).map_err(|problem| (at, problem))?;
        Ok(Expr::Test(test(cmp, number)))
    }

    /// Whether an operator follows, and then something that is not a plain number.
    fn next_value_is_text(&self) -> bool {
        match (self.peek().map(|t| &t.tok), self.peek_after()) {
            (Some(Tok::Op(Cmp::Has | Cmp::HasNot)), _) => true,
            (Some(_), Some(Tok::Word { text, .. })) => value::integer(text).is_err(),
            _ => false,
        }
    }

    fn text_column(&mut self, name: &str) -> Parsed<Expr> {
        let (cmp, _) = self.operator(name, false, &[Cmp::Eq, Cmp::Ne, Cmp::Has, Cmp::HasNot])?;
        let (word, at) = self.value("a text; in quotes when it has spaces or signs")?;
        let pattern = if matches!(cmp, Cmp::Eq | Cmp::Ne) && !word.contains('*') {
            Pattern::new(&keyword(name, word).map_err(|problem| (at, problem))?)
        } else {
            Pattern::new(word)
        };
        Ok(column(name, |column| Test::Text(column, cmp, pattern)))
    }

    /// A column by its kind.
    fn column(&mut self, column: Col) -> Parsed<Expr> {
        const NUMBERS: [Cmp; 6] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];
        let name = column.0.name;
        let kind = column.0.kind;
        match kind {
            Kind::Text => return self.text_column(name),
            Kind::Flag => {
                let bare = !matches!(self.peek(), Some(Token { tok: Tok::Op(_), .. }))
                    && !matches!(self.peek().map(|t| &t.tok), Some(Tok::Word { text, quoted: false })
                        if matches!(text.as_str(), "eq" | "ne" | "neq"));
                if bare {
                    return Ok(Expr::Test(Test::Flag(column, Cmp::Eq, true)));
                }
                let (cmp, _) = self.equality(name, false)?;
                let (word, at) = self.value("yes or no")?;
                let flag = value::flag(word).map_err(|problem| (at, problem))?;
                return Ok(Expr::Test(Test::Flag(column, cmp, flag)));
            }
            _ => {}
        }
        let (cmp, _) = self.operator(name, false, &NUMBERS)?;
        let (word, at) = self.value(match kind {
            Kind::Age | Kind::Millis | Kind::Micros => "a duration, such as 10s",
            Kind::Bytes | Kind::BytesPerSecond => "a size, such as 64k",
            _ => "a number",
        })?;
        let parts: Vec<&str> = word.split(',').collect();
        let several = parts.len() > 1;
        if several && !matches!(cmp, Cmp::Eq | Cmp::Ne) {
            let found = format!("`{}` cannot compare with several values", cmp.sign());
            return Err((at, Problem::new(found, "one value, or = or !=")));
        }
        let tests = parts.iter().map(|part| number_test(column, cmp, part));
        let tests = tests.collect::<Result<Vec<_>, _>>().map_err(|problem| (at, problem))?;
        Ok(if cmp == Cmp::Ne { Expr::and(tests) } else { Expr::or(tests) })
    }
}

/// The test of a column against one value, by the kind of the column.
fn number_test(column: Col, cmp: Cmp, word: &str) -> Result<Expr, Problem> {
    let kind = column.0.kind;
    let number = match kind {
        Kind::Age | Kind::Millis | Kind::Micros => value::duration_us(word),
        Kind::Bytes => value::bytes(word),
        Kind::BytesPerSecond => value::bytes(word.strip_suffix("/s").unwrap_or(word)),
        Kind::Id => match word.strip_prefix("sk:") {
            Some(hex) => value::integer(&format!("0x{hex}")),
            None => value::integer(word),
        },
        _ => value::integer(word),
    }?;
    Ok(Expr::Test(match (kind, column.1, cmp) {
        (Kind::Age, ..) => Test::Age(cmp, number),
        (Kind::Millis | Kind::Micros, ..) => Test::Time(column, cmp, number),
        // The same fact as `fwmark` and `dev`, which the kernel can check.
        (_, Special::Mark, Cmp::Eq | Cmp::Ne) if u32::try_from(number).is_ok() => {
            Test::Mark(cmp, u32::try_from(number).unwrap_or_default(), u32::MAX)
        }
        (_, Special::IfIndex, Cmp::Eq | Cmp::Ne) if u32::try_from(number).is_ok() => {
            Test::Interface(cmp, u32::try_from(number).unwrap_or_default())
        }
        _ => Test::Number(column, cmp, number),
    }))
}

fn column(name: &str, test: impl FnOnce(Col) -> Test) -> Expr {
    Col::find(name).map_or_else(Expr::none, |column| Expr::Test(test(column)))
}

fn user_test(cmp: Cmp, uid: u32) -> Test {
    Col::find("uid").map_or(Test::States(StateSet::EMPTY), |column| Test::Number(column, cmp, uid.into()))
}

/// The key for a word of a column with a fixed vocabulary, in any spelling; other columns take any text.
fn keyword(column: &str, word: &str) -> Result<String, Problem> {
    let Some(Type::Word(keys)) = column::find(column).map(|c| c.json.ty) else { return Ok(word.to_owned()) };
    let keys = keys();
    let wanted = word.to_ascii_lowercase().replace('-', "_");
    if let Some(timer) = TimerKind::ALL.iter().find(|t| column == "timer" && t.ss_name() == wanted) {
        return Ok(timer.key().to_owned());
    }
    if keys.contains(&wanted.as_str()) {
        return Ok(wanted);
    }
    let expected = keys.join(" ").replace('_', "-");
    Err(Problem::new(format!("{} is not a value of `{column}`", show(word)), expected))
}

/// The error for a word that is not a predicate, with the nearest one that is.
fn unknown_word(word: &str) -> Problem {
    let wanted = word.to_ascii_lowercase().replace('_', "-");
    let short: String = wanted.chars().take(48).collect();
    let states = State::ALL.map(|s| s.key().replace('_', "-"));
    let names = COLUMNS.iter().map(|c| c.name).chain(WORDS).chain(states.iter().map(String::as_str));
    let near = similar(&short, names);
    let found = format!("{} is neither a predicate nor a state", show(word));
    Problem {
        meant: near.map(str::to_owned),
        ..Problem::new(found, "src dst sport dport, a state, or a name from --list-columns")
    }
}
