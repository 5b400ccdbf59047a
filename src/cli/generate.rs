//! `tcpstate generate`: manual, completions, JSON schema, column table, from the tables that the program runs on.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::diagnose::RULES;
use crate::model::column::{COLUMNS, Column, Whole};
use crate::render::{rules, schema, topics};

const EXAMPLES: &str = "\
Examples:
  tcpstate generate completions bash > /etc/bash_completion.d/tcpstate
  tcpstate generate man --dir /usr/local/share/man/man1
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
            clap_complete::generate(shell, &mut super::command(), "tcpstate", &mut env.stdout);
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
    clap_mangen::Man::new(command.clone()).source(source).render(out)?;
    let others = if command.has_subcommands() { "\\fBss\\fR(8), \\fBnetstat\\fR(8)" } else { "\\fBtcpstate\\fR(1)" };
    writeln!(out, ".SH \"SEE ALSO\"\n{others}")
}
