//! `tcpstate fan`: the same command on many hosts by ssh, and one answer by host.

mod ask;
mod hosts;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::parse;
use crate::collect::error::reason;
use crate::cores;
use crate::render::fan::{self, Outcome, Reply};
use crate::render::json as out;
use ask::Question;

/// What can be asked of many hosts: commands that read, and end.
const ASKED: [&str; 4] = ["doctor", "summary", "list", "explain"];

const EXAMPLES: &str = "\
Examples:
  tcpstate fan --hosts web.txt -- doctor
  tcpstate fan --hosts web.txt --remote 'sudo -n tcpstate' -- doctor --min-severity high
  echo web1 db1 | tr ' ' '\\n' | tcpstate fan --hosts - --json -- summary | jq '.hosts[] | {host, answer: .answer.states}'

ssh is the one that is installed, with its configuration and keys; it is never asked for a password. The program has to be on
each host. The answers of `doctor` come as one report: the findings of each host, and which hosts did not answer.

Exit codes: 0 the command ended with 0 on every host, 1 every host answered and on one or more it ended with 1 (doctor: findings \
at or above --fail-on), 2 a host did not answer, the command failed there, or wrong usage.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct FanArgs {
    /// Hosts, one a line, as ssh takes them; `#` begins a comment, `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "Hosts")]
    pub hosts: PathBuf,
    /// How long a host may take
    #[arg(long, value_name = "TIME", value_parser = parse::interval, default_value = "30s", help_heading = "Hosts")]
    pub timeout: Duration,
    /// How many hosts are asked at a time
    #[arg(long, value_name = "N", value_parser = parse::at_least_one, default_value_t = 32, help_heading = "Hosts")]
    pub parallel: u64,
    /// Another configuration of ssh
    #[arg(long, value_name = "FILE", help_heading = "Hosts")]
    pub ssh_config: Option<PathBuf>,
    /// How the program is started there, in the words of a shell
    #[arg(long, value_name = "COMMAND", default_value = "tcpstate", help_heading = "Hosts")]
    pub remote: String,
    /// Print one JSON document with the document of each host
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// doctor, summary, list or explain, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub words: Vec<String>,
}

pub(crate) fn run(args: &FanArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let command = args.words.first().map_or("", String::as_str);
    if !ASKED.contains(&command) {
        bail!("`{command}` cannot be asked of many hosts; use one of {}", ASKED.join(" "));
    }
    let taken_at = jiff::Timestamp::now();
    let list = read(&args.hosts).map_err(|e| anyhow!("{}", reason(&e)));
    let list = list.with_context(|| format!("--hosts: cannot read {}", args.hosts.display()))?;
    let hosts = hosts::parse(&list).map_err(|why| anyhow!("--hosts: {}:{why}", args.hosts.display()))?;
    if hosts.is_empty() {
        bail!("--hosts: no host is named in {}", args.hosts.display());
    }
    let merges = command == "doctor" && !args.words.iter().any(|word| word == "--json");
    let question = Question::new(args, merges || args.json);
    let replies = everyone(&question, &hosts, args.parallel, env)?;
    if args.json {
        out::write_document(&mut env.stdout, &fan::document(&replies, &taken_at.to_string()))?;
    } else {
        let mut text = String::new();
        fan::write_report(&mut text, &replies, merges, env.width.is_some());
        env.stdout.write_all(text.as_bytes())?;
    }
    Ok(if replies.iter().any(|reply| reply.outcome != Outcome::Answered) {
        Exit::Failed
    } else if replies.iter().any(|reply| reply.exit_code != Some(0)) {
        Exit::No
    } else {
        Exit::Done
    })
}

fn read(path: &Path) -> io::Result<String> {
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Asks every host, so many at a time, and returns the replies in the order of the hosts.
fn everyone(question: &Question, hosts: &[String], parallel: u64, env: &mut Env) -> anyhow::Result<Vec<Reply>> {
    let mut replies: Vec<Option<Reply>> = hosts.iter().map(|_| None).collect();
    let next = AtomicUsize::new(0);
    let work = |answers: &Sender<(usize, io::Result<Reply>)>| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(host) = hosts.get(at) else { return };
            if answers.send((at, question.ask(host))).is_err() {
                return;
            }
        }
    };
    let work = &work;
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let most = usize::try_from(parallel).unwrap_or(usize::MAX).min(hosts.len());
        let mut started = 0;
        for _ in 0..most {
            let answers = send.clone();
            if cores::start(scope, move || work(&answers)).is_err() {
                break;
            }
            started += 1;
        }
        if started == 0 {
            work(&send);
        }
        drop(send);
        for (done, (at, reply)) in receive.iter().enumerate() {
            let reply = reply.map_err(|e| anyhow!("cannot start ssh: {}; install openssh-client", reason(&e)))?;
            replies[at] = Some(reply);
            if env.stderr_is_terminal {
                write!(env.stderr, "\r{} of {} hosts\x1b[K", done + 1, hosts.len())?;
            }
        }
        if env.stderr_is_terminal {
            write!(env.stderr, "\r\x1b[K")?;
        }
        Ok(replies.into_iter().flatten().collect())
    })
}
