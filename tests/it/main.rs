//! The one integration test binary. Comes in: the library, the product's binary and the running kernel. Goes out:
//! passes, failures and skips that give their reason. Never here: traffic outside a private network namespace.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::exit,
    unsafe_code,
    reason = "a test ends by panicking, and asks the kernel itself"
)]

/// Netlink, `/proc/net/tcp` and `ss` agree on every socket; known differences are a list.
mod agree;
/// From a leak to an alert in Alertmanager, by Prometheus and by VictoriaMetrics.
mod alerts;
/// The playbook of packaging/ansible, over real sshd.
mod ansible;
/// `explain bind` beside what `bind()` does.
mod bind;
/// No two files of a folder use each other without a reason.
mod circles;
/// The command line, end to end: other users, hostile names, narrow terminals, closed pipes, wrong words.
mod cli;
/// What is given up after the start, and that nothing is missed.
mod confine;
/// Containers that come, restart and end while a watch or a trace runs.
mod container_follow;
/// A host with 200 containers.
mod container_many;
/// Containers without a runtime: cgroups and namespaces in the shape of podman's.
mod container_words;
/// Containers and pods by name, and what stands behind a docker-proxy.
mod containers;
/// Real containers of docker.
mod docker;
/// The programs of `examples/`: the library as others use it.
mod examples;
/// A run for each exit code that a page promises.
mod exit_codes;
/// Metrics for Prometheus: by `promtool`, by a real Prometheus, and beside clients that mean no good.
mod export;
/// One question to several hosts, over real sshd: one that is dead, one that is slow.
mod fan;
/// The filter language against the kernel's own machine.
mod filter;
mod first_aid;
/// What every test on the real kernel stands on: namespaces, sockets, helper processes, oracles, bounded waiting.
mod harness;
/// The JSON contract: documents, schema and manual page say the same.
mod json;
/// Rules on the real kernel, without the command line between.
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
mod judge;
/// What `kill` destroys, and all that it does not.
mod kill;
/// Manifest and chart, by `kubernetes-validate` and `helm`.
mod kubernetes;
/// Tables so large that threads read them: the same rows, none twice, none lost.
mod large;
/// Agents over the Model Context Protocol: valid documents, bounded answers, and errors that end nothing.
#[cfg(feature = "mcp")]
mod mcp;
/// The same by the official client of PyPI.
#[cfg(feature = "mcp")]
mod mcp_client;
/// The plugin in a real Nagios.
mod nagios;
/// Other network namespaces, units and containers, from one that is elsewhere.
mod netns;
/// Every holder of every socket, by both routes, and the reason where there is none.
mod owners;
/// What a package has beside the program, and what monitoring and bug reports take from it.
mod packages;
/// Rules, alerts, dashboard, unit and manifest, by `promtool` and systemd.
mod packaging;
/// Real containers of podman, from the host.
mod podman;
/// Faults inside containers of podman, told from the host.
mod podman_faults;
/// The program inside of containers of podman.
mod podman_inside;
/// Containers of a user who is not root.
mod podman_rootless;
/// Containers that restart, are renamed and removed under all commands at once.
mod podman_soak;
/// The program as scripts use it: words in, JSON and text out.
mod product;
/// The doctor beside real programs with real faults: nginx, load generators, a leaking client, a stopped server.
mod programs;
/// Recordings: what is read is what was seen; files that were cut, damaged, killed, without room.
mod record;
/// The first remedy of each rule, tried on the fault that it is for.
mod remedies;
/// What belongs to the repository and to the package, and what does not.
mod repository;
/// What each command can do with which rights, beside the table of docs/rights.md.
mod rights;
/// The rules about CLOSE_WAIT and descriptors, on sockets, processes and epoll sets that are really in that state.
mod rules_close_wait;
/// Rules on the real kernel: connections that cannot finish.
mod rules_closing;
/// Rules on the real kernel: open connections, and who is at both ends.
mod rules_established;
/// Rules on the real kernel: listeners and connecting.
mod rules_listeners;
/// Ports and TIME_WAIT: what each rule says, and what it does not.
mod rules_ports;
/// Rules on the real kernel: settings, resets, dropped data, memory.
mod rules_system;
/// Rules on the real kernel: what open connections are used for.
mod rules_traffic;
/// Rules on the real kernel that need both ends of a wire: windows, and what a translation lets pass.
mod rules_windows;
/// Scrapes by the hundred a second over a large table.
mod scrapes;
/// The harness and the state factory, tested against `ss`, `/proc` and their own reports.
mod selftest;
/// A host without threads, without an auxiliary vector, with files that do not answer.
mod sick;
/// The state factory: functions that make each TCP state and each situation on the real kernel, and hold it.
mod states;
/// What runs out and what changes, as the summary says it.
mod summary;
/// Sums per group beside the rows that they are sums of.
mod sums;
/// What no compiler checks: imports, documentation, generated files, the version of the compiler.
mod tidy;
/// `tcpstate watch`: exact accounts under churn, owners of TIME_WAIT, the screen in a terminal.
mod watch;

/// Every change of state, who made it, and what was lost, by the program as scripts use it.
mod trace;

/// Where a helper process begins (see [`harness::helper`]). In an ordinary run the same test starts one and talks to
/// it, so that a broken protocol fails here first.
#[test]
fn helper_entry() {
    if harness::helper::is_helper() {
        harness::helper::serve();
    } else {
        harness::in_netns(|ns| {
            harness::helper::check_protocol(ns);
        });
    }
}
