//! The plugin in a real Nagios. Comes in: the service definition of docs/nagios.md, word for word, and a server that leaks. Goes
//! out: the state, the text and the perfdata that Nagios keeps. Never here: what the doctor says of a leak (`rules_close_wait`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tcpstate::model::state::State;

use crate::harness::script::Script;
use crate::harness::{Netns, diag, in_netns, skip};
use crate::tidy::read;

const NAGIOS: &str = "/usr/sbin/nagios4";

/// A server named leaky that closes nothing, with room for 256 descriptors, and a client of it. Ends with its input.
pub const LEAK: &str = "
import os, resource, select, signal, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
server = socket.socket()
server.bind(('127.0.0.1', 8080))
server.listen(50)
client = os.fork()
if client == 0:
    server.close()
    while True:
        c = socket.create_connection(('127.0.0.1', 8080))
        c.sendall(b'x')
        c.recv(1)
        c.close()
        time.sleep(0.4)
open('/proc/self/comm', 'w').write('leaky')
print('leaking', flush=True)
held = []
while True:
    ready = select.select([server, sys.stdin], [], [])[0]
    if sys.stdin in ready:
        break
    c, _ = server.accept()
    c.recv(1)
    c.sendall(b'y')
    held.append(c)
os.kill(client, signal.SIGKILL)
os.waitpid(client, 0)
";

/// What a site has beside the definition of the page: a host, and the template that services use.
const SITE: &str = "
define timeperiod {
    timeperiod_name  always
    alias            always
    monday           00:00-24:00
    tuesday          00:00-24:00
    wednesday        00:00-24:00
    thursday         00:00-24:00
    friday           00:00-24:00
    saturday         00:00-24:00
    sunday           00:00-24:00
}
define command {
    command_name  up
    command_line  /bin/true
}
define contact {
    contact_name                   nobody
    host_notifications_enabled     0
    service_notifications_enabled  0
    host_notification_commands     up
    service_notification_commands  up
    host_notification_period       always
    service_notification_period    always
}
define host {
    host_name              web3
    address                127.0.0.1
    check_command          up
    max_check_attempts     1
    check_interval         5
    check_period           always
    contacts               nobody
    notifications_enabled  0
}
define service {
    name                   generic-service
    register               0
    retry_interval         1
    check_period           always
    contacts               nobody
    notifications_enabled  0
}
";

struct Nagios {
    child: Child,
    dir: tempfile::TempDir,
}

impl Nagios {
    /// One that counts seconds where others count minutes.
    #[track_caller]
    fn start(ns: &Netns) -> Nagios {
        let page = read("docs/nagios.md");
        let block = page.split("## Nagios\n\n```text\n").nth(1).and_then(|rest| rest.split("```").next());
        let definition = block.expect("the definition on the page");
        assert!(definition.contains("/usr/bin/tcpstate doctor --nagios"), "{definition}");
        let objects = definition.replace("/usr/bin/tcpstate", env!("CARGO_BIN_EXE_tcpstate")) + SITE;
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut config = String::from(
            "status_update_interval=1\ncheck_result_reaper_frequency=1\nservice_inter_check_delay_method=n\n\
             check_external_commands=0\nuse_syslog=0\nnagios_user=root\nnagios_group=root\ninterval_length=1\ncheck_for_updates=0\n",
        );
        for (key, name) in [
            ("cfg_file", "objects.cfg"),
            ("log_file", "log"),
            ("object_cache_file", "cache"),
            ("status_file", "status.dat"),
            ("temp_file", "temporary"),
            ("check_result_path", "spool"),
            ("query_socket", "query"),
            ("lock_file", "pid"),
            ("command_file", "commands"),
            ("temp_path", "spool"),
        ] {
            config.push_str(&format!("{key}={}\n", at(name)));
        }
        std::fs::create_dir(at("spool")).expect("a folder");
        std::fs::write(at("objects.cfg"), objects).expect("write");
        std::fs::write(at("nagios.cfg"), config).expect("write");
        let mut command = ns.command(NAGIOS);
        command.arg(at("nagios.cfg")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Nagios { child: command.spawn().expect("start nagios"), dir }
    }

    /// What it keeps about the service, once that fits.
    #[track_caller]
    fn wait(&self, what: &str, fits: impl Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, String> {
        let (status, log) = (self.dir.path().join("status.dat"), self.dir.path().join("log"));
        let start = Instant::now();
        loop {
            let service = service(&status);
            if fits(&service) {
                return service;
            }
            // It looks when it likes, a few seconds after its start at first.
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "waited for {what}; last seen: {service:?}\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Nagios {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The block of the service in the status file: keys and values.
fn service(status: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let block = text.split("servicestatus {").nth(1).and_then(|rest| rest.split("\n\t}").next()).unwrap_or_default();
    let pairs = block.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn perfdata(service: &BTreeMap<String, String>) -> BTreeMap<String, u64> {
    let words = service["performance_data"].split_whitespace();
    words
        .map(|word| word.split_once('=').expect("label=value"))
        .map(|(k, v)| (k.to_owned(), v.parse().expect(k)))
        .collect()
}

#[test]
fn nagios_sees_a_leak_its_process_and_its_numbers_and_then_that_it_is_gone() {
    if !Path::new(NAGIOS).exists() || !rustix::process::geteuid().is_root() {
        return skip("nagios4-core is not installed, or this is not root");
    }
    in_netns(|ns| {
        let nagios = Nagios::start(ns);
        let is = |state: &'static str| {
            move |s: &BTreeMap<String, String>| {
                s.get("has_been_checked").is_some_and(|n| n == "1")
                    && s.get("current_state").is_some_and(|n| n == state)
            }
        };
        let healthy = nagios.wait("the first check", is("0"));
        assert_eq!(healthy["plugin_output"], "TCPSTATE OK - no finding at warning or above");
        assert!(perfdata(&healthy).values().all(|n| *n == 0), "{healthy:?}");
        let Some(mut leak) = Script::start(ns, LEAK, &[]) else { return };
        leak.line();
        let sick = nagios.wait("the leak", is("2"));
        let open = ns.run(diag::dump).iter().filter(|row| row.state == State::CloseWait).count() as u64;
        let (text, numbers) = (&sick["plugin_output"], perfdata(&sick));
        assert!(text.starts_with(&format!("TCPSTATE CRITICAL - leaky ({}) does not close", leak.pid())), "{text}");
        // The text and the perfdata are of one look, and it was one between the start of the leak and now.
        let leaked = numbers["close_wait"];
        assert!(text.contains(&format!(": {leaked} in CLOSE_WAIT")) && (16..=open).contains(&leaked), "{text} {open}");
        assert_eq!(numbers["listen"], 1, "{sick:?}");
        let states: u64 = numbers.iter().filter(|(key, _)| *key != "total").map(|(_, n)| n).sum();
        assert_eq!(numbers["total"], states, "{sick:?}");
        assert!(sick["long_plugin_output"].contains("close-wait-leak"), "{sick:?}");
        drop(leak);
        let well = nagios.wait("the end of the leak", is("0"));
        assert_eq!(perfdata(&well)["close_wait"], 0, "{well:?}");
    });
}
