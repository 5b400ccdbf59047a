//! The tools: what each is, which arguments it takes, and the command line that it stands for.
//!
//! Input: the arguments of a call, as JSON. Output: words of a command line, or a sentence that says what is wrong. A tool has
//! no way to name a file: what it reads, the server was given.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::builder::TypedValueParser;
use serde_json::{Map, Value as Json, json};

use crate::cli::{history, parse};
use crate::diagnose::Severity;
use crate::model::column::{COLUMNS, Group};

/// The longest time between two looks at the running system.
const LONGEST: Duration = Duration::from_secs(60);
/// The time between the two looks of `diff`, if none is given.
const DIFF_INTERVAL: &str = "5s";

/// A tool: a command that only reads.
pub(super) struct Tool {
    /// The name of the tool, and of the command.
    pub name: &'static str,
    pub title: &'static str,
    pub help: &'static str,
    arguments: &'static [Argument],
}

struct Argument {
    name: &'static str,
    kind: Kind,
    of: Of,
    help: &'static str,
    /// The words that it takes, for the description.
    known: fn() -> Vec<String>,
}

/// What values an argument takes.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Several words.
    Words,
    /// A whole number from 1 to the first, and the second if none is given.
    Count(u64, u64),
    Severity,
    Yes,
    Time,
    /// A moment of a capture.
    Moment,
}

/// What an argument is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Both,
    Live,
    Capture,
}

impl Argument {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Argument {
        Argument { name, kind, of: Of::Both, help, known: Vec::new }
    }

    const fn of(self, of: Of) -> Argument {
        Argument { of, ..self }
    }

    const fn known(self, known: fn() -> Vec<String>) -> Argument {
        Argument { known, ..self }
    }

    fn fits(&self, source: &Source) -> bool {
        match self.of {
            Of::Both => true,
            Of::Live => source.from.is_none(),
            Of::Capture => source.from.is_some(),
        }
    }

    fn schema(&self) -> Json {
        let mut help = self.help.to_owned();
        let known = (self.known)();
        if !known.is_empty() {
            help += &format!(" Known: {}.", known.join(" "));
        }
        let mut schema = match self.kind {
            Kind::Text | Kind::Time | Kind::Moment => json!({ "type": "string" }),
            Kind::Words => json!({ "type": "array", "items": { "type": "string" } }),
            Kind::Count(most, default) => {
                json!({ "type": "integer", "minimum": 1, "maximum": most, "default": default })
            }
            Kind::Severity => json!({ "type": "string", "enum": Severity::ALL.map(Severity::key) }),
            Kind::Yes => json!({ "type": "boolean", "default": false }),
        };
        schema["description"] = help.into();
        schema
    }

    /// The value as a word of a command line; `None` where it says nothing.
    fn word(&self, given: Option<&Json>, source: &Source) -> Result<Option<String>, String> {
        let name = self.name;
        let text = || given.and_then(Json::as_str).map(|text| text.trim().to_owned());
        let wrong = |what: &str| Err(format!("{name}: {} is not {what}", given.unwrap_or(&Json::Null)));
        let word = match (self.kind, given) {
            (Kind::Count(_, default), None) => return Ok(Some(default.to_string())),
            (_, None) => return Ok(None),
            (Kind::Text | Kind::Severity | Kind::Moment | Kind::Time, _) => match text() {
                Some(text) => text,
                None => return wrong("a string"),
            },
            (Kind::Words, Some(Json::Array(items))) => {
                let words: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
                let Some(words) = words else { return wrong("a list of strings") };
                words.join(",")
            }
            (Kind::Words, _) => match text() {
                Some(word) => word,
                None => return wrong("a list of strings"),
            },
            (Kind::Count(most, _), Some(n)) => match n.as_u64().filter(|n| (1..=most).contains(n)) {
                Some(n) => n.to_string(),
                None => return wrong(&format!("a whole number from 1 to {most}")),
            },
            (Kind::Yes, Some(Json::Bool(yes))) => return Ok(yes.then(String::new)),
            (Kind::Yes, _) => return wrong("true or false"),
        };
        if word.is_empty() {
            return Ok(None);
        }
        match self.kind {
            Kind::Time => {
                let time = parse::interval(&word).map_err(|why| format!("{name}: {why}"))?;
                if time > LONGEST && source.from.is_none() {
                    return Err(format!("{name}: a tool waits {} s at most, and `{word}` is more", LONGEST.as_secs()));
                }
            }
            Kind::Moment => {
                history::moment(&word).map_err(|why| format!("{name}: {why}"))?;
            }
            _ => {}
        }
        Ok(Some(word))
    }
}

