//! The screen in tmux: keys, signals, the way back to the shell. Comes in: keys and sizes. Goes out: what a person would see.
//! Never here: a sleep that hopes.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::tmux::{Tmux, product, watch_pid, without_tmux};
use crate::harness::helper::{Helper, process_state};
use crate::harness::pty;
use crate::harness::sock::Sock;
use crate::harness::{in_netns, wait_for};

#[test]
fn time_wait_is_watched_drilled_into_resized_and_left() {
    if without_tmux() {
        return;
    }
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        server.rename(b"server");
        server.ask("serve 7000");
        let mut client = Helper::start(ns);
        client.rename(b"clientele");
        let command = format!("{} watch --state TIME_WAIT --interval 200ms", product());
        let tmux = Tmux::start(ns, 130, 40, &command);
        tmux.see(&["TIME_WAIT", "COUNT", "live", "filter: state time-wait"]);
        client.ask("lives 127.0.0.1:7000 127.0.0.9 30 600 10");
        let whole =
            tmux.see(&["BY PROCESS", &format!("clientele({})", client.pid()), "TIME_WAIT owners: ", " 30 sockets"]);
        assert!(whole.lines().any(|l| l.starts_with(" TIME_WAIT") && l.contains(" 30 ")), "{whole}");
        assert!(!whole.contains(" ESTABLISHED  "), "other states are not on the screen: {whole}");
        // The sockets, and one of them.
        tmux.keys(&["Enter"]);
        let list = tmux.see(&["> TIME_WAIT", "PEER", "127.0.0.9:", "127.0.0.1:7000", "Enter socket"]);
        assert_eq!(list.lines().filter(|l| l.starts_with(" TIME_WAIT ")).count(), 30, "{list}");
        tmux.keys(&["Down", "Enter"]);
        let one = tmux.see(&["> socket", "certainty", "timer-remaining", "cookie"]);
        // On a busy machine a life may pass between two samples; then only the trace knows who closed it.
        let owner = |how: &str| one.contains(&format!("clientele({}) {how}", client.pid()));
        let seen = owner("before") && one.contains("0.99, seen before");
        assert!(seen || owner("closed") && one.contains("0.98, traced"), "{one}");
        // Small, and large again.
        tmux.resize(80, 24);
        let small = tmux.see(&["> socket", "cookie", "? help"]);
        assert!(small.lines().count() <= 24 && small.lines().all(|l| l.chars().count() <= 80), "{small}");
        tmux.keys(&["Escape"]);
        let small = tmux.see(&["> TIME_WAIT", "Enter socket", "q quit"]);
        assert!(small.lines().count() <= 24 && small.lines().all(|l| l.chars().count() <= 80), "{small}");
        tmux.resize(130, 40);
        let large = tmux.see(&["> TIME_WAIT", "Enter socket"]);
        assert!(large.lines().any(|l| l.chars().count() > 80) || large.lines().count() > 24, "{large}");
        // A filter that no socket matches, then none.
        tmux.keys(&["Escape"]);
        tmux.see(&["Enter rows"]);
        tmux.keys(&["/"]);
        tmux.see(&["filter: ", "Enter: use it"]);
        tmux.keys(&["dport = 1", "Enter"]);
        tmux.see(&[" 0 sockets", "dport = "]);
        tmux.keys(&["/"]);
        tmux.keys(&["bogus(", "Enter"]);
        tmux.see(&["expected"]);
        tmux.keys(&["Escape"]);
        tmux.see(&["next: "]);
        tmux.keys(&["Escape"]);
        tmux.see(&[" 30 sockets"]);
        tmux.keys(&["2"]);
        tmux.see(&["in the last ", "└─► gone after 60 s", "TIME_WAIT 30"]);
        tmux.keys(&["p"]);
        tmux.see(&["HELD"]);
        tmux.keys(&["p", "?"]);
        tmux.see(&["step back through the last minutes", "unseen: lived and died between two samples"]);
        tmux.keys(&["x", "q"]);
        // The screen of before is back, and the shell answers.
        let after = tmux.see(&["watch --state TIME_WAIT"]);
        assert!(!after.contains("live"), "{after}");
        tmux.keys(&["echo $((6*7))", "Enter"]);
        tmux.see(&["42"]);
    });
}

