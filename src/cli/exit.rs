//! Exit codes that scripts may rely on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done. A closed pipe and partial data also count as done.
    Done,
    /// 1: the answer is no. `doctor`: not healthy, a finding at or above `--fail-on`; `list --exists`: nothing
    /// matches.
    No,
    /// 2: wrong usage, or nothing could be collected, or a gap under `--strict`.
    Failed,
    /// `doctor --nagios`: 0 to 3.
    Nagios(u8),
}

impl Exit {
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::Failed => 2,
            Exit::Nagios(n) => n,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_manual() {
        assert_eq!([Exit::Done, Exit::No, Exit::Failed, Exit::Nagios(3)].map(Exit::code), [0, 1, 2, 3]);
    }
}