/// What a server was given to read.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// The capture, if it is not the running system.
    pub from: Option<OsString>,
    /// The moment of it, as an option.
    pub at: Option<OsString>,
    /// The options of the running system.
    pub origin: Vec<OsString>,
    pub no_owners: bool,
}

/// The words of a vocabulary of the command line.
fn vocabulary(parser: &impl TypedValueParser) -> Vec<String> {
    parser.possible_values().into_iter().flatten().map(|value| value.get_name().to_owned()).collect()
}

const FILTER: Argument = Argument::new(
    "filter",
    Kind::Text,
    "Which sockets, in the filter language of ss and more: `state close-wait`, `pid = 812`, `dport = :443 and age > 10m`, \
     `dst 10.0.0.0/8`, `process = nginx and recv-q > 0`. Every column of list is a word of it; there are `and`, `or`, `not` \
     and parentheses. Without it all sockets.",
);

const AT: Argument = Argument::new(
    "at",
    Kind::Moment,
    "The moment of the capture, such as `-5m` (before its end), `12:30:00` (UTC) or `2026-11-29T12:30:00Z`. Without it its end.",
)
.of(Of::Capture);

const DOCTOR: &[Argument] = &[
    Argument::new("rule", Kind::Words, "Only these rules.").known(|| vocabulary(&parse::rule())),
    Argument::new("min_severity", Kind::Severity, "Only findings at or above this severity."),
    Argument::new(
        "interval",
        Kind::Time,
        "Take a second look after this time, up to `60s`; in a capture, how much older the earlier snapshot is. A longer \
         interval sees slower leaks.",
    ),
    Argument::new("once", Kind::Yes, "One look: faster, and without the rules that compare two."),
    AT,
];

const SUMMARY: &[Argument] = &[
    FILTER,
    Argument::new(
        "by",
        Kind::Words,
        "Cross states with these keys instead; addresses also by prefix, as `peer-addr/24`.",
    )
    .known(|| vocabulary(&parse::key())),
    Argument::new("columns", Kind::Words, "Sum these up instead of the states; `+NAME` keeps the states.")
        .known(|| vocabulary(&parse::sum())),
    Argument::new("sort", Kind::Text, "Order groups by `total` or one of `columns`; `-NAME` for the largest first."),
    Argument::new("top", Kind::Count(200, 10), "How many groups; the others are added up."),
    Argument::new("interval", Kind::Time, "Look twice, this far apart (up to `60s`), and say what changed per second.")
        .of(Of::Live),
    AT,
];

const LIST: &[Argument] = &[
    FILTER,
    Argument::new("columns", Kind::Words, "What a row has; without it state, queues, addresses and processes.")
        .known(|| vocabulary(&parse::column())),
    Argument::new("sort", Kind::Text, "Order by this column; `-NAME` for the largest first, such as `-recv-q`."),
    Argument::new("limit", Kind::Count(500, 50), "The most rows; the others are counted."),
    AT,
];

const DIFF: &[Argument] = &[
    Argument::new("interval", Kind::Time, "The time between the two looks, up to `60s`; without it 5s.").of(Of::Live),
    Argument::new(
        "before",
        Kind::Moment,
        "The earlier moment of the capture, such as `-5m` (before its end) or `12:30:00` (UTC).",
    )
    .of(Of::Capture),
    Argument::new("after", Kind::Moment, "The later moment of the capture; without it its end.").of(Of::Capture),
    Argument::new("limit", Kind::Count(500, 25), "The most entries of each list; the others are counted."),
];

