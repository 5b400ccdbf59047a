//! The file of hosts.

/// The hosts of a text, each once, in its order.
///
/// # Errors
/// The line, and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let mut hosts: Vec<String> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let host = line.split('#').next().unwrap_or_default().trim();
        if host.is_empty() || hosts.iter().any(|known| known == host) {
            continue;
        }
        // ssh would take the first for an option, and its remote shell would not see the others.
        if host.starts_with('-') || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{}: `{}` is no name of a host", at + 1, crate::render::sanitize::clean(host)));
        }
        hosts.push(host.to_owned());
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn hosts_are_read_once_each_and_options_are_none() {
        let text = "web1\n\n  root@db1  # the database\n#web9\nweb1\n[2001:db8::1]\r\n";
        assert_eq!(parse(text).unwrap(), ["web1", "root@db1", "[2001:db8::1]"]);
        for (text, at) in [("a\n-oProxyCommand=reboot", 2), ("a b", 1), ("a\n\nb\u{1b}[31m", 3)] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("{at}: `")) && !error.contains('\u{1b}'), "{error}");
        }
        assert_eq!(parse("").unwrap(), Vec::<String>::new());
    }
}
