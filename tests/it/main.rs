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

/// What every test on the real kernel stands on: namespaces, sockets, helper processes, oracles, bounded waiting.
mod harness;
/// The harness and the state factory, tested against `ss`, `/proc` and their own reports.
mod selftest;
/// The state factory: functions that make each TCP state and each situation on the real kernel, and hold it.
mod states;
/// `tcpstate watch`: exact accounts under churn, owners of TIME_WAIT, the screen in a terminal.
mod watch;

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