#[test]
fn a_signal_restores_the_terminal_and_ctrl_z_stops_it() {
    if without_tmux() {
        return;
    }
    in_netns(|ns| {
        let tmux = Tmux::start(ns, 80, 24, &format!("NO_COLOR=1 {} watch", product()));
        tmux.see(&["STATE", "live"]);
        let escapes = tmux.ask(&["capture-pane", "-p", "-e", "-t", "t"]);
        let coloured = |n: u8| [30, 40, 90, 100].iter().any(|base| escapes.contains(&format!("\x1b[{}m", base + n)));
        assert!(!(0..8).any(coloured) && escapes.contains("\x1b[1m"), "bold and dim, and no colour: {escapes:?}");
        for signal in [Signal::TERM, Signal::HUP] {
            let pid = watch_pid(&tmux);
            let process = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("a process id");
            kill_process(process, signal).expect("signal watch");
            wait_for("the end of watch", || match process_state(pid) {
                '-' => Ok(()),
                state => Err(state.to_string()),
            });
            tmux.keys(&["echo code=$?", "Enter"]);
            let screen = tmux.see(&["code=0"]);
            assert!(!screen.contains("STATE"), "{screen}");
            // Echo is on again: what is typed is seen.
            tmux.keys(&["echo typed"]);
            tmux.see(&["echo typed"]);
            tmux.keys(&["C-u", "Enter"]);
            tmux.keys(&[&format!("clear; {} watch", product()), "Enter"]);
            tmux.see(&["STATE", "live"]);
        }
        // By its key, and by a signal from elsewhere: the shell has its screen, its cursor and its echo.
        for from_outside in [false, true] {
            if from_outside {
                let process = i32::try_from(watch_pid(&tmux)).ok().and_then(Pid::from_raw).expect("a process id");
                kill_process(process, Signal::TSTP).expect("signal watch");
            } else {
                tmux.keys(&["C-z"]);
            }
            let stopped = tmux.see(&["topped"]);
            assert!(!stopped.contains("COUNT"), "{stopped}");
            tmux.keys(&["echo typed"]);
            tmux.see(&["echo typed"]);
            let flags =
                tmux.ask(&["display-message", "-p", "-t", "t", "#{cursor_flag} #{mouse_any_flag} #{alternate_on}"]);
            assert_eq!(flags.trim(), "1 0 0", "the cursor is shown, the mouse and the screen are the shell's");
            tmux.keys(&["C-u", "clear; fg", "Enter"]);
            tmux.see(&["STATE", "live"]);
        }
        tmux.keys(&["C-l"]);
        tmux.keys(&["3"]);
        tmux.see(&["live", "no socket has a process"]);
        tmux.keys(&["q"]);
        tmux.see(&["tcpstate watch"]);
    });
}

#[test]
fn the_terminal_may_be_closed_under_it() {
    for controls in [true, false] {
        let mut command = Command::new(product());
        command.args(["watch", "--interval", "100ms", "--no-trace"]).env("TERM", "xterm-256color");
        let status = pty::hang_up(&mut command, 80, "STATE", controls);
        assert_eq!(status.code(), Some(0), "{status}, the session's terminal: {controls}");
    }
}

#[test]
fn a_finding_lists_its_sockets_and_copies_the_command_for_them() {
    if without_tmux() {
        return;
    }
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        server.make("listen 7000 2");
        server.make("listen 7001 8");
        let to = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let mut held: Vec<Sock> = (0..3).map(|_| ns.run(|| Sock::connected(to(7000), None))).collect();
        held.push(ns.run(|| Sock::connected(to(7001), None)));
        held.extend((0..4).map(|_| ns.run(|| Sock::connecting(to(7000), None))));
        let tmux = Tmux::start(ns, 100, 30, &format!("{} watch --interval 200ms --no-trace", product()));
        tmux.keys(&["4"]);
        let findings = tmux.see(&["FINDINGS", "accept queue of 127.0.0.1:7000 "]);
        let at = findings.lines().skip(3).position(|l| l.contains(" accept queue of ")).expect("the finding");
        tmux.keys(&vec!["Down"; at]);
        tmux.keys(&["Enter"]);
        let list = tmux.see(&["> accept-queue-overflow", " LISTEN ", " ESTABLISHED ", "Enter socket"]);
        // Behind the list come the report and the other sockets of the process.
        let list: Vec<&str> = list.lines().skip(3).take_while(|line| !line.is_empty()).collect();
        let rows = |state: &str| list.iter().filter(|line| line.starts_with(&format!(" {state} "))).count();
        assert_eq!((rows("LISTEN"), rows("ESTABLISHED")), (1, 3), "the listener and its queue: {list:?}");
        assert!(list.iter().all(|line| !line.contains("7001")), "{list:?}");
        tmux.see(&["next: tcpstate list 'src 127.0.0.1:7000'"]);
        drop(held);
    });
}
