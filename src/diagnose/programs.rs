//! What to set in which program: advice beyond the general remedy.
//!
//! Comes in: a finding with a topic and a process. Goes out: the same finding with the exact setting of the program at
//! fault. Never here: guessing a program by anything but its own traces: its name, its command line, the build id that
//! the Go linker leaves, or the well-known port that its connections go to.

mod table;

use crate::diagnose::finding::{Finding, Topic};
use crate::diagnose::view::View;
use table::PROGRAMS;

/// One piece of advice for one program.
pub(crate) struct Program {
    /// How it is called in the advice.
    name: &'static str,
    /// Process names; `*` at the end stands for anything, `go:` for any program of the Go linker.
    comms: &'static [&'static str],
    /// If not empty, one of these must stand in the command line.
    words: &'static [&'static str],
    /// If not empty, the destination must have one of these ports.
    peer_ports: &'static [u16],
    topic: Topic,
    advice: &'static str,
    /// Where the setting is documented.
    source: &'static str,
}

/// Pieces of advice that one finding gets.
const MOST: usize = 2;

/// Adds what is known about the program at fault, after the first general step.
pub fn advise(finding: &mut Finding, view: &View<'_>) {
    let Some(topic) = finding.topic else { return };
    let facts = finding.subject.pid.and_then(|pid| view.process(pid));
    let traces = Traces {
        comm: finding.subject.comm.as_deref().unwrap_or_default(),
        exe: facts.and_then(|f| f.exe.as_deref()).unwrap_or_default(),
        cmdline: facts.map_or(&[], |f| f.cmdline.as_slice()),
        is_go: facts.is_some_and(|f| f.is_go == Some(true)),
        peer_port: finding.subject.destination.map(|d| d.port),
    };
    let mut found: Vec<&Program> = PROGRAMS.iter().filter(|p| p.topic == topic && traces.show(p)).collect();
    // A library named in the command line says more than the language, a language more than a port.
    found.sort_by_key(|p| (p.words.is_empty(), p.comms.is_empty()));
    let at = finding.remedy.len().min(1);
    for (i, program) in found.into_iter().take(MOST).enumerate() {
        let text = format!("{}: {} ({})", program.name, program.advice, program.source);
        finding.remedy.insert(at + i, text);
    }
}

/// What a process shows of itself.
struct Traces<'a> {
    comm: &'a str,
    exe: &'a str,
    cmdline: &'a [String],
    is_go: bool,
    peer_port: Option<u16>,
}

impl Traces<'_> {
    fn show(&self, program: &Program) -> bool {
        let named = program.comms.iter().any(|name| match (*name, name.strip_suffix('*')) {
            ("go:", _) => self.is_go,
            (_, Some(start)) => self.comm.starts_with(start) || self.exe.starts_with(start),
            (name, None) => self.comm == name || self.exe == name,
        });
        // A script's process has its interpreter's name: there the command line alone may tell.
        let worded = program.words.iter().any(|word| self.cmdline.iter().any(|w| w.contains(word)));
        let by_name =
            if program.words.is_empty() { named } else { worded && (named || self.comm.starts_with("python")) };
        let by_port = self.peer_port.is_some_and(|port| program.peer_ports.contains(&port));
        if program.comms.is_empty() { by_port } else { by_name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::{Severity, Subject};
    use crate::diagnose::testkit::World;

    fn advice(comm: &str, cmdline: &[&str], topic: Topic) -> Vec<String> {
        let mut world = World::new();
        world.hold(5, comm, 3, 99);
        let facts = world.now.processes.get_mut(&5).unwrap();
        facts.cmdline = cmdline.iter().map(|w| (*w).to_owned()).collect();
        facts.is_go = Some(comm == "gopher");
        let subject = Subject { pid: Some(5), comm: Some(comm.into()), ..Subject::default() };
        let mut finding =
            Finding::new("r", Severity::Info, 1.0, "s").subject(subject).topic(topic).remedy(["first", "last"]);
        advise(&mut finding, &View::new(&world.now, None, &world.thresholds));
        assert_eq!(
            (finding.remedy.first().unwrap().as_str(), finding.remedy.last().unwrap().as_str()),
            ("first", "last")
        );
        finding.remedy[1..finding.remedy.len() - 1].to_vec()
    }

    #[test]
    fn the_table_is_well_formed() {
        for program in PROGRAMS {
            assert!(
                !program.comms.is_empty() || !program.peer_ports.is_empty(),
                "{}: cannot be recognised",
                program.name
            );
            assert!(program.advice.len() > 20 && !program.source.is_empty(), "{}", program.name);
            assert!(!program.advice.ends_with('.'), "{}", program.name);
        }
        for topic in
            [Topic::CloseWait, Topic::TimeWaitClient, Topic::TimeWaitServer, Topic::AcceptQueue, Topic::Keepalive]
        {
            assert!(PROGRAMS.iter().any(|p| p.topic == topic), "{topic:?}");
        }
    }

    #[test]
    fn programs_are_known_by_their_own_traces() {
        let found = advice("nginx", &["nginx: worker process"], Topic::TimeWaitClient);
        assert!(found.len() == 1 && found[0].starts_with("nginx: ") && found[0].contains("keepalive"), "{found:?}");
        let found = advice("java", &["java", "-cp", "/app/httpclient5-5.3.jar"], Topic::CloseWait);
        assert!(found[0].starts_with("httpclient 5: "), "the library comes first: {found:?}");
        assert!(!advice("python3", &["python3", "app.py"], Topic::CloseWait).is_empty());
        assert!(advice("gopher", &[], Topic::CloseWait)[0].starts_with("go net/http: "));
        assert!(advice("my-own-server", &[], Topic::CloseWait).is_empty());
    }
}
