//! `tcpstate mcp`: what agents ask about the sockets of a host, over the Model Context Protocol.
//!
//! Input: requests on standard input, one a line. Output: answers on standard output, and nothing else there. A call of a tool
//! is a command line that only reads; it runs in here, and answers with its JSON document and its text.

mod answer;
mod lines;
mod tools;

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult, ErrorCode,
    ErrorData, Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::{QuitReason, RequestContext, ServerInitializeError};
use rmcp::{RoleServer, ServerHandler, serve_server};
use serde_json::{Map, Value as Json, json};

use crate::cli::args::{Common, Origin, Replay};
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::watch::give_back_memory;
use crate::collect::names;
use lines::Lines;
use tools::Source;

/// Calls that run at a time; others wait.
const CALLS: usize = 2;

const EXAMPLES: &str = "\
Examples:
  tcpstate mcp                                for a client that starts it: the running system
  tcpstate mcp --from incident.tcps.zst       a capture, and nothing of this host
  claude mcp add tcpstate -- tcpstate mcp     for Claude Code; docs/mcp.md has other clients

Tools: doctor, summary, list, diff, explain. They only read: none destroys a socket, and none takes the name of a file. What a
tool cannot see as this user, its answer says.

Exit codes: 0 at the end of input, 2 wrong usage or nothing could be read.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct McpArgs {
    /// Do not search for the processes that hold the sockets
    #[arg(long, help_heading = "Source")]
    pub no_owners: bool,
    #[command(flatten)]
    pub origin: Origin,
    #[command(flatten)]
    pub replay: Replay,
}

pub(crate) fn run(args: &McpArgs) -> anyhow::Result<Exit> {
    if args.replay.from.iter().any(|from| from.as_os_str() == "-") {
        bail!("--from -: standard input has the requests; give a file");
    }
    if args.replay.from.len() > 1 {
        bail!("--from is given more than once, and mcp reads one file or folder");
    }
    give_back_memory();
    let (origin, replay) = (args.origin.clone(), args.replay.clone());
    // What cannot be read is told now, to whom configures it.
    names::ask_nobody();
    drop(Session::open(&Common { origin, replay, ..Common::default() })?);
    let server = Server { source: Arc::new(source(args)) };
    let lines = Lines::begin(BufReader::new(io::stdin()), io::stdout()).context("cannot read standard input")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(CALLS).build()?;
    let ended = runtime.block_on(serve(server, lines));
    // A call that nobody waits for any more does not keep the program.
    runtime.shutdown_background();
    ended.map(|()| Exit::Done)
}

/// Serves until the input ends, or nobody reads the answers.
async fn serve(server: Server, lines: Lines<io::Stdout>) -> anyhow::Result<()> {
    loop {
        match serve_server(server.clone(), lines.clone()).await {
            Ok(running) => match running.waiting().await? {
                QuitReason::JoinError(error) => return Err(error.into()),
                _ => return Ok(()),
            },
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(_) if lines.is_broken() => return Ok(()),
            // The line was no beginning of a session; the next one may be.
            Err(_) => {}
        }
    }
}

/// The options of the server as those of its tools.
fn source(args: &McpArgs) -> Source {
    let option = |name: &str, value: &std::ffi::OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        word
    };
    let origin = &args.origin;
    let mut words: Vec<OsString> = origin.netns.iter().map(|name| option("netns", name.as_ref())).collect();
    words.extend(origin.container.iter().map(|name| option("container", name.as_ref())));
    words.extend(origin.pod.iter().map(|name| option("pod", name.as_ref())));
    words.extend(args.replay.host.iter().map(|host| option("host", host.as_ref())));
    words.extend(origin.proc_root.iter().map(|path| option("proc-root", path.as_ref())));
    if let Some(source) = origin.source.to_possible_value().filter(|_| args.replay.from.is_empty()) {
        words.push(option("source", source.get_name().as_ref()));
    }
    Source {
        from: args.replay.from.first().map(|path| path.clone().into()),
        at: args.replay.at.map(|at| format!("--at={at}").into()),
        origin: words,
        no_owners: args.no_owners,
    }
}

#[derive(Clone)]
struct Server {
    source: Arc<Source>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let reads = match &self.source.from {
            Some(from) => format!("the capture {}", from.to_string_lossy()),
            None => "this host as it is now".to_owned(),
        };
        let mut name = Implementation::new("tcpstate", env!("CARGO_PKG_VERSION"));
        name.title = Some("tcpstate: TCP connections of a Linux host".to_owned());
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(name).with_instructions(
            format!(
                "Reads the TCP sockets of {reads}; changes nothing. Begin with doctor: it names what is wrong, the process at \
                 fault, the evidence and the remedy. Look closer with list and summary, compare with diff, and look up words \
                 with explain. `gaps` says what could not be seen; never take it for zero."
            ),
        )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::TOOLS.iter().map(|tool| description(tool, &self.source)).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = tools::find(&request.name) else {
            let names: Vec<&str> = tools::TOOLS.iter().map(|tool| tool.name).collect();
            let why = format!("there is no tool `{}`; there are {}", request.name, names.join(", "));
            return Err(ErrorData::new(ErrorCode::INVALID_PARAMS, why, None));
        };
        let (source, withdrawn) = (Arc::clone(&self.source), context.ct.clone());
        let call = move || {
            if withdrawn.is_cancelled() {
                return Err("the call was withdrawn".to_owned());
            }
            let words = tools::words(tool, &request.arguments.unwrap_or_default(), &source)?;
            answer::answer(&words)
        };
        let answered = tokio::task::spawn_blocking(call).await;
        Ok(match answered {
            Ok(Ok(answer)) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
                result.structured_content = Some(answer.document);
                result
            }
            Ok(Err(why)) => CallToolResult::error(vec![ContentBlock::text(why)]),
            Err(_) => CallToolResult::error(vec![ContentBlock::text(format!(
                "{} failed, which is a fault of tcpstate; standard error of the server has the place",
                tool.name
            ))]),
        }
        .into())
    }

    /// A method that is known comes here when its parameters do not fit.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method;
        Err(match method.as_str() {
            "initialize" | "ping" | "tools/list" | "tools/call" => {
                ErrorData::new(ErrorCode::INVALID_PARAMS, format!("the parameters of {method} do not fit it"), None)
            }
            _ => ErrorData::new(
                ErrorCode::METHOD_NOT_FOUND,
                format!("there is no method `{method}`; there are tools"),
                None,
            ),
        })
    }
}

fn description(tool: &tools::Tool, source: &Source) -> Tool {
    let hints =
        ToolAnnotations::with_title(tool.title).read_only(true).destructive(false).idempotent(true).open_world(false);
    Tool::new(tool.name, tool.help, tools::input_schema(tool, source))
        .with_title(tool.title)
        .with_annotations(hints)
        .with_raw_output_schema(Arc::new(output_schema(tool.name)))
}

/// How every document of a tool begins; the whole schema is too long for the context of a language model.
fn output_schema(name: &str) -> Map<String, Json> {
    let schema = json!({
        "type": "object",
        "description": "The document of `tcpstate COMMAND --json`, schema tcpstate/1; `tcpstate generate schema` prints all of it.",
        "properties": { "schema": { "const": crate::render::json::SCHEMA }, "command": { "const": name } },
        "required": ["schema", "command"],
    });
    match schema {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}
