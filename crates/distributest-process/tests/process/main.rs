//! Real processes that fork, daemonise, ignore signals and flood, and what is left of them: nothing.

mod common;
mod ending;
mod leaks;
mod owners;
mod pool;
mod records;
mod spawning;
