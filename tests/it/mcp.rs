//! `tcpstate mcp` as an agent's client sees it: lines of JSON-RPC over two pipes. Comes in: known sockets, requests, text that
//! is none. Goes out: valid documents, errors, an end with 0. Never here: what a command says; other areas hold that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::helper::Helper;
use crate::harness::{Netns, PATIENCE, finish, in_netns, wait_for};
use crate::json::{assert_valid, validator};
use crate::product;
use crate::record::{series, written};

const TOOLS: [&str; 5] = ["doctor", "summary", "list", "diff", "explain"];

/// A server, and the client of it.
struct Client {
    server: Child,
    stdin: Option<ChildStdin>,
    stderr: ChildStderr,
    lines: Receiver<String>,
    /// Answers that came while another one was waited for.
    answers: BTreeMap<String, Json>,
    last_id: u64,
}

impl Client {
    /// Starts it; nothing is said yet.
    fn start(ns: &Netns, words: &[&str]) -> Client {
        let words = [&["mcp"], words].concat();
        let mut command: Command = product::with(ns, &words);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = pipes.spawn().expect("the server");
        let stdout = BufReader::new(server.stdout.take().expect("a pipe"));
        let (to, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        let (stdin, stderr) = (server.stdin.take(), server.stderr.take().expect("a pipe"));
        Client { server, stdin, stderr, lines, answers: BTreeMap::new(), last_id: 0 }
    }

    /// A session, as every client begins it.
    fn open(ns: &Netns, words: &[&str]) -> Client {
        let mut client = Client::start(ns, words);
        let begun = client.ask("initialize", &initialize());
        let server = &begun["result"]["serverInfo"];
        assert_eq!((&server["name"], &server["version"]), (&json!("tcpstate"), &json!(env!("CARGO_PKG_VERSION"))));
        assert_eq!(begun["result"]["protocolVersion"], "2025-06-18");
        client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        client
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open session");
        stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()).expect("a server that reads");
    }

    fn request(&mut self, method: &str, params: &Json) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    /// The next line of the server, which is a message of the protocol whatever it says.
    #[track_caller]
    fn line(&mut self) -> Json {
        let line = self.lines.recv_timeout(PATIENCE * 3).expect("a line of the server");
        let message: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        message
    }

    #[track_caller]
    fn answer(&mut self, id: u64) -> Json {
        loop {
            if let Some(answer) = self.answers.remove(&id.to_string()) {
                return answer;
            }
            let message = self.line();
            self.answers.insert(message["id"].to_string(), message);
        }
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: &Json) -> Json {
        let id = self.request(method, params);
        self.answer(id)
    }

    /// The result of a tool.
    #[track_caller]
    fn call(&mut self, tool: &str, arguments: &Json) -> Json {
        self.ask("tools/call", &json!({ "name": tool, "arguments": arguments }))["result"].clone()
    }

    /// The document of a tool, which is valid, and the text beside it.
    #[track_caller]
    fn document(&mut self, tool: &str, arguments: &Json) -> (Json, String) {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], true, "{tool} {arguments}: {result}");
        let document = result["structuredContent"].clone();
        assert_valid(&validator(Some(tool)), &document, tool);
        assert!(validator(None).is_valid(&document), "{tool}: more than one kind of document, or none");
        let text = result["content"][0]["text"].as_str().expect("a text").to_owned();
        assert!(!text.is_empty() && !text.contains('\u{1b}'), "{tool}: {text}");
        (document, text)
    }

    /// The complaint of a tool: one line.
    #[track_caller]
    fn complaint(&mut self, tool: &str, arguments: &Json) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool} {arguments}: {result}");
        let text = result["content"][0]["text"].as_str().expect("a text").to_owned();
        assert!(!text.contains('\n') && result["structuredContent"].is_null(), "{tool} {arguments}: {result}");
        text
    }

    /// Ends the input: the server answers what it was asked, and ends with 0 and without a word elsewhere.
    #[track_caller]
    fn end(mut self) -> Vec<Json> {
        drop(self.stdin.take());
        let mut rest: Vec<Json> = std::mem::take(&mut self.answers).into_values().collect();
        let status = wait_for("the end of the server", || {
            self.server.try_wait().expect("waitpid").ok_or_else(|| "it runs".to_owned())
        });
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            rest.push(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")));
        }
        let mut complaints = String::new();
        self.stderr.read_to_string(&mut complaints).expect("standard error");
        assert_eq!((status.code(), complaints.as_str()), (Some(0), ""));
        rest
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn initialize() -> Json {
    json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } })
}

