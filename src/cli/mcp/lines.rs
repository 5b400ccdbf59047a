//! JSON-RPC over lines of standard input and output, as a transport of the SDK.
//!
//! Input: lines. Output: the messages in them, and lines. Whatever is wrong with a line is answered here, because the SDK is
//! silent about text that is not JSON, and ends where it meets a surprise before the handshake.

use std::collections::HashSet;
use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use serde_json::Value as Json;
use tokio::sync::{Mutex, Notify, mpsc};

use crate::cores;

/// The longest line that is read.
const LINE_BYTES: usize = 1 << 20;
/// Lines that were read and wait.
const AHEAD: usize = 16;
/// Requests without an answer yet; further lines wait.
const PENDING: usize = 64;
/// How long the answers are waited for after the end of input: the longest interval of a tool, and its work.
const LAST_ANSWERS: Duration = Duration::from_secs(120);

/// One line, or that one was too long.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Why a line is answered by an error.
#[derive(Debug)]
struct Refused {
    id: Option<RequestId>,
    code: ErrorCode,
    why: String,
}

/// Both directions. A clone is the same connection.
pub(super) struct Lines<W> {
    input: Arc<Mutex<mpsc::Receiver<Line>>>,
    shared: Arc<Shared<W>>,
}

struct Shared<W> {
    state: StdMutex<State<W>>,
    /// An answer was written, or a request was withdrawn.
    answered: Notify,
}

struct State<W> {
    output: W,
    /// The client has closed its end.
    broken: bool,
    pending: HashSet<RequestId>,
}

impl<W> Clone for Lines<W> {
    fn clone(&self) -> Lines<W> {
        Lines { input: Arc::clone(&self.input), shared: Arc::clone(&self.shared) }
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Reads from a thread of its own, which ends with the input.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(super) fn begin(input: impl BufRead + Send + 'static, output: W) -> io::Result<Lines<W>> {
        let (to, from) = mpsc::channel(AHEAD);
        cores::start_detached(move || read(input, &to))?;
        let state = State { output, broken: false, pending: HashSet::new() };
        Ok(Lines {
            input: Arc::new(Mutex::new(from)),
            shared: Arc::new(Shared { state: StdMutex::new(state), answered: Notify::new() }),
        })
    }

    /// Whether nobody reads the answers.
    pub(super) fn is_broken(&self) -> bool {
        self.shared.with(|state| state.broken)
    }

    /// What a line says, if it is for the server; else it is answered, or needs no answer.
    fn take(&self, line: Line) -> Option<ClientJsonRpcMessage> {
        let read = match line {
            Line::Whole(bytes) => message(&bytes),
            Line::TooLong => {
                let why = format!("the line is longer than {} MiB", LINE_BYTES >> 20);
                Err(Refused { id: None, code: ErrorCode::INVALID_REQUEST, why })
            }
        };
        let message = match read {
            Ok(message) => message?,
            Err(refused) => {
                self.refuse(refused);
                return None;
            }
        };
        let noted = self.shared.with(|state| state.note(message));
        noted
            .map_err(|id| {
                let why = "an earlier request with this id has no answer yet".to_owned();
                self.refuse(Refused { id: Some(id), code: ErrorCode::INVALID_REQUEST, why });
            })
            .ok()
    }

    /// Answers a line that the SDK does not see.
    fn refuse(&self, Refused { id, code, why }: Refused) {
        let error = JsonRpcMessage::error(ErrorData::new(code, why, None), id);
        // Whether it could be written, the next line shows.
        let _ = self.shared.with(|state| state.write(&error));
    }
}

impl<W> Shared<W> {
    fn with<T>(&self, work: impl FnOnce(&mut State<W>) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<W: Write> State<W> {
    /// Writes one line.
    fn write(&mut self, message: &ServerJsonRpcMessage) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let written = self.output.write_all(&line).and_then(|()| self.output.flush());
        self.broken |= written.is_err();
        written
    }

    /// Remembers what is to be answered; an id that is in use comes back.
    fn note(&mut self, message: ClientJsonRpcMessage) -> Result<ClientJsonRpcMessage, RequestId> {
        match &message {
            JsonRpcMessage::Request(request) if !self.pending.insert(request.id.clone()) => {
                return Err(request.id.clone());
            }
            JsonRpcMessage::Notification(told) => {
                // The SDK sends no answer to a request that was withdrawn.
                if let ClientNotification::CancelledNotification(cancelled) = &told.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.pending.remove(id);
                }
            }
            _ => {}
        }
        Ok(message)
    }
}

impl<W: Write + Send + 'static> Transport<RoleServer> for Lines<W> {
    type Error = io::Error;

