//! `tcpstate generate`: manual, completions, JSON schema, column table, from the tables that the program runs on.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::cli::complete;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::diagnose::RULES;
use crate::model::column::{COLUMNS, Column, Whole};
use crate::render::{metrics, rules, schema, topics};

const EXAMPLES: &str = "\
Examples:
  tcpstate generate man --dir /usr/local/share/man/man1
  source <(tcpstate generate completions bash)      in ~/.bashrc; zsh alike
  tcpstate generate completions fish | source       in ~/.config/fish/config.fish
  tcpstate generate schema | jq .
  tcpstate generate columns";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    #[arg(value_enum)]
    pub what: Generated,
    /// For completions: the shell
    #[arg(value_enum, required_if_eq("what", "completions"))]
    pub shell: Option<clap_complete::Shell>,
    /// For man: write one page per command into this directory, instead of tcpstate(1) to standard output
    #[arg(long, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// The manual, in roff
    Man,
    /// Shell completions
    Completions,
    /// The JSON Schema of every document
    Schema,
    /// The table of columns, in Markdown
    Columns,
    /// The index of the rules, in Markdown
    Rules,
    /// The index of the topics of `explain`, in Markdown
    Topics,
    /// The table of metrics of `export`, in Markdown
    Metrics,
}

pub(crate) fn run(args: &GenerateArgs, env: &mut Env) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        args.dir.is_none() || args.what == Generated::Man,
        "--dir writes the pages of the manual; redirect the output instead"
    );
    match args.what {
        Generated::Man => match &args.dir {
            Some(dir) => write_pages(dir)?,
            None => page(&manual(), &mut env.stdout)?,
        },
        Generated::Completions => {
            let shell = args.shell.unwrap_or(clap_complete::Shell::Bash);
            complete::script(shell, &mut env.stdout)?;
        }
        Generated::Schema => {
            serde_json::to_writer_pretty(&mut env.stdout, &schema::schema())?;
            writeln!(env.stdout)?;
        }
        Generated::Columns => columns(env)?,
        Generated::Rules => {
            let mut text = String::new();
            rules::write_index(&mut text, RULES);
            env.stdout.write_all(text.as_bytes())?;
        }
        Generated::Topics => {
            let mut text = String::new();
            topics::write_index(&mut text);
            env.stdout.write_all(text.as_bytes())?;
        }
        Generated::Metrics => {
            let mut text = String::new();
            metrics::write_page(&mut text);
            env.stdout.write_all(text.as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

const COLUMNS_HEAD: &str = "\
# Columns

Of `tcpstate list -c`; in a filter each is a word too.

In a table `?` is unknown, `-` is none, and `unlimited` is a rate without a limit. In CSV numbers are in the unit of the
column; a cell is empty when the value is unknown or none, `unlimited` as in a table, and an `age` is milliseconds: `MIN` when
exact, `MIN..MAX` between two bounds, `MIN..` without an upper bound. Values of several processes are separated by a blank.

With `--json -c` or `--format jsonl -c` each object has the key of every chosen column; unknown, none and `unlimited` are
`null`. Without `-c` a socket is whole, and has the value at the place in the fourth column ([json.md](json.md)).

| column | unit or type | JSON key | in a whole socket | meaning |
| --- | --- | --- | --- | --- |
";

fn columns(env: &mut Env) -> anyhow::Result<()> {
    write!(env.stdout, "{COLUMNS_HEAD}")?;
    for Column { name, kind, json, help, .. } in COLUMNS {
        let whole = match json.whole {
            Whole::At(path) => format!("`{path}`"),
            Whole::NotInJson(why) => format!("not there: {why}"),
        };
        writeln!(env.stdout, "| `{name}` | {} | `{}` | {whole} | {help} |", kind.name(), json.key)?;
    }
    Ok(())
}

/// The program, with its commands named as their pages are: `tcpstate-list`.
fn manual() -> clap::Command {
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    command
}

/// One file per page: `tcpstate.1`, `tcpstate-list.1` and so on.
fn write_pages(dir: &Path) -> anyhow::Result<()> {
    let command = manual();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let path = dir.join(clap_mangen::Man::new(command.clone()).get_filename());
        let mut text = Vec::new();
        page(command, &mut text)?;
        std::fs::write(&path, text).with_context(|| format!("write the page {}", path.display()))?;
    }
    Ok(())
}

/// The page of one command. The program's page lists the others; each of them refers back to it.
fn page(command: &clap::Command, out: &mut impl Write) -> std::io::Result<()> {
    let source = concat!("tcpstate ", env!("CARGO_PKG_VERSION"));
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    let man = clap_mangen::Man::new(command.clone()).title(name).date(MANUAL_DATE).source(source);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    out.write_all(tidy(&String::from_utf8_lossy(&text)).as_bytes())?;
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    write_examples(&after, out)?;
    let others = if command.has_subcommands() { "\\fBss\\fR(8), \\fBnetstat\\fR(8)" } else { "\\fBtcpstate\\fR(1)" };
    writeln!(out, ".SH \"SEE ALSO\"\n{others}")
}

/// The date of the pages: that of the last change worth one, because a page must not change with the day it is made.
const MANUAL_DATE: &str = "2026-11-29";

/// The first lines of what clap prints for each section: which apostrophe this roff has.
const PREAMBLE: [&str; 2] = [".ie \\n(.g .ds Aq \\(aq", ".el .ds Aq '"];

/// The sections as one page, without what mandoc complains of: line breaks around an empty line, blanks at the end.
fn tidy(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).enumerate();
    let own = lines.filter(|(i, line)| *i < PREAMBLE.len() || !PREAMBLE.contains(line));
    let joined: String = own.flat_map(|(_, line)| [line, "\n"]).collect();
    joined.replace("\n.br\n\n.br\n", "\n.sp\n").replace("\n.br\n\n", "\n.sp\n").replace("\n\n.br\n", "\n.sp\n")
}

/// The examples line by line as they are, and the exit codes: sections of their own.
fn write_examples(after: &str, out: &mut impl Write) -> std::io::Result<()> {
    for part in after.split("\n\n").filter(|part| !part.trim().is_empty()) {
        if let Some(examples) = part.strip_prefix("Examples:\n") {
            writeln!(out, ".SH EXAMPLES\n.nf")?;
            for line in examples.lines() {
                writeln!(out, "{}", roff(line.strip_prefix("  ").unwrap_or(line)))?;
            }
            writeln!(out, ".fi")?;
        } else if let Some(codes) = part.strip_prefix("Exit codes: ") {
            writeln!(out, ".SH \"EXIT STATUS\"\n{}", roff(codes))?;
        } else {
            writeln!(out, ".SH NOTES\n{}", roff(part))?;
        }
    }
    Ok(())
}

/// Text as roff takes it: no line of it is a request.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