fn count(value: &Json) -> usize {
    usize::try_from(value.as_u64().expect("a count")).expect("a size")
}

#[test]
fn the_tools_are_described_and_only_read() {
    in_netns(|ns| {
        let mut client = Client::open(ns, &[]);
        let listed = client.ask("tools/list", &json!({}));
        let tools = listed["result"]["tools"].as_array().expect("tools");
        assert_eq!(tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect::<Vec<_>>(), TOOLS);
        for tool in tools {
            let hints = &tool["annotations"];
            assert_eq!((&hints["readOnlyHint"], &hints["destructiveHint"]), (&json!(true), &json!(false)), "{tool}");
            assert!(tool["description"].as_str().is_some_and(|text| text.len() > 80), "{tool}");
            let schema = &tool["inputSchema"];
            let takes = jsonschema::validator_for(schema).expect("a schema");
            assert!(takes.is_valid(&json!({})) && !takes.is_valid(&json!({ "from": "/etc/shadow" })), "{schema}");
            for (name, argument) in schema["properties"].as_object().expect("arguments") {
                assert!(argument["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
            }
            jsonschema::validator_for(&tool["outputSchema"]).expect("a schema");
        }
        // What reads every token of it pays for it.
        assert!(listed.to_string().len() < 16 << 10, "{} bytes", listed.to_string().len());
        let killed = client.ask("tools/call", &json!({ "name": "kill", "arguments": { "filter": "state listen" } }));
        assert_eq!(killed["error"]["code"], -32602, "{killed}");
        assert!(client.end().is_empty());
    });
}

#[test]
fn each_tool_says_what_the_command_says() {
    in_netns(|ns| {
        let mut leaking = Helper::start(ns);
        leaking.make("close_wait 7000 250 eof_read closed");
        let mut client = Client::open(ns, &[]);
        let ids = |document: &Json| -> Vec<String> {
            document["findings"].as_array().unwrap().iter().map(|finding| finding["id"].to_string()).collect()
        };
        // The rule waits until the other ends have been closed for some seconds.
        let found = wait_for("a finding", || {
            let document = product::document(&finish(&mut product::with(ns, &["doctor", "--json", "--once"])));
            let found = ids(&document);
            if found.is_empty() { Err(document.to_string()) } else { Ok(found) }
        });
        let (doctor, text) = client.document("doctor", &json!({ "once": true }));
        assert_eq!(ids(&doctor), found);
        assert!(found[0].contains("fin-wait2"), "{doctor:#}");
        assert!(text.contains(&format!("({})", leaking.pid())) && text.contains("FIN_WAIT2"), "{text}");
        let (summary, text) = client.document("summary", &json!({ "by": ["process"], "top": 3 }));
        assert_eq!((&summary["states"]["close_wait"], &summary["states"]["listen"]), (&json!(250), &json!(1)));
        assert!(text.contains("CLOSE_WAIT"), "{text}");

        let asked = json!({ "filter": "state close-wait", "columns": ["state", "local", "peer", "pid"], "limit": 5 });
        let (mut list, text) = client.document("list", &asked);
        assert_eq!(list["sockets"].as_array().unwrap().len(), 5);
        assert_eq!((&list["total"], &list["left_out"]), (&json!(250), &json!({ "sockets": 245 })));
        assert!(text.contains("245 more sockets are not shown") && text.lines().count() == 7, "{text}");
        let same = ["list", "--json", "--limit", "5", "-c", "state,local,peer,pid", "state", "close-wait"];
        let mut command = product::json(ns, &same);
        for document in [&mut list, &mut command] {
            document["taken_at"] = Json::Null;
        }
        assert_eq!(list, command, "no second JSON");

        let (page, text) = client.document("explain", &json!({ "topic": "CLOSE_WAIT" }));
        assert_eq!(page["topic"]["name"], "close_wait");
        assert!(text.contains("close()"), "{text}");
        let (machine, text) = client.document("explain", &json!({ "topic": "machine" }));
        assert_eq!(machine["states"]["close_wait"], 250);
        assert!(text.contains("CLOSE_WAIT 250"), "{text}");
        let (bind, _) = client.document("explain", &json!({ "topic": "bind 127.0.0.1:7000" }));
        assert_eq!((&bind["bind"]["verdict"], &bind["bind"]["errno"]), (&json!("fails"), &json!("EADDRINUSE")));
        let (topics, _) = client.document("explain", &json!({}));
        assert!(topics["topics"].as_array().is_some_and(|all| all.len() > 80));

        // Between the two looks a hundred connections come.
        let id =
            client.request("tools/call", &json!({ "name": "diff", "arguments": { "interval": "2s", "limit": 10 } }));
        std::thread::sleep(Duration::from_millis(700));
        leaking.make("established 7100 50");
        let diff = client.answer(id)["result"]["structuredContent"].clone();
        assert_valid(&validator(Some("diff")), &diff, "diff");
        assert_eq!((&diff["changed"], diff["appeared"].as_array().unwrap().len()), (&json!(true), 10));
        assert_eq!(diff["left_out"]["appeared"], json!(101 - 10), "{diff}");
        assert_eq!(diff["states"]["established"], json!({ "before": 0, "after": 100 }));
        assert!(client.end().is_empty());
    });
}

#[test]
fn what_is_wrong_with_a_call_is_said_in_one_line_with_the_way_out() {
    in_netns(|ns| {
        let mut client = Client::open(ns, &[]);
        for (tool, arguments, why) in [
            ("list", json!({ "filter": "dport =" }), "filter: "),
            // Nobody is asked for a name: who may ask could send what it likes in one.
            ("list", json!({ "filter": "dst localhost" }), "filter: "),
            ("list", json!({ "filter": "sport = 80 and\n(dport = 1" }), "filter: "),
            ("list", json!({ "filter": "x\u{0}y" }), "filter: "),
            ("list", json!({ "columns": ["colour"] }), "columns: `colour` is not a column"),
            ("list", json!({ "sort": "-recvq-x" }), "sort: `recvq-x` is not a column"),
            ("list", json!({ "limit": 100_000 }), "limit: 100000 is not a whole number from 1 to 500"),
            ("list", json!({ "from": "/etc/shadow" }), "`from` is not an argument of list"),
            ("list", json!({ "at": "-5m" }), "at: the server reads the running system"),
            ("summary", json!({ "by": ["proces"] }), "by: `proces` is not a key; did you mean `process`?"),
            ("doctor", json!({ "rule": ["close-wait-laek"] }), "rule: `close-wait-laek` is not a rule; did you mean"),
            ("doctor", json!({ "min_severity": "loud" }), "min-severity: `loud` is not a severity"),
            ("doctor", json!({ "interval": "2h" }), "interval: a tool waits 60 s at most"),
            ("diff", json!({ "before": "-5m" }), "before: the server reads the running system"),
            ("explain", json!({ "topic": "teapot" }), "`teapot` is no topic"),
            ("explain", json!({ "topic": "bind /etc/shadow" }), "`/etc/shadow` is no address and port"),
            ("explain", json!({ "topic": "--help" }), "`--help` is no topic"),
        ] {
            let complaint = client.complaint(tool, &arguments);
            assert!(complaint.starts_with(why), "{tool} {arguments}: {complaint}");
        }
        // It goes on.
        assert_eq!(client.document("summary", &json!({})).0["total"], 0);
        assert!(client.end().is_empty());
    });
}

/// Lines that are no request of the protocol, and the code of the answer.
const MALFORMED: [(&str, i64); 14] = [
    ("hello", -32700),
    ("{\"jsonrpc\":\"2.0\",\"id\":1", -32700),
    ("\u{1b}[2J", -32700),
    ("{}", -32600),
    ("[]", -32600),
    ("null", -32600),
    (r#"[{"jsonrpc":"2.0","id":9,"method":"ping"}]"#, -32600),
    (r#"{"jsonrpc":"1.0","id":9,"method":"ping"}"#, -32600),
    (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
    (r#"{"jsonrpc":"2.0","id":"a","method":"no/such"}"#, -32601),
    (r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":7}}"#, -32602),
    (r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"kill"}}"#, -32602),
    (r#"{"jsonrpc":"2.0","id":"d","method":"tools/call","params":{"name":"list","arguments":[]}}"#, -32602),
    (r#"{"jsonrpc":"2.0","id":"e","method":"resources/read","params":{"uri":"file:///etc/shadow"}}"#, -32601),
];

#[test]
fn malformed_requests_by_the_thousand_are_answered_and_end_nothing() {
    in_netns(|ns| {
        let mut client = Client::start(ns, &[]);
        // Before the handshake, too: what the SDK takes for a wrong beginning ends no server.
        for line in ["x", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, "{}"] {
            client.say(line);
        }
        client.say(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#);
        client.say(r#"{"jsonrpc":"2.0","id":"early","method":"tools/list"}"#);
        let codes: Vec<Json> = (0..3).map(|_| client.line()["error"]["code"].clone()).collect();
        assert_eq!(codes, [json!(-32700), json!(-32600), json!(-32602)]);
        assert!(client.ask("initialize", &initialize())["result"].is_object());

        let rounds = 300;
        for round in 0..rounds {
            for (line, _) in MALFORMED {
                // Each request has an id of its own.
                client.say(&line.replace("\"id\":\"", &format!("\"id\":\"{round}-")));
            }
        }
        let mut codes: BTreeMap<i64, usize> = BTreeMap::new();
        for _ in 0..rounds * MALFORMED.len() {
            let answer = client.line();
            *codes.entry(answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))).or_default() += 1;
        }
        let mut expected: BTreeMap<i64, usize> = BTreeMap::new();
        for (_, code) in MALFORMED {
            *expected.entry(code).or_default() += rounds;
        }
        assert_eq!(codes, expected);

        // A line without an end, of more than is read; bytes that are no text; what needs no answer.
        client.say(&"x".repeat(3 << 20));
        assert_eq!(client.line()["error"]["code"], -32600);
        client.stdin.as_mut().unwrap().write_all(b"\xff\xfe\n\n  \n").unwrap();
        assert_eq!(client.line()["error"]["code"], -32700);
        client.say(r#"{"jsonrpc":"2.0","method":"notifications/nonsense","params":7}"#);
        // Two requests with one id, while the first is at work.
        let slow = json!({ "name": "diff", "arguments": { "interval": "500ms" } });
        let id = client.request("tools/call", &slow);
        client.say(&json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string());
        assert_eq!(client.line()["error"]["code"], -32600);
        assert_eq!(client.answer(id)["result"]["structuredContent"]["command"], "diff");
        assert!(client.ask("ping", &json!({}))["result"].is_object());
        assert!(client.end().is_empty());
    });
}

#[test]
fn every_call_is_answered_before_the_end_and_a_withdrawn_one_is_not_waited_for() {
    in_netns(|ns| {
        let mut client = Client::open(ns, &[]);
        let ids: Vec<u64> =
            (0..100).map(|_| client.request("tools/call", &json!({ "name": "summary", "arguments": {} }))).collect();
        let slow = client.request("tools/call", &json!({ "name": "diff", "arguments": { "interval": "60s" } }));
        let withdrawn = json!({ "requestId": slow, "reason": "test" });
        client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": withdrawn }).to_string());
        let answered: Vec<u64> = client.end().iter().map(|answer| answer["id"].as_u64().expect("an id")).collect();
        let mut sorted = answered.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ids, "each once");
    });
}

#[test]
fn answers_are_bounded_at_a_hundred_thousand_sockets() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tcp");
        let mut table = String::from(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
        );
        for n in 0..100_000u32 {
            let (peer, port) = (0x0a00_0000 + n / 50_000, 1024 + n % 50_000);
            let row = format!(
                "{n:4}: 0100007F:01BB {:08X}:{port:04X} 01 00000000:00000001 00:00000000 00000000",
                peer.swap_bytes()
            );
            writeln!(table, "{row}  1000        0 {} 1 0000000000000000 20 4 30 10 -1", 5000 + n).unwrap();
        }
        std::fs::write(&file, table).expect("a file");
        let mut client = Client::open(ns, &["--from", file.to_str().unwrap()]);
        for (tool, arguments) in [
            ("list", json!({})),
            (
                "list",
                json!({ "limit": 500, "sort": "-peer", "columns": ["state", "local", "peer", "recv-q", "inode", "user"] }),
            ),
            ("summary", json!({ "by": ["peer-addr", "peer-port"], "top": 200 })),
            ("summary", json!({})),
            ("doctor", json!({})),
            ("explain", json!({ "topic": "machine" })),
        ] {
            let (document, text) = client.document(tool, &arguments);
            let sizes = (document.to_string().len(), text.len());
            assert!(sizes.0 <= 64 << 10 && sizes.1 <= 40 << 10, "{tool} {arguments}: {sizes:?}");
            if tool == "list" {
                let rows = document["sockets"].as_array().unwrap().len();
                assert_eq!(count(&document["total"]), 100_000);
                assert_eq!(count(&document["left_out"]["sockets"]), 100_000 - rows);
                assert!(rows > 40 && text.contains("more sockets are not shown"), "{rows}");
            }
        }
        assert!(client.end().is_empty());
    });
}

#[test]
fn a_capture_is_all_that_its_server_reads() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("web@incident.tcps.zst");
        let file = file.to_str().unwrap();
        std::fs::write(file, written(&series(ns, 3), true)).expect("a file");
        let mut client = Client::open(ns, &["--from", file]);
        let tools = client.ask("tools/list", &json!({}));
        let diff = tools["result"]["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "diff").unwrap();
        assert_eq!(diff["inputSchema"]["required"], json!(["before"]));
        let (list, _) = client.document("list", &json!({ "filter": "state close-wait" }));
        assert_eq!((&list["source"], &list["total"]), (&json!("capture"), &json!(2)));
        let first = {
            let words = ["list", "--json", "--from", file, "--at", "-1ms"];
            product::json(ns, &words)["taken_at"].as_str().unwrap().to_owned()
        };
        let (earlier, _) = client.document("list", &json!({ "at": first }));
        assert_eq!(earlier["taken_at"], json!(first));
        let (diff, _) = client.document("diff", &json!({ "before": first }));
        assert_eq!((&diff["changed"], &diff["before"]["taken_at"]), (&json!(true), &json!(first)));
        client.document("doctor", &json!({}));
        let (machine, _) = client.document("explain", &json!({ "topic": "machine" }));
        assert_eq!(machine["source"], "capture");
        for (tool, arguments, why) in [
            ("diff", json!({}), "before: it is missing"),
            ("diff", json!({ "before": "-1m@/etc/shadow" }), "before: "),
            ("summary", json!({ "interval": "1s" }), "interval: the server reads a capture"),
            ("list", json!({ "at": "-2h" }), "at: "),
            ("explain", json!({ "topic": "bind 0.0.0.0:80" }), "explain bind needs the running system"),
        ] {
            let complaint = client.complaint(tool, &arguments);
            assert!(complaint.starts_with(why) || tool == "list", "{tool} {arguments}: {complaint}");
        }
        assert!(client.end().is_empty());
        for (words, why) in [(["--from", "/nowhere"], "cannot open /nowhere"), (["--from", "-"], "standard input")] {
            let output = finish(&mut product::with(ns, &[&["mcp"], &words[..]].concat()));
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), complaint.lines().count()), (Some(2), 1), "{complaint}");
            assert!(complaint.contains(why) && output.stdout.is_empty(), "{complaint}");
        }
    });
}