    fn send(&mut self, item: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let id = match &item {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        let written = self.shared.with(|state| {
            if let Some(id) = id {
                state.pending.remove(id);
            }
            state.write(&item)
        });
        self.shared.answered.notify_one();
        std::future::ready(written)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if self.is_broken() {
                return None;
            }
            if self.shared.with(|state| state.pending.len()) >= PENDING {
                self.shared.answered.notified().await;
                continue;
            }
            let Some(line) = self.input.lock().await.recv().await else { break };
            if let Some(message) = self.take(line) {
                return Some(message);
            }
        }
        let answered = async {
            while !self.is_broken() && self.shared.with(|state| !state.pending.is_empty()) {
                self.shared.answered.notified().await;
            }
        };
        // What never gets an answer does not keep the program.
        let _ = tokio::time::timeout(LAST_ANSWERS, answered).await;
        None
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads lines until the input ends; the last one may lack its end.
fn read(mut input: impl BufRead, to: &mpsc::Sender<Line>) {
    loop {
        let mut bytes = Vec::new();
        let most = LINE_BYTES as u64 + 1;
        match input.by_ref().take(most).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_whole = bytes.last() == Some(&b'\n') || bytes.len() <= LINE_BYTES;
        if !is_whole && !skip_line(&mut input) {
            return;
        }
        let line = if is_whole { Line::Whole(bytes) } else { Line::TooLong };
        if to.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Passes over the rest of a line; false when the input cannot be read.
fn skip_line(input: &mut impl BufRead) -> bool {
    loop {
        let Ok(bytes) = input.fill_buf() else { return false };
        if bytes.is_empty() {
            return true;
        }
        let end = bytes.iter().position(|b| *b == b'\n');
        let passed = end.map_or(bytes.len(), |at| at + 1);
        input.consume(passed);
        if end.is_some() {
            return true;
        }
    }
}

/// The message of a line, or the error that answers it. Nothing answers a notification, nor an empty line.
fn message(line: &[u8]) -> Result<Option<ClientJsonRpcMessage>, Refused> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let value: Json = serde_json::from_slice(line).map_err(|error| Refused {
        id: None,
        code: ErrorCode::PARSE_ERROR,
        why: format!("the line is not JSON: {error}"),
    })?;
    let id = value.get("id").and_then(|id| serde_json::from_value(id.clone()).ok());
    let is_notification = value.get("id").is_none() && value.get("method").is_some_and(Json::is_string);
    match serde_json::from_value(value) {
        Ok(message) => Ok(Some(message)),
        Err(_) if is_notification => Ok(None),
        Err(_) => {
            let why = "the line is no message of JSON-RPC 2.0: it takes jsonrpc, id, method, and params".to_owned();
            Err(Refused { id, code: ErrorCode::INVALID_REQUEST, why })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_an_error_with_the_id_if_it_has_one() {
        for (line, code, id) in [
            ("x", -32700, None),
            ("{\"a\":", -32700, None),
            ("\u{fffd}", -32700, None),
            ("[]", -32600, None),
            ("7", -32600, None),
            ("{}", -32600, None),
            (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, -32600, Some(RequestId::Number(7))),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600, None),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600, None),
        ] {
            let refused = message(line.as_bytes()).unwrap_err();
            assert_eq!((refused.code.0, refused.id), (code, id), "{line}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(message(deep.as_bytes()).unwrap_err().code.0, -32700);
        for quiet in ["", " \r\n", r#"{"jsonrpc":"1.0","method":"notifications/initialized"}"#] {
            assert!(matches!(message(quiet.as_bytes()), Ok(None)), "{quiet}");
        }
        let ping = message(br#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#);
        assert!(matches!(ping, Ok(Some(JsonRpcMessage::Request(_)))));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_is_read() {
        let long = "x".repeat(LINE_BYTES + 10);
        let text = format!("a\n{long}\n{}\nlast", "y".repeat(LINE_BYTES));
        let (to, mut from) = mpsc::channel(8);
        read(text.as_bytes(), &to);
        let mut lines = Vec::new();
        while let Ok(line) = from.try_recv() {
            lines.push(match line {
                Line::Whole(bytes) => bytes.len(),
                Line::TooLong => 0,
            });
        }
        assert_eq!(lines, [2, 0, LINE_BYTES + 1, 4]);
    }
}
