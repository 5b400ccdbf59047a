//! What a package has beside the program: the configuration, and `--version --verbose` for bug reports. Input: the files of
//! packaging/ and the program. Output: whether they hold. Not here: building packages (`packaging/build.sh`).

use crate::harness::{finish, in_netns, netns, wait_for};
use crate::product;
use crate::tidy::read;

/// Every line of the installed configuration is a comment with a default, and is accepted once it is none.
#[test]
fn the_configuration_of_the_package_has_defaults_only() {
    let text = read("packaging/config.toml");
    let settings: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix('#')).filter(|l| !l.starts_with(' ')).collect();
    assert!(settings.len() > 3 && text.parse::<toml::Table>().expect("TOML").is_empty(), "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("tcpstate")).expect("a folder");
    std::fs::write(folder.path().join("tcpstate/config.toml"), settings.join("\n")).expect("write");
    in_netns(|ns| {
        let thresholds = |configured: bool| {
            let mut command = product::with(ns, &["doctor", "--show-thresholds"]);
            if configured {
                command.env("XDG_CONFIG_HOME", folder.path());
            }
            let shown = String::from_utf8(product::quiet(&mut command).stdout).expect("text");
            let values = shown.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
            values.collect::<Vec<_>>()
        };
        assert_eq!(thresholds(true), thresholds(false), "a default in packaging/config.toml is another one");
    });
}

#[test]
fn the_version_for_a_bug_report_says_what_works_here() {
    in_netns(|ns| {
        let plain = product::text(ns, &["--version"]);
        for words in [&["--version", "--verbose"][..], &["list", "--version", "--verbose"]] {
            let text = product::text(ns, words);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.first().copied(), Some(plain.trim_end()), "{words:?}: {text}");
            let value = |name: &str| {
                let line =
                    lines.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
                line.trim().to_owned()
            };
            assert_eq!(value("kernel"), rustix::system::uname().release().to_string_lossy());
            assert!(value("sockets").starts_with("netlink") && value("build").contains("-linux-"), "{text}");
            assert_eq!(value("features"), if cfg!(feature = "mcp") { "mcp" } else { "none" });
            if netns::is_real_root() {
                assert!(value("trace bpf").starts_with("works") && value("capabilities").contains("CAP_BPF"), "{text}");
            }
        }
        if product::can_be_another_user() {
            let (mut run, _binary) = product::with_user(ns, 65534, &["--version", "--verbose"]);
            let text = String::from_utf8(product::quiet(&mut run).stdout).expect("text");
            assert!(text.contains("none that tcpstate uses") && text.contains("CAP_BPF and CAP_PERFMON"), "{text}");
        }
    });
}

/// The codes of a monitoring plugin, on a healthy host and on one in trouble.
#[test]
fn a_plugin_ends_with_the_code_of_its_state() {
    in_netns(|ns| {
        let plugin = |words: &[&str]| {
            let output = finish(product::with(ns, &["doctor", "--once", "--nagios"]).args(words));
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned(),
            )
        };
        let (code, line) = plugin(&[]);
        assert!(code == Some(0) && line.starts_with("TCPSTATE OK - ") && line.ends_with(" total=0"), "{line}");
        let mut helper = crate::harness::helper::Helper::start(ns);
        helper.make("accept_queue_full 7000 2 2");
        // After a wait of three seconds for accept().
        let line = wait_for("a critical state", || match plugin(&[]) {
            (Some(2), line) => Ok(line),
            other => Err(format!("{other:?}")),
        });
        assert!(line.starts_with("TCPSTATE CRITICAL - ") && line.contains(" listen=1"), "{line}");
        let (code, line) = plugin(&["--proc-root", "/nonexistent"]);
        assert!(code == Some(3) && line.starts_with("TCPSTATE UNKNOWN - "), "{line}");
    });
}
