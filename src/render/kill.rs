//! What `kill` would destroy, what follows from it, and what became of each socket.
//!
//! Input: sockets with their fates, and their owners. Output: text, or JSON.

use std::io;

use serde_json::{Map, Value as Json, json};

use crate::model::column::{Names, Row};
use crate::model::fate::{Fate, Spared, Tally, resets_peer};
use crate::model::{Errno, Gap, OwnerTable, Socket, State};
use crate::render::json::{self as out, Head};
use crate::render::sanitize;
use crate::text::{self, count};

/// Names of processes in a sentence; the rest is counted.
const NAMED: usize = 3;

/// A socket that matches, and what becomes of it.
#[derive(Debug)]
pub struct Target {
    pub socket: Socket,
    pub fate: Fate,
}

/// All sockets that match.
pub struct Kill<'a> {
    pub targets: &'a [Target],
    pub owners: &'a OwnerTable,
    pub names: &'a dyn Names,
    /// The options that say where, for commands in the text.
    pub scope: &'a str,
}

impl Kill<'_> {
    /// How many have which fate.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally::of(self.targets.iter().map(|target| target.fate))
    }

    fn sockets(&self, fate: Fate) -> impl Iterator<Item = &Socket> {
        self.targets.iter().filter(move |target| target.fate == fate).map(|target| &target.socket)
    }

    /// Appends what would be destroyed, and what follows from it.
    pub fn write_plan(&self, out: &mut String) {
        let tally = self.tally();
        if tally.planned > 0 {
            let sockets = count(tally.planned, "socket would be destroyed", "sockets would be destroyed");
            out.push_str(&format!("\n{sockets}. What follows:\n"));
            self.write_consequences(out, Fate::Planned);
        } else if tally.refused == 0 {
            out.push_str("no socket matches\n");
        }
        self.write_spared(out);
    }

    /// Appends what became of the sockets.
    pub fn write_outcome(&self, out: &mut String) {
        let Tally { destroyed, gone, changed, refused, .. } = self.tally();
        let numbers = [(destroyed, "destroyed"), (gone, "gone before"), (changed, "changed"), (refused, "refused")];
        let parts = numbers.map(|(n, word)| format!("{} {word}", text::grouped(n)));
        out.push_str(&format!("{}\n", parts.join(", ")));
        if destroyed > 0 {
            self.write_consequences(out, Fate::Destroyed);
        }
        let mut states: Vec<(State, u64)> = Vec::new();
        let mut errors: Vec<(Errno, u64)> = Vec::new();
        for target in self.targets {
            match target.fate {
                Fate::Changed(state) => add(&mut states, state),
                Fate::Refused(errno) => add(&mut errors, errno),
                _ => {}
            }
        }
        for (state, n) in states {
            let sockets = count(n, "socket is", "sockets are");
            out.push_str(&format!("  changed: {sockets} in {state} by now, and not touched\n"));
        }
        for (errno, n) in errors {
            out.push_str(&format!("  refused: {}, the kernel says {errno}\n", count(n, "socket", "sockets")));
        }
        self.write_spared(out);
    }

    /// Appends what the end of the sockets of one fate means for others.
    fn write_consequences(&self, out: &mut String, fate: Fate) {
        let (mut resets, mut listeners, mut silent) = (0, 0, 0);
        let (mut descriptors, mut pids, mut who) = (0u64, Vec::new(), Vec::new());
        for socket in self.sockets(fate) {
            *match socket.state {
                _ if resets_peer(socket) => &mut resets,
                State::Listen => &mut listeners,
                _ => &mut silent,
            } += 1;
            for holder in self.owners.holders(socket.inode) {
                let process = self.owners.process(holder);
                descriptors += 1;
                if !pids.contains(&process.pid) {
                    pids.push(process.pid);
                    if who.len() < NAMED {
                        who.push(sanitize::clean(&text::name(process)));
                    }
                }
            }
        }
        if resets > 0 {
            let peers = count(resets, "peer gets", "peers get");
            out.push_str(&format!("  {peers} a RST; bytes that wait to be sent are lost\n"));
        }
        if listeners > 0 {
            let sockets = count(listeners, "listener ends", "listeners end");
            out.push_str(&format!(
                "  {sockets}; connections that wait for accept() are reset, later ones are refused\n"
            ));
        }
        if silent > 0 {
            out.push_str(&format!("  {} nothing\n", count(silent, "peer hears", "peers hear")));
        }
        if descriptors > 0 {
            if pids.len() > who.len() {
                who.push(format!("{} more", pids.len() - who.len()));
            }
            let stay = count(descriptors, "descriptor stays", "descriptors stay");
            let look = text::within("tcpstate doctor --rule closed-socket-fd-leak", self.scope);
            out.push_str(&format!(
                "  {stay} open until closed by {}: a program that leaks them goes on, and no list of\n  \
                 sockets shows it any more; `{look}` (closed-socket-fd-leak) does\n",
                who.join(", ")
            ));
        }
    }

    fn write_spared(&self, out: &mut String) {
        for spared in Spared::ALL {
            let n = self.sockets(Fate::Spared(spared)).count() as u64;
            if n == 0 {
                continue;
            }
            let (one, many, why) = match spared {
                Spared::Listener => {
                    ("listener", "listeners", "its service would be gone for everybody; --listen takes it too")
                }
                Spared::TimeWait => {
                    ("TIME_WAIT", "TIME_WAITs", "it keeps old segments out of later connections; --force takes it too")
                }
                Spared::BoundInactive => {
                    ("bound socket", "bound sockets", "it has no peer, and the kernel cannot find it; close it instead")
                }
                Spared::Hidden => ("listener", "listeners", "others that listen on the port are found in its place"),
                Spared::NoCookie => ("socket", "sockets", "the kernel reports no cookie, so it could be another one"),
            };
            out.push_str(&format!("  refused: {}: {why}\n", count(n, one, many)));
        }
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// Never on sound data: the text of a socket is JSON.
    pub fn document(&self, head: &Head, executed: bool, gaps: &[Gap]) -> io::Result<Json> {
        let mut document = out::head(head);
        let targets = self.targets.iter().map(|target| self.target(target)).collect::<io::Result<Vec<_>>>()?;
        let Tally { planned, destroyed, gone, changed, refused } = self.tally();
        document.insert("executed".into(), json!(executed));
        document.insert("targets".into(), json!(targets));
        document.insert("total".into(), json!(self.targets.len()));
        for (key, n) in Fate::KEYS.into_iter().zip([planned, destroyed, gone, changed, refused]) {
            document.insert(key.into(), json!(n));
        }
        document.insert("gaps".into(), out::gaps(gaps));
        Ok(Json::Object(document))
    }

    fn target(&self, target: &Target) -> io::Result<Map<String, Json>> {
        let reason = match target.fate {
            Fate::Spared(spared) => Some(spared.key().to_owned()),
            Fate::Refused(errno) => Some(errno.to_string()),
            _ => None,
        };
        let state_now = match target.fate {
            Fate::Changed(state) => json!(state.key()),
            _ => Json::Null,
        };
        let mut map = Map::new();
        map.insert("outcome".into(), json!(target.fate.key()));
        map.insert("reason".into(), json!(reason));
        map.insert("state_now".into(), state_now);
        map.insert("resets_peer".into(), json!(resets_peer(&target.socket)));
        map.insert("socket".into(), out::socket_value(&Row::new(&target.socket, self.owners, self.names))?);
        Ok(map)
    }
}

