//! The program under test, as a script uses it. Comes in: a namespace and words. Goes out: what it wrote, and the
//! sockets of its JSON as plain values. What a script cannot see is not read here.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value as Json;
use tcpstate::model::gap::{Gap, Missing, WayOut, Why};
use tcpstate::model::state::State;
use tcpstate::render::gap;

use crate::harness::{Netns, finish, netns};

/// One socket as the JSON tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub state: State,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub recv_q: u64,
    pub send_q: Option<u64>,
    pub uid: Option<u64>,
    /// `None` where no file refers to the socket.
    pub inode: Option<u64>,
    pub owners: Vec<Owner>,
    pub status: String,
}

/// One holder as the JSON tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub pid: u64,
    pub fd: u64,
    pub comm: String,
    pub uid: Option<u64>,
}

/// Runs the program and fails unless it ends with 0 and without a word on standard error.
#[track_caller]
pub fn run(ns: &Netns, args: &[&str]) -> Output {
    quiet(&mut with(ns, args))
}

/// The program in a namespace, with an environment that decides nothing: no colours, no configuration.
pub fn with(ns: &Netns, args: &[&str]) -> Command {
    let mut command = ns.product();
    plain(&mut command).args(args);
    command
}

/// The same by descriptor, for a user who may not walk to the build directory; the file must outlive the start.
pub fn by_descriptor(ns: &Netns, args: &[&str]) -> (Command, std::fs::File) {
    let binary = std::fs::File::open(env!("CARGO_BIN_EXE_tcpstate")).expect("open the program");
    let mut command = ns.command(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&binary)));
    plain(&mut command).args(args).current_dir("/");
    (command, binary)
}

/// The same as another user. Only root can.
pub fn with_user(ns: &Netns, uid: u32, args: &[&str]) -> (Command, std::fs::File) {
    let (mut command, binary) = by_descriptor(ns, args);
    netns::as_user(&mut command, uid);
    (command, binary)
}

/// Whether another user can be played.
pub fn can_be_another_user() -> bool {
    netns::is_real_root()
}

fn plain(command: &mut Command) -> &mut Command {
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "HOME", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm")
}

/// Ends with 0 and says nothing on standard error.
#[track_caller]
pub fn quiet(command: &mut Command) -> Output {
    let output = finish(command);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{command:?}: {}\n{complaint}", output.status);
    output
}

/// The document that the program prints.
#[track_caller]
pub fn json(ns: &Netns, args: &[&str]) -> Json {
    document(&run(ns, args))
}

#[track_caller]
pub fn document(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("not JSON: {e}\n{}", String::from_utf8_lossy(&output.stdout)))
}

/// The text that the program prints.
#[track_caller]
pub fn text(ns: &Netns, args: &[&str]) -> String {
    String::from_utf8(run(ns, args).stdout).expect("text")
}

/// The sockets of a `list` document, sorted.
#[track_caller]
pub fn sockets(list: &Json) -> Vec<Shown> {
    let mut shown: Vec<Shown> = list["sockets"].as_array().expect("sockets").iter().map(socket).collect();
    assert_eq!(list["total"].as_u64(), Some(shown.len() as u64), "the total is that of the rows");
    shown.sort();
    shown
}

#[track_caller]
pub fn socket(json: &Json) -> Shown {
    let endpoint = |at: &Json| {
        let text = at["addr"].as_str().expect("addr");
        let port = at["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("port");
        SocketAddr::new(text.parse().expect("an address"), port)
    };
    let mut owners: Vec<Owner> = json["owners"].as_array().expect("owners").iter().map(owner).collect();
    owners.sort();
    Shown {
        state: State::parse(json["state"].as_str().expect("state")).expect("a state"),
        local: endpoint(&json["local"]),
        peer: endpoint(&json["peer"]),
        recv_q: json["recv_q_bytes"].as_u64().expect("recv_q_bytes"),
        send_q: json["send_q_bytes"].as_u64(),
        uid: json["uid"].as_u64(),
        inode: json["inode"].as_u64().filter(|n| *n != 0),
        owners,
        status: json["owner_status"].as_str().expect("owner_status").to_owned(),
    }
}

fn owner(json: &Json) -> Owner {
    Owner {
        pid: json["pid"].as_u64().expect("pid"),
        fd: json["fd"].as_u64().expect("fd"),
        comm: json["comm"].as_str().expect("comm").to_owned(),
        uid: json["uid"].as_u64(),
    }
}

/// The keys of what a document lacks.
#[track_caller]
pub fn missing(document: &Json) -> Vec<&str> {
    let gaps = document["gaps"].as_array().expect("gaps");
    gaps.iter().map(|g| g["missing"].as_str().expect("a key")).collect()
}

/// Whether a document has this gap.
#[track_caller]
pub fn has_gap(document: &Json, missing: Missing, why: Why, way_out: WayOut) -> bool {
    let wanted = gap::object(&Gap::new(missing, why, way_out));
    document["gaps"].as_array().expect("gaps").iter().any(|g| g.as_object() == Some(&wanted))
}

/// The gaps of a document, each in one line, to show.
#[track_caller]
pub fn gaps(document: &Json) -> Vec<String> {
    let gaps = document["gaps"].as_array().expect("gaps");
    gaps.iter().map(|g| format!("{}: {}", g["what"].as_str().unwrap(), g["why"].as_str().unwrap())).collect()
}