const EXPLAIN: &[Argument] = &[Argument::new(
    "topic",
    Kind::Text,
    "An error, a state, a setting, a rule, a column, `machine`, or `bind ADDR:PORT`. Without it all topics.",
)];

/// All tools, in the order in which one uses them.
pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "doctor",
        title: "Diagnose TCP connections",
        help: "Says what is wrong with the TCP connections of the host, which process is at fault, how that is known, and what to \
               do about it. Call it first when connections hang, fail, leak, are refused or are slow. Findings come most severe \
               first, each with evidence, remedy, what not to do, and commands to run next. `not_checked` and `gaps` say what \
               could not be judged or seen: no finding is no proof of health beyond that. It takes some seconds.",
        arguments: DOCTOR,
    },
    Tool {
        name: "summary",
        title: "Count TCP sockets",
        help: "Counts TCP sockets by state and address family, with the largest groups by listener, destination and process, \
               the fullest range of local ports, and TCP memory. With `by` it counts by keys of your choice: who has how many.",
        arguments: SUMMARY,
    },
    Tool {
        name: "list",
        title: "List TCP sockets",
        help: "Lists TCP sockets, a row each. At most `limit` rows: `total` says how many match, `left_out` how many are not \
               shown. Narrow it by `filter`, and `sort` it so that the rows that matter come first.",
        arguments: LIST,
    },
    Tool {
        name: "diff",
        title: "Compare two moments",
        help: "Says which TCP sockets appeared, vanished, changed their state or queued more between two moments, with counts by \
               state and process. Of the running system it takes two looks, of a capture two moments.",
        arguments: DIFF,
    },
    Tool {
        name: "explain",
        title: "Explain a word of TCP",
        help: "Explains an error (`EADDRINUSE`), a TCP state (`close-wait`), a setting (`tcp_tw_reuse`), a rule of the doctor or \
               a column of list: what it means, what to look at, what to do. `machine` is the state machine with the counts of \
               this host, and `bind 0.0.0.0:8080` says whether bind() would fail now, and because of which socket.",
        arguments: EXPLAIN,
    },
];

/// The tool of this name.
pub(super) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// A JSON Schema of the arguments of a tool.
pub(super) fn input_schema(tool: &Tool, source: &Source) -> Map<String, Json> {
    let arguments = tool.arguments.iter().filter(|argument| argument.fits(source));
    let properties: Map<String, Json> = arguments.map(|a| (a.name.to_owned(), a.schema())).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    if properties.contains_key("before") {
        schema.insert("required".into(), json!(["before"]));
    }
    schema.insert("properties".into(), Json::Object(properties));
    schema.insert("additionalProperties".into(), false.into());
    schema
}

