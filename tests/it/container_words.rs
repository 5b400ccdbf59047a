//! Containers and namespaces by whatever name people have. Comes in: cgroups and namespaces in the shape of podman's. Goes
//! out: the rows of one of them, or one line that says what to type instead. Never here: a runtime.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::harness::cgroup::{Cgroup, container_id};
use crate::harness::helper::Helper;
use crate::harness::{Netns, finish, in_netns, netns, skip, wait_for};
use crate::product;

/// A listener in a namespace of its own, in the cgroup of a container.
pub struct Container {
    pub id: String,
    pub ns: Netns,
    pub helper: Helper,
    // Removed after its last process has ended.
    _cgroup: Cgroup,
}

impl Container {
    pub fn start(of: u32, port: u16) -> Result<Container, String> {
        let mut container = Container::empty(of)?;
        container.listen(port);
        Ok(container)
    }

    /// One without a socket.
    pub fn empty(of: u32) -> Result<Container, String> {
        let id = container_id(of);
        let cgroup = Cgroup::version_two(&format!("libpod-{id}"))?;
        let ns = Netns::new();
        let helper = Helper::start(&ns);
        cgroup.take(&helper);
        Ok(Container { id, ns, helper, _cgroup: cgroup })
    }

    pub fn listen(&mut self, port: u16) {
        self.helper.make(&format!("listen {port} 8"));
    }
}

