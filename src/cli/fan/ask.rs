//! One host: an ssh, its answer, and what became of it within its time.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::FanArgs;
use crate::collect::clock::millis;
use crate::cores;
use crate::render::fan::{Outcome, Reply};
use crate::text;

/// Longest answer of a host, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// What ssh itself ends with.
const SSH_FAILED: i32 = 255;
/// Who still holds the pipes of an ssh that has ended (a ProxyCommand) is not waited for longer.
const AFTER_ITS_END: Duration = Duration::from_secs(1);

/// What every host is asked.
pub(super) struct Question {
    options: Vec<String>,
    command: String,
    wants_json: bool,
    timeout: Duration,
}

impl Question {
    pub(super) fn new(args: &FanArgs, wants_json: bool) -> Question {
        let mut options: Vec<String> = Vec::new();
        if let Some(file) = &args.ssh_config {
            options.extend(["-F".to_owned(), file.display().to_string()]);
        }
        let seconds = args.timeout.as_secs().max(1);
        // A master that stays in the background would hold the pipes.
        let set = ["BatchMode=yes".into(), "ControlMaster=no".into(), format!("ConnectTimeout={seconds}")];
        options.extend(set.into_iter().flat_map(|set| ["-o".to_owned(), set]));
        options.extend(["-T".to_owned(), "--".to_owned()]);
        let mut words: Vec<String> = args.words.iter().map(|word| text::quoted(word)).collect();
        if wants_json && !args.words.iter().any(|word| word == "--json") {
            words.insert(1, "--json".into());
        }
        Question { options, command: format!("{} {}", args.remote, words.join(" ")), wants_json, timeout: args.timeout }
    }

    /// Asks a host.
    ///
    /// # Errors
    /// When ssh cannot be started at all.
    pub(super) fn ask(&self, host: &str) -> io::Result<Reply> {
        let started = Instant::now();
        let mut ssh = Command::new("ssh");
        ssh.args(&self.options).arg(host).arg(&self.command);
        let mut child = ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (answer, errors) = match (drain(child.stdout.take()), drain(child.stderr.take())) {
            (Ok(answer), Ok(errors)) => (answer, errors),
            (Err(error), _) | (_, Err(error)) => {
                let _ = (child.kill(), child.wait());
                return Err(error);
            }
        };
        let status = wait(&mut child, started + self.timeout)?;
        let took_ms = millis(started.elapsed());
        let bytes = |pipe: &Receiver<Vec<u8>>| pipe.recv_timeout(AFTER_ITS_END).unwrap_or_default();
        let (answer, errors) = (bytes(&answer), bytes(&errors));
        let mut reply = self.judge(status, &answer, &String::from_utf8_lossy(&errors));
        (reply.host, reply.took_ms) = (host.to_owned(), took_ms);
        Ok(reply)
    }

    /// What became of it; `None` is an ssh that did not end in time.
    fn judge(&self, status: Option<ExitStatus>, answer: &[u8], errors: &str) -> Reply {
        let mut reply = Reply { exit_code: status.and_then(|s| s.code()), ..Reply::default() };
        let said = errors.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned();
        let or = |said: &str, else_: &str| if said.is_empty() { else_.to_owned() } else { said.to_owned() };
        let fail = |reply: &mut Reply, outcome, why: String| (reply.outcome, reply.error) = (outcome, Some(why));
        match reply.exit_code {
            _ if status.is_none() => {
                let why = format!("no answer within {}", text::duration(millis(self.timeout)));
                fail(&mut reply, Outcome::TimedOut, why);
            }
            Some(SSH_FAILED) => fail(&mut reply, Outcome::Unreachable, or(&said, "ssh could not connect")),
            _ if answer.len() as u64 > MOST_BYTES => {
                fail(&mut reply, Outcome::Failed, format!("its answer is longer than {}", text::bytes(MOST_BYTES)));
            }
            Some(0 | 1) if self.wants_json => match serde_json::from_slice(answer) {
                Ok(document) => reply.answer = Some(document),
                Err(_) => fail(&mut reply, Outcome::Failed, or(&said, "its answer is no JSON")),
            },
            Some(0 | 1) => reply.text = String::from_utf8_lossy(answer).into_owned(),
            _ => fail(&mut reply, Outcome::Failed, or(&said, "the command ended without an answer")),
        }
        reply
    }
}

/// Reads a pipe in a thread of its own, up to the longest answer.
fn drain(pipe: Option<impl Read + Send + 'static>) -> io::Result<Receiver<Vec<u8>>> {
    let (send, receive) = mpsc::channel();
    cores::start_detached(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What could be read is kept.
            let _ = pipe.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        }
        let _ = send.send(bytes);
    })?;
    Ok(receive)
}

/// Waits until it ends or its time is over; then it is killed.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
