//! `tcpstate generate`: man page, completions, JSON schema, column table.
//!
//! Comes in: which one. Goes out: its text, made from the same tables that the program runs on. Never here: writing a
//! file.

use std::io::Write;

use crate::cli::args::{GenerateArgs, Generated};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::diagnose::RULES;
use crate::model::column::COLUMNS;
use crate::render::{rules, schema};

pub(crate) fn run(args: &GenerateArgs, env: &mut Env) -> anyhow::Result<Exit> {
    match args.what {
        Generated::Man => man(env)?,
        Generated::Completions => {
            let shell = args.shell.unwrap_or(clap_complete::Shell::Bash);
            clap_complete::generate(shell, &mut super::command(), "tcpstate", &mut env.stdout);
        }
        Generated::Schema => {
            serde_json::to_writer_pretty(&mut env.stdout, &schema::schema())?;
            writeln!(env.stdout)?;
        }
        Generated::Columns => {
            writeln!(env.stdout, "# Columns\n\nOf `tcpstate list -c`; in a filter each is a word too.\n")?;
            writeln!(env.stdout, "| column | unit or type | meaning |\n| --- | --- | --- |")?;
            for column in COLUMNS {
                writeln!(env.stdout, "| `{}` | {} | {} |", column.name, column.kind.name(), column.help)?;
            }
        }
        Generated::Rules => {
            let mut text = String::new();
            rules::write_index(&mut text, RULES);
            env.stdout.write_all(text.as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

/// The page of the program and of every command, one after the other.
fn man(env: &mut Env) -> anyhow::Result<()> {
    let command = super::command();
    clap_mangen::Man::new(command.clone()).render(&mut env.stdout)?;
    for sub in command.get_subcommands() {
        let name: &'static str = Box::leak(format!("tcpstate-{}", sub.get_name()).into_boxed_str());
        clap_mangen::Man::new(sub.clone().name(name)).render(&mut env.stdout)?;
    }
    Ok(())
}
