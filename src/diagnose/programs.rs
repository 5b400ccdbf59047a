//! What to set in which program: advice beyond the general remedy.
//!
//! Comes in: a finding with a topic and a process. Goes out: the same finding with the exact setting and where it is
//! documented. Never here: guessing a program by anything but its own traces (name, executable, command line, what it
//! has open or mapped, the port that it talks to).

mod advice;
mod limits;

pub use advice::{ADVICE, Advice};
pub use limits::connection_limit;

use crate::diagnose::finding::{Finding, Topic};
use crate::diagnose::view::View;

/// Pieces of advice that one finding gets at most.
const MOST: usize = 2;

/// A program, a library or a runtime, and how it shows.
pub struct Program {
    pub id: &'static str,
    /// How people call it.
    pub name: &'static str,
    /// Name or executable is one of these; a `*` at the end stands for anything.
    runs: &'static [&'static str],
    /// The script that an interpreter of those names runs, or the module after `-m`.
    script: Option<&'static str>,
    /// A file that it has open or mapped, or a word of its command line, begins with one of these.
    with: &'static [&'static str],
    /// The port of the peer.
    peer_port: Option<u16>,
    /// It is what everything written for this runtime shares: nothing is said of it beside something more specific.
    /// With words, it may use this library and does not show it: the words are the condition.
    runtime: Option<&'static str>,
    /// It carries Go's build id.
    go: bool,
}

const NONE: Program =
    Program { id: "", name: "", runs: &[], script: None, with: &[], peer_port: None, runtime: None, go: false };

const fn runs(id: &'static str, name: &'static str, runs: &'static [&'static str]) -> Program {
    Program { id, name, runs, ..NONE }
}

const fn java(id: &'static str, name: &'static str, with: &'static [&'static str]) -> Program {
    Program { id, name, runs: &["java"], with, ..NONE }
}

const fn node(id: &'static str, condition: &'static str) -> Program {
    Program { id, name: "Node.js", runs: &["node", "node-MainThread", "nodejs"], runtime: Some(condition), ..NONE }
}

