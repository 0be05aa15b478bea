//! Real processes that fork, daemonise, ignore signals and flood, and what is left of them: nothing.

mod common;
mod ending;
mod leaks;
mod owners;
mod records;
mod spawning;
