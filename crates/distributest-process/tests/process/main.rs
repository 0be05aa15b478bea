//! Real processes that fork, daemonise, ignore signals and flood, and what is left of them: nothing.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod common;
mod ending;
mod leaks;
mod owners;
mod spawning;
