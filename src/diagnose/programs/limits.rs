//! Limits that a program was told on its command line.
//!
//! Input: a command line. Output: a number. Not here: configuration files, which a running program may have read in another
//! form.

/// The limit on connections that a server's command line has: `-c max_connections=90`, `--max-connections=90`,
/// `--maxclients 90`.
#[must_use]
pub fn connection_limit(cmdline: &[String]) -> Option<u64> {
    const NAMES: [&str; 4] = ["maxconnections", "maxclients", "maxconn", "connlimit"];
    let mut words = cmdline.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), words.peek().map(|w| w.as_str())),
        };
        // postgres takes its settings as `-c NAME=VALUE` and as `-cNAME=VALUE`.
        let name = name.strip_prefix("-c").unwrap_or(name).trim_start_matches('-').replace(['-', '_'], "");
        if NAMES.contains(&name.as_str()) {
            return value?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_forms_that_servers_take() {
        let limit = |line: &str| connection_limit(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(limit("postgres -D /d -c max_connections=90"), Some(90));
        assert_eq!(limit("postgres -cmax_connections=90"), Some(90));
        assert_eq!(limit("mysqld --max-connections=151 --port=1"), Some(151));
        assert_eq!(limit("redis-server --maxclients 500"), Some(500));
        assert_eq!(
            (limit("memcached --conn-limit"), limit("nginx -c 90"), limit("x --maxclients=a")),
            (None, None, None)
        );
    }
}