const fn python(id: &'static str, with: &'static [&'static str], condition: &'static str) -> Program {
    Program { id, name: "Python", runs: &["python*"], with, runtime: Some(condition), ..NONE }
}

/// Everything that is recognised; of equally specific ones the first goes first.
pub const PROGRAMS: &[Program] = &[
    runs("nginx", "nginx", &["nginx"]),
    runs("haproxy", "HAProxy", &["haproxy"]),
    runs("envoy", "Envoy", &["envoy"]),
    runs("apache-httpd", "Apache httpd", &["httpd", "apache2"]),
    java("java-hikaricp", "HikariCP", &["HikariCP-"]),
    java("java-httpclient4", "Apache HttpClient 4", &["httpclient-4"]),
    java("java-httpclient5", "Apache HttpClient 5", &["httpclient5-"]),
    java("java-okhttp", "OkHttp", &["okhttp-"]),
    java("tomcat", "Tomcat", &["org.apache.catalina.startup.Bootstrap", "tomcat-embed-core-", "catalina.jar"]),
    Program { runtime: Some("if it uses HttpURLConnection or java.net.http"), ..java("java-jdk-http", "Java", &[]) },
    Program { runtime: Some(""), ..java("java-server", "Java", &[]) },
    Program { id: "go-net-http", name: "Go", go: true, runtime: Some(""), ..NONE },
    node("node-http-agent", ""),
    node("node-undici", "with fetch or undici"),
    node("node-server", ""),
    python("python-requests", &[], "if it uses requests"),
    python("python-aiohttp", &["aiohttp/"], "if it uses aiohttp"),
    python("python-urllib3", &[], "if it uses urllib3"),
    python("python-server", &[], ""),
    Program { script: Some("gunicorn"), ..runs("gunicorn", "Gunicorn", &["gunicorn*"]) },
    runs("uwsgi", "uWSGI", &["uwsgi*"]),
    runs("php-fpm", "PHP-FPM", &["php-fpm*"]),
    runs("postgresql-server", "PostgreSQL", &["postgres"]),
    Program {
        id: "postgresql-client",
        name: "PostgreSQL client",
        with: &["libpq.so", "libpq-", "postgresql-42"],
        peer_port: Some(5432),
        ..NONE
    },
    runs("pgbouncer", "PgBouncer", &["pgbouncer"]),
    // OpenBSD's mail server has processes of the same name.
    Program { with: &["libpostfix-"], ..runs("postfix", "Postfix", &["smtpd"]) },
    runs("mysql-server", "MySQL", &["mysqld", "mariadbd"]),
    Program {
        id: "mysql-client",
        name: "MySQL client",
        with: &["mysql-connector-j", "libmysqlclient", "libmariadb"],
        peer_port: Some(3306),
        ..NONE
    },
    runs("redis-server", "Redis", &["redis-server", "valkey-server"]),
    Program {
        id: "redis-client",
        name: "Redis client",
        with: &["jedis-", "lettuce-core-"],
        peer_port: Some(6379),
        ..NONE
    },
    runs("docker-proxy", "docker-proxy", &["docker-proxy"]),
    runs("memcached", "memcached", &["memcached"]),
    runs("sshd", "sshd", &["sshd", "sshd-session", "sshd-auth"]),
    runs("ab", "ab", &["ab"]),
    runs("wrk", "wrk", &["wrk", "wrk2"]),
    runs("hey", "hey", &["hey"]),
    runs("k6", "k6", &["k6"]),
    runs("siege", "siege", &["siege"]),
    runs("load-generator", "load generator", &["ab", "wrk", "wrk2", "hey", "k6", "siege", "vegeta", "h2load"]),
];

/// What only opens connections.
const CLIENTS: &[&str] = &[
    "java-hikaricp",
    "java-httpclient4",
    "java-httpclient5",
    "java-okhttp",
    "java-jdk-http",
    "node-http-agent",
    "node-undici",
    "python-requests",
    "python-aiohttp",
    "python-urllib3",
    "postgresql-client",
    "mysql-client",
    "redis-client",
];

/// Adds what is known about the program at fault, behind the first step of the remedy.
pub fn advise(finding: &mut Finding, view: &View<'_>) {
    let Some(topic) = finding.topic else { return };
    let Some(traces) = Traces::of(finding, view) else { return };
    let mut found: Vec<(Match, &Program, &Advice)> =
        PROGRAMS.iter().filter_map(|p| Some((traces.shows(p)?, p, advice(p, topic)?))).collect();
    if found.iter().any(|(m, ..)| *m == Match::Specific) {
        found.retain(|(m, ..)| *m == Match::Specific);
    }
    let step = |(kind, program, advice): (Match, &Program, &Advice)| {
        let condition = match (kind, program.runtime) {
            (Match::Runtime, Some(words)) if !words.is_empty() => format!(", {words}"),
            _ => String::new(),
        };
        format!("{}{condition}: {} ({})", program.name, advice.text, advice.source)
    };
    let steps: Vec<String> = found.into_iter().take(MOST).map(step).collect();
    let at = finding.remedy.len().min(1);
    finding.remedy.splice(at..at, steps);
}

/// The row of a program. What a program says of CLOSE_WAIT holds for accepted connections too, unless it is a client.
fn advice(program: &Program, topic: Topic) -> Option<&'static Advice> {
    let row = |topic| ADVICE.iter().find(|a| a.program == program.id && a.topic == topic);
    let also = (topic == Topic::CloseWaitServer && !CLIENTS.contains(&program.id)).then_some(Topic::CloseWait);
    row(topic).or_else(|| row(also?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    /// The program or library itself shows.
    Specific,
    /// Only what runs it shows.
    Runtime,
}

/// What a process shows of what it is.
struct Traces<'a> {
    comm: &'a str,
    exe: Option<&'a str>,
    cmdline: &'a [String],
    parts: &'a [String],
    go: bool,
    peer_port: Option<u16>,
}

impl<'a> Traces<'a> {
    fn of(finding: &'a Finding, view: &'a View<'_>) -> Option<Traces<'a>> {
        let pid = finding.subject.pid?;
        let facts = view.process(pid);
        let inspection = facts.and_then(|f| f.inspection.as_ref());
        Some(Traces {
            comm: finding.subject.comm.as_deref()?,
            // A program that was replaced on disk while it runs is still that program.
            exe: facts.and_then(|f| f.exe.as_deref()).map(|e| e.strip_suffix(" (deleted)").unwrap_or(e)),
            cmdline: facts.map_or(&[], |f| &f.cmdline),
            parts: inspection.map_or(&[], |i| &i.parts),
            go: facts.and_then(|f| f.is_go) == Some(true),
            peer_port: finding.subject.destination.map(|d| d.port),
        })
    }

    fn shows(&self, program: &Program) -> Option<Match> {
        if program.peer_port.is_some() && self.peer_port == program.peer_port {
            return Some(Match::Specific);
        }
        if program.go {
            return self.go.then_some(Match::Runtime);
        }
        if program.script.is_some() && self.script() == program.script {
            return Some(Match::Specific);
        }
        let named =
            program.runs.iter().any(|name| is_called(self.comm, name) || self.exe.is_some_and(|e| is_called(e, name)));
        if !program.runs.is_empty() && !named {
            return None;
        }
        if program.with.iter().any(|part| self.has(part)) {
            return Some(Match::Specific);
        }
        match program.runtime {
            Some(_) => Some(Match::Runtime),
            None => (named && program.with.is_empty()).then_some(Match::Specific),
        }
    }

    /// Whether a file or a class of this name belongs to the process. A pattern with a `/` includes the folder.
    fn has(&self, part: &str) -> bool {
        let base = |path: &'a str| if part.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
        let words = self.cmdline.iter().flat_map(|word| word.split([':', '=']));
        self.parts.iter().map(String::as_str).chain(words).any(|path| base(path).starts_with(part))
    }

    /// The base name of the script that an interpreter runs: its first argument that is no option, or what follows
    /// `-m`.
    fn script(&self) -> Option<&'a str> {
        let mut words = self.cmdline.iter().skip(1).map(String::as_str);
        let word = words.by_ref().find(|w| !w.starts_with('-') || *w == "-m")?;
        let word = if word == "-m" { words.next()? } else { word };
        word.rsplit('/').next()
    }
}

fn is_called(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::{Severity, Subject};
    use crate::diagnose::testkit::World;
    use crate::model::Endpoint;
    use crate::model::snapshot::{Inspection, ProcessFacts};

    struct Case {
        comm: &'static str,
        exe: &'static str,
        cmdline: &'static [&'static str],
        parts: &'static [&'static str],
        go: bool,
        peer_port: u16,
    }

    const CASE: Case = Case { comm: "x", exe: "x", cmdline: &["x"], parts: &[], go: false, peer_port: 40_000 };

    fn remedy(case: &Case, topic: Topic) -> Vec<String> {
        let mut world = World::new();
        let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        let inspection = Inspection { parts: strings(case.parts), ..Inspection::default() };
        let facts = ProcessFacts {
            pid: 7,
            exe: Some(case.exe.to_owned()),
            cmdline: strings(case.cmdline),
            inspection: Some(inspection),
            is_go: Some(case.go),
            ..ProcessFacts::default()
        };
        world.now.processes.insert(7, facts);
        let peer = Endpoint::new([10, 0, 0, 2].into(), case.peer_port);
        let subject =
            Subject { pid: Some(7), comm: Some(case.comm.to_owned()), destination: Some(peer), ..Subject::default() };
        let mut finding =
            Finding::new("r", Severity::Info, 1.0, "s").subject(subject).remedy(["first", "last"]).topic(topic);
        advise(&mut finding, &View::new(&world.now, None, &world.thresholds));
        assert_eq!((finding.remedy[0].as_str(), finding.remedy.last().unwrap().as_str()), ("first", "last"));
        finding.remedy[1..finding.remedy.len() - 1].to_vec()
    }

    /// The names before the colon.
    fn names(case: &Case, topic: Topic) -> Vec<String> {
        remedy(case, topic).iter().map(|step| step.split(": ").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(ADVICE.len(), 78);
        for advice in ADVICE {
            let program = PROGRAMS.iter().find(|p| p.id == advice.program);
            assert!(program.is_some(), "{} is recognised by nothing", advice.program);
            assert!(advice.text.len() > 20 && !advice.text.ends_with('.'), "{}", advice.text);
            assert!(advice.source.len() > 5 && !advice.source.contains('\n'), "{}", advice.source);
            let twice = ADVICE.iter().filter(|a| a.program == advice.program && a.topic == advice.topic).count();
            assert_eq!(twice, 1, "{} {:?}", advice.program, advice.topic);
        }
        assert!(CLIENTS.iter().all(|id| PROGRAMS.iter().any(|p| p.id == *id)));
        for program in PROGRAMS {
            let traces =
                program.go || program.peer_port.is_some() || !program.runs.is_empty() || !program.with.is_empty();
            assert!(traces && !program.name.is_empty(), "{} has nothing to be recognised by", program.id);
            assert!(ADVICE.iter().any(|a| a.program == program.id), "{} has no advice", program.id);
            assert_eq!(PROGRAMS.iter().filter(|p| p.id == program.id).count(), 1, "{}", program.id);
        }
    }

    #[test]
    fn advice_follows_the_first_step_with_name_and_source() {
        let nginx = Case { comm: "nginx", exe: "nginx", ..CASE };
        let [step] = &remedy(&nginx, Topic::TimeWaitClient)[..] else { panic!() };
        assert!(step.starts_with("nginx: add keepalive N to the upstream block"), "{step}");
        assert!(step.ends_with("CHANGES 1.29.7)") && step.contains("(nginx docs: ngx_http_upstream_module"), "{step}");
        // A renamed worker is known by its executable, an upgraded one too.
        let renamed = Case { comm: "worker", exe: "nginx (deleted)", ..CASE };
        assert_eq!(names(&renamed, Topic::Keepalive), ["nginx"]);
    }

    #[test]
    fn libraries_come_before_their_runtime() {
        let jars = Case { comm: "java", exe: "java", parts: &["httpclient-4.5.14.jar", "HikariCP-5.1.0.jar"], ..CASE };
        assert_eq!(names(&jars, Topic::CloseWait), ["HikariCP", "Apache HttpClient 4"]);
        let classpath = Case {
            comm: "java",
            exe: "java",
            cmdline: &["java", "-cp", "/app/a.jar:/app/lib/okhttp-4.12.0.jar", "Main"],
            ..CASE
        };
        assert_eq!(names(&classpath, Topic::TimeWaitClient), ["OkHttp"]);
        let plain = Case { comm: "java", exe: "java", cmdline: &["java", "-jar", "app.jar"], ..CASE };
        assert_eq!(names(&plain, Topic::CloseWait), ["Java, if it uses HttpURLConnection or java.net.http"]);
        let tomcat = Case {
            comm: "java",
            exe: "java",
            cmdline: &["java", "-Dcatalina.base=/t", "org.apache.catalina.startup.Bootstrap", "start"],
            ..CASE
        };
        assert_eq!(names(&tomcat, Topic::AcceptQueue), ["Tomcat"]);
    }

    #[test]
    fn a_server_is_not_told_how_to_use_a_client() {
        let java = Case { comm: "java", exe: "java", cmdline: &["java", "-jar", "app.jar"], ..CASE };
        assert_eq!(names(&java, Topic::CloseWaitServer), ["Java"]);
        let python = Case { comm: "python3", exe: "python3.12", cmdline: &["python3", "srv.py"], ..CASE };
        assert_eq!(names(&python, Topic::CloseWaitServer), ["Python"]);
        let node = Case { comm: "node", exe: "node", ..CASE };
        assert_eq!(names(&node, Topic::CloseWaitServer), ["Node.js"]);
        assert!(remedy(&node, Topic::CloseWaitServer)[0].contains("allowHalfOpen"));
        // What relays has one row for both ends.
        let proxy = Case { comm: "haproxy", exe: "haproxy", ..CASE };
        assert_eq!(remedy(&proxy, Topic::CloseWaitServer), remedy(&proxy, Topic::CloseWait));
    }

    #[test]
    fn interpreters_are_told_apart_by_what_they_run_and_load() {
        let python = |cmdline, parts| Case { comm: "python3", exe: "python3.12", cmdline, parts, ..CASE };
        let script = python(&["python3", "job.py"], &[]);
        assert_eq!(names(&script, Topic::CloseWait), ["Python, if it uses requests", "Python, if it uses aiohttp"]);
        let aiohttp = python(&["python3", "job.py"], &["aiohttp/_http_parser.cpython-312-x86_64-linux-gnu.so"]);
        assert_eq!(names(&aiohttp, Topic::CloseWait), ["Python"]);
        for cmdline in [&["python3", "-u", "/usr/bin/gunicorn", "app"][..], &["python3", "-m", "gunicorn", "app"]] {
            assert_eq!(names(&python(cmdline, &[]), Topic::AcceptQueue), ["Gunicorn"]);
        }
        // An editor of its configuration is not Gunicorn.
        let editor = python(&["python3", "edit.py", "gunicorn"], &[]);
        assert_eq!(names(&editor, Topic::AcceptQueue), Vec::<String>::new());
        let node = Case { comm: "node-MainThread", exe: "node", ..CASE };
        assert_eq!(names(&node, Topic::CloseWait), ["Node.js", "Node.js, with fetch or undici"]);
        // The name of a thread alone is not Node.js.
        assert_eq!(names(&Case { comm: "MainThread", ..CASE }, Topic::CloseWait), Vec::<String>::new());
    }

    #[test]
    fn clients_are_known_by_the_port_or_the_library_and_go_by_its_build_id() {
        let go = Case { comm: "api", exe: "api", go: true, ..CASE };
        assert_eq!(names(&go, Topic::Keepalive), ["Go"]);
        assert_eq!(names(&Case { peer_port: 5432, ..go }, Topic::Keepalive), ["PostgreSQL client"]);
        assert_eq!(names(&Case { parts: &["lib/libpq.so.5.15"], ..CASE }, Topic::Keepalive), ["PostgreSQL client"]);
        assert_eq!(names(&Case { peer_port: 6379, ..CASE }, Topic::TimeWaitClient), ["Redis client"]);
        let k6 = Case { comm: "k6", exe: "k6", go: true, ..CASE };
        assert_eq!(names(&k6, Topic::TimeWaitClient), ["k6"]);
        assert_eq!(names(&k6, Topic::PortExhaustion), ["load generator"]);
    }

    #[test]
    fn strangers_other_topics_and_findings_without_a_process_get_nothing() {
        assert_eq!(names(&CASE, Topic::CloseWait), Vec::<String>::new());
        assert_eq!(names(&Case { comm: "ab", ..CASE }, Topic::AcceptQueue), Vec::<String>::new());
        let world = World::new();
        let mut finding = Finding::new("r", Severity::Info, 1.0, "s").remedy(["first"]).topic(Topic::CloseWait);
        advise(&mut finding, &View::new(&world.now, None, &world.thresholds));
        assert_eq!(finding.remedy, ["first"]);
    }

    #[test]
    fn a_mail_server_is_told_by_its_libraries() {
        let parts: &[&str] = &["postfix/libpostfix-global.so"];
        let smtpd = Case { comm: "smtpd", exe: "smtpd", ..CASE };
        assert_eq!(names(&Case { parts, ..smtpd }, Topic::AcceptQueue), ["Postfix"]);
        let other = Case { comm: "smtpd", exe: "smtpd", ..CASE };
        assert_eq!(names(&other, Topic::AcceptQueue), Vec::<String>::new());
    }

    #[test]
    fn every_program_can_be_recognised_by_its_own_name() {
        for program in PROGRAMS.iter().filter(|p| !p.runs.is_empty() && p.with.is_empty()) {
            let name = program.runs[0].trim_end_matches('*');
            let strings: Vec<String> = Vec::new();
            let traces =
                Traces { comm: name, exe: None, cmdline: &strings, parts: &strings, go: false, peer_port: None };
            assert!(traces.shows(program).is_some(), "{}", program.id);
        }
    }
}
