//! Reasons why a daemon serves a caller not at all.

use clap::ValueEnum;
use distributest_protocol::wire;

use crate::failure::Failure;

/// Why a caller is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Refusal {
    /// It is root, and tests don't run as root here.
    Root,
    /// The daemon runs as an ordinary user, and the caller is another one.
    OtherUser,
    /// The caller's uid has no account on this host.
    NoAccount,
    /// The caller has too many connections open.
    TooManyRuns,
}

impl Refusal {
    /// The word for it on a command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Refusal::Root => "root",
            Refusal::OtherUser => "other-user",
            Refusal::NoAccount => "no-account",
            Refusal::TooManyRuns => "too-many-runs",
        }
    }

    /// What the coordinator is told.
    pub(crate) fn failure(self) -> wire::Failure {
        let (cause, hint) = match self {
            Refusal::Root => (
                "tests do not run as root",
                "connect as an ordinary user, or set allow_root = true in /etc/distributest/agent.toml there",
            ),
            Refusal::OtherUser => (
                "this agent serves only the user it runs as",
                "install runner-agent as a system service, or run one as this user",
            ),
            Refusal::NoAccount => ("your user has no account on this host", "create the account there"),
            Refusal::TooManyRuns => (
                "your user has too many runs there at once",
                "wait until some have ended; those that hang show in the list of processes there as runner-agent",
            ),
        };
        Failure::configuration("use the agent", "").because(cause).hint(hint).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_command_line() {
        for refusal in Refusal::value_variants() {
            assert_eq!(Refusal::from_str(refusal.word(), false).as_ref(), Ok(refusal));
        }
    }
}