fn add<K: PartialEq>(counts: &mut Vec<(K, u64)>, key: K) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, n)) => *n += 1,
        None => counts.push((key, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::column::NoNames;
    use crate::model::{Holder, Inode, Process};

    #[test]
    fn the_text_counts_what_follows_and_what_is_spared() {
        let leaks = Process { pid: 812, comm: "leak\x1b".into(), ..Process::default() };
        let holder = |inode, fd| Holder { inode: Inode::new(inode), process: 0, fd };
        let owners = OwnerTable::new(vec![leaks], vec![holder(5, 3), holder(6, 4)], 0);
        let target = |state, fate, inode: u64| Target {
            socket: Socket { state, inode: Inode::new(inode), ..Socket::default() },
            fate,
        };
        let targets = [
            target(State::CloseWait, Fate::Destroyed, 5),
            target(State::CloseWait, Fate::Destroyed, 6),
            target(State::SynSent, Fate::Destroyed, 0),
            target(State::CloseWait, Fate::Gone, 0),
            target(State::CloseWait, Fate::Changed(State::LastAck), 0),
            target(State::Listen, Fate::Spared(Spared::Listener), 0),
            target(State::Established, Fate::Refused(Errno::EPERM), 0),
        ];
        let kill = Kill { targets: &targets, owners: &owners, names: &NoNames, scope: "" };
        let mut text = String::new();
        kill.write_outcome(&mut text);
        for part in [
            "3 destroyed, 1 gone before, 1 changed, 2 refused\n",
            "2 peers get a RST",
            "1 peer hears nothing",
            "2 descriptors stay open until closed by leak\\x1b (812)",
            "closed-socket-fd-leak",
            "changed: 1 socket is in LAST_ACK by now",
            "refused: 1 socket, the kernel says EPERM",
            "refused: 1 listener",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