fn ports(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output).lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_namespace_is_named_by_its_container_its_number_or_what_is_printed() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups");
    }
    in_netns(|outside| {
        let made = (Container::start(1, 7001), Container::start(2, 7002));
        let (one, other) = match made {
            (Ok(one), Ok(other)) => (one, other),
            (Err(why), _) | (_, Err(why)) => return skip(&why),
        };
        let list = |args: &[&str]| {
            let output = finish(product::with(outside, &["list", "-l", "-H", "-c", "local-port"]).args(args));
            (output.status.code(), ports(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (short, inode) = (&one.id[..12], one.ns.inode().to_string());
        let (linked, prefixed) = (format!("net:[{inode}]"), format!("container:{}", one.id));
        for word in [one.id.as_str(), short, &inode, &linked, &prefixed, &one.helper.pid().to_string()] {
            let (code, shown, errors) = list(&["-N", word]);
            assert_eq!((code, shown), (Some(0), vec!["7001".to_owned()]), "-N {word}: {errors}");
        }
        // Its rows alone, wherever it is looked from.
        for args in [["--container", short].as_slice(), &["--netns", "all", "--container", &one.id]] {
            assert_eq!(list(args).1, ["7001"], "{args:?}");
        }
        let both = format!("{}*", &one.id[..3]);
        let expected = if other.id.starts_with(&both[..3]) { 2 } else { 1 };
        assert_eq!(list(&["--container", &both]).1.len(), expected);
        for filter in
            [format!("container = {short}"), format!("container-id = {short}"), format!("container = {}", one.id)]
        {
            assert_eq!(list(&["--netns", "all", &filter]).1, ["7001"], "{filter}");
        }
        let not_it = format!("container != {short}");
        assert!(list(&["-N", &one.id, &not_it]).1.is_empty());
        assert_eq!(list(&["-N", &other.id, &not_it]).1, ["7002"]);
        // The other commands take it too.
        let summary = product::json(outside, &["summary", "--json", "--container", short]);
        assert_eq!(summary["states"]["listen"]["total"].as_u64().or(summary["total"].as_u64()), Some(1), "{summary:#}");
        let machine = product::json(outside, &["explain", "machine", "--json", "-N", short]);
        assert_eq!(machine["netns"].as_u64(), Some(one.ns.inode()), "{machine:#}");
        for args in [["watch", "--json", "-n", "1"].as_slice(), &["doctor", "--once", "--json"]] {
            let output = finish(product::with(outside, args).args(["--container", short]));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let first: Value =
                serde_json::Deserializer::from_str(&text).into_iter().next().expect("one").expect("JSON");
            let count = first["total"].as_u64().or(first["sockets"].as_u64());
            assert_eq!((output.status.code(), count), (Some(0), Some(1)), "{args:?}: {text}");
        }
        // What is none says on one line what is one.
        for args in [["-N", "no-such-container"], ["--container", "no-such-container"], ["--pod", "no-such-pod"]] {
            let (code, _, errors) = list(&args);
            assert_eq!((code, errors.lines().count()), (Some(2), 1), "{errors}");
            assert!(errors.contains("tcpstate summary --netns all --by"), "{errors}");
        }
    });
}

/// Whatever is typed is one line that says what it is not, or rows.
#[test]
fn no_word_is_worse_than_an_error_of_one_line() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups");
    }
    in_netns(|outside| {
        let one = match Container::start(3, 7003) {
            Ok(one) => one,
            Err(why) => return skip(&why),
        };
        let few = one.id[..11].to_owned();
        let long = "x".repeat(5000);
        let words = [
            "",
            " ",
            "(host",
            "host)",
            "net:[",
            "net:[]",
            "net:[0]",
            "net:[x]",
            "net:[18446744073709551616]",
            "container:",
            "container:x",
            "/",
            "//",
            "..",
            "./",
            "/dev/null",
            "/proc/self/ns/uts",
            "a/b/c",
            "x/*",
            "0",
            "-0",
            "4194304",
            "4194305",
            "18446744073709551615",
            "99999999999999999999999",
            "1e3",
            "0x10",
            "\u{e9}t\u{e9}",
            "a b",
            "$(x)",
            "'",
            "pod:",
            "all ",
            "ALL",
            &few,
            &long,
        ];
        for option in ["-N", "--container", "--pod"] {
            for word in words {
                let argument = format!("{option}={word}").replacen("-N=", "--netns=", 1);
                let output = finish(&mut product::with(outside, &["list", "-l", &argument]));
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                let shown: String = word.chars().take(40).collect();
                assert_eq!(output.status.code(), Some(2), "{option} {shown:?}: {errors}");
                let is_one_line = errors.lines().count() == 1 || errors.starts_with("error: ");
                assert!(is_one_line, "{option} {shown:?}: {errors:?}");
            }
        }
        // What matches everything matches this one too.
        for filter in ["*", &format!("{}*", &one.id[..5])] {
            let rows = product::json(outside, &["list", "-l", "--json", "--container", filter]);
            let ports: Vec<u64> =
                rows["sockets"].as_array().expect("rows").iter().filter_map(|r| r["local"]["port"].as_u64()).collect();
            assert!(ports.contains(&7003), "{filter}: {ports:?}");
        }
    });
}

#[test]
fn the_namespace_of_the_host_is_called_so() {
    if !netns::is_real_root() {
        return skip("only root enters the namespace of the host");
    }
    // The tests themselves may run in a namespace that is not the host's: then it has its name from process 1, or from its
    // number (`NET_NS_INIT_INO` of include/uapi/linux/nsfs.h, since Linux 6.18).
    let host = fs::metadata("/proc/1/ns/net").map_or(0xefff_fff9, |file| file.ino());
    in_netns(|outside| {
        let name =
            |args: &[&str]| String::from_utf8_lossy(&finish(&mut product::with(outside, args)).stdout).into_owned();
        if !name(&["summary", "--netns", "all", "--by", "netns", "--top", "100000"]).contains("(host)") {
            return skip("this kernel does not number the first namespace, and process 1 is another's");
        }
        // Whatever listens there; the test makes nothing in it.
        wait_for("two lists of the same moment", || {
            let by_number = name(&["list", "-l", "-H", "-N", &host.to_string(), "-c", "local"]);
            let by_name = name(&["list", "-l", "-H", "-N", "(host)", "-c", "local"]);
            if by_number == by_name { Ok(()) } else { Err(format!("{by_number}{by_name}")) }
        });
    });
}