/// The command line that a call stands for. Values are behind `=` or `--`, so that none is taken for an option.
pub(super) fn words(tool: &Tool, given: &Map<String, Json>, source: &Source) -> Result<Vec<OsString>, String> {
    for name in given.keys() {
        match tool.arguments.iter().find(|argument| argument.name == name) {
            Some(argument) if argument.fits(source) => {}
            Some(_) if source.from.is_some() => {
                return Err(format!("{name}: the server reads a capture, which does not change"));
            }
            Some(_) => return Err(format!("{name}: the server reads the running system, not a capture")),
            None => return Err(unknown(tool, name)),
        }
    }
    let mut options: Vec<OsString> = ["tcpstate", tool.name, "--json", "--color=never"].map(OsString::from).into();
    let mut behind: Vec<OsString> = Vec::new();
    let (mut before, mut after, mut has_at) = (None, None, false);
    for argument in tool.arguments.iter().filter(|argument| argument.fits(source)) {
        let value = given.get(argument.name).filter(|value| !value.is_null());
        let word = argument.word(value, source)?;
        match (argument.name, word) {
            ("columns", None) if tool.name == "list" => options.push(default_columns().into()),
            ("interval", None) if tool.name == "diff" => options.push(format!("--interval={DIFF_INTERVAL}").into()),
            (_, None) => {}
            ("before", word) => before = word,
            ("after", word) => after = word,
            ("filter", Some(word)) => behind.push(word.into()),
            ("topic", Some(word)) => behind.extend(word.split_whitespace().map(OsString::from)),
            ("once", Some(_)) => options.push("--once".into()),
            (name, Some(word)) => {
                has_at |= name == "at";
                options.push(format!("--{}={word}", name.replace('_', "-")).into());
            }
        }
    }
    match (tool.name, &source.from) {
        ("diff", Some(from)) => {
            let is_host = |word: &&OsString| word.as_encoded_bytes().starts_with(b"--host=");
            options.extend(source.origin.iter().filter(is_host).cloned());
            let Some(before) = before else {
                return Err("before: it is missing; give the earlier moment of the capture, such as -5m".into());
            };
            behind.push(moment_of(from, &before));
            behind.push(after.map_or_else(|| from.clone(), |after| moment_of(from, &after)));
        }
        // A page reads no socket.
        ("explain", _)
            if !behind
                .first()
                .is_some_and(|word| ["machine", "bind"].iter().any(|live| word.eq_ignore_ascii_case(live))) => {}
        ("explain" | "diff", None) => options.extend(source.origin.iter().cloned()),
        (name, from) => {
            options.extend(source.origin.iter().cloned());
            if let Some(from) = from {
                options.push(joined("--from=", from));
                options.extend(source.at.iter().filter(|_| !has_at).cloned());
            }
            options.extend((source.no_owners && name != "explain").then(|| "--no-owners".into()));
        }
    }
    options.push("--".into());
    options.extend(behind);
    Ok(options)
}

/// The rows of `list` without `columns`: chosen ones are short, and a whole socket is not.
fn default_columns() -> String {
    let of = |group| COLUMNS.iter().filter(move |column| column.group == group).map(|column| column.name);
    let names: Vec<&str> = of(Group::Default).chain(of(Group::Process)).collect();
    format!("--columns={}", names.join(","))
}

fn moment_of(from: &OsStr, moment: &str) -> OsString {
    joined(from, OsStr::new(&format!("@{moment}")))
}

fn joined(start: impl AsRef<OsStr>, end: &OsStr) -> OsString {
    let mut whole = start.as_ref().to_owned();
    whole.push(end);
    whole
}

fn unknown(tool: &Tool, name: &str) -> String {
    let names: Vec<&str> = tool.arguments.iter().map(|argument| argument.name).collect();
    match parse::near(name, names.iter().copied()) {
        Some(near) => format!("`{name}` is not an argument of {}; did you mean `{near}`?", tool.name),
        None => format!("`{name}` is not an argument of {}; there are {}", tool.name, names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tool: &str, given: &Json, source: &Source) -> Result<String, String> {
        let words = words(find(tool).unwrap(), given.as_object().unwrap(), source)?;
        let words: Vec<String> = words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        Ok(words.join(" ").replace(" --json --color=never", ""))
    }

    fn capture() -> Source {
        Source { from: Some("/c.tcps.zst".into()), at: Some("--at=-1m".into()), ..Source::default() }
    }

    #[test]
    fn a_call_is_a_command_line() {
        let live = Source { origin: vec!["--netns=web".into()], no_owners: true, ..Source::default() };
        for (tool, given, words) in [
            (
                "list",
                json!({}),
                "list --columns=state,recv-q,send-q,local,peer,process --limit=50 --netns=web --no-owners --",
            ),
            (
                "list",
                json!({"filter": "state tw", "columns": ["state", "+rtt"], "sort": "-rtt", "limit": 500}),
                "list --columns=state,+rtt --sort=-rtt --limit=500 --netns=web --no-owners -- state tw",
            ),
            (
                "doctor",
                json!({"rule": ["a", "b"], "once": true}),
                "doctor --rule=a,b --once --netns=web --no-owners --",
            ),
            ("doctor", json!({"once": false, "interval": "1m"}), "doctor --interval=1m --netns=web --no-owners --"),
            (
                "summary",
                json!({"by": "process", "top": null}),
                "summary --by=process --top=10 --netns=web --no-owners --",
            ),
            ("diff", json!({}), "diff --interval=5s --limit=25 --netns=web --"),
            ("explain", json!({"topic": " close wait "}), "explain -- close wait"),
            ("explain", json!({"topic": "machine"}), "explain --netns=web -- machine"),
            ("explain", json!({"topic": ""}), "explain --"),
        ] {
            assert_eq!(line(tool, &given, &live), Ok(words.to_owned()), "{tool} {given}");
        }
        for (tool, given, words) in [
            ("doctor", json!({"interval": "2h"}), "doctor --interval=2h --from=/c.tcps.zst --at=-1m --"),
            ("summary", json!({"at": "-5m", "top": 1}), "summary --top=1 --at=-5m --from=/c.tcps.zst --"),
            ("diff", json!({"before": "-5m"}), "diff --limit=25 -- /c.tcps.zst@-5m /c.tcps.zst"),
            ("diff", json!({"before": "-5m", "after": "-1m"}), "diff --limit=25 -- /c.tcps.zst@-5m /c.tcps.zst@-1m"),
            ("explain", json!({"topic": "machine"}), "explain --from=/c.tcps.zst --at=-1m -- machine"),
            ("explain", json!({"topic": "Machine"}), "explain --from=/c.tcps.zst --at=-1m -- Machine"),
        ] {
            assert_eq!(line(tool, &given, &capture()), Ok(words.to_owned()), "{tool} {given}");
        }
    }

    #[test]
    fn no_value_is_an_option_or_a_file() {
        for hostile in ["--from=/etc/shadow", "--proc-root=/", "-N all", "@/etc/shadow", "--help"] {
            for tool in TOOLS {
                for argument in tool.arguments {
                    for source in [Source::default(), capture()] {
                        let given = json!({ argument.name: hostile });
                        let Ok(words) = words(tool, given.as_object().unwrap(), &source) else { continue };
                        let end = words.iter().position(|word| word == "--").unwrap();
                        let alone = |word: &OsString| word == hostile || word.to_string_lossy().contains("shadow@");
                        assert!(!words[..end].iter().any(alone), "{tool:?} {words:?}", tool = tool.name);
                        let files = |word: &&OsString| word.to_string_lossy().starts_with("/c.tcps.zst");
                        assert!(tool.name != "diff" || words[end + 1..].iter().all(|w| files(&w)), "{words:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said_in_one_line_with_the_way_out() {
        for (tool, given, source, why) in [
            ("list", json!({"limt": 5}), Source::default(), "`limt` is not an argument of list; did you mean `limit`?"),
            ("list", json!({"limit": 0}), Source::default(), "limit: 0 is not a whole number from 1 to 500"),
            ("list", json!({"limit": 1.5}), Source::default(), "limit: 1.5 is not a whole number from 1 to 500"),
            ("list", json!({"columns": [1]}), Source::default(), "columns: [1] is not a list of strings"),
            ("list", json!({"filter": ["a"]}), Source::default(), "filter: [\"a\"] is not a string"),
            ("doctor", json!({"once": "yes"}), Source::default(), "once: \"yes\" is not true or false"),
            (
                "doctor",
                json!({"interval": "2h"}),
                Source::default(),
                "interval: a tool waits 60 s at most, and `2h` is more",
            ),
            ("doctor", json!({"interval": "soon"}), Source::default(), "interval: `soon` is not a duration"),
            ("list", json!({"at": "-5m"}), Source::default(), "at: the server reads the running system"),
            ("summary", json!({"interval": "1s"}), capture(), "interval: the server reads a capture"),
            ("diff", json!({}), capture(), "before: it is missing; give the earlier moment"),
            ("diff", json!({"before": "x@/etc/shadow"}), capture(), "before: `x@/etc/shadow` is no moment"),
        ] {
            let found = line(tool, &given, &source).unwrap_err();
            assert!(found.starts_with(why) && !found.contains('\n'), "{found}");
        }
    }
}
