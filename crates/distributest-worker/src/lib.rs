//! The worker inside the agent's own program, for everything that is run by a process per file (or per package, or
//! per binary): what `prove` runs, bats, commands that write JUnit XML, Go's packages, cargo's test binaries.
//!
//! It speaks the worker protocol (`proto/worker.md`) like any other worker, but there is nothing to load and nothing
//! to fork from: for each `run` it starts the framework's own program, follows what that writes, and reports each test as
//! it ends. So it has one thread, one loop around `poll`, and little memory.
//!
//! - towards the agent: `link.rs` is the conversation, `messages.rs` what is said in it;
//! - towards the tests: `program.rs` runs one program below the worker and hands out what it writes;
//! - between them a *kind* (`kind.rs`) knows one framework: how a file of it is run and what its output means.
//!   Parsers are modules of their own that know no process.
//!
//! Go and cargo build first, once for all workers of a run on a host: `run_directory.rs` is what these share, `tools.rs` asks
//! the tools, `report.rs` collects what comes of a unit.
//!
//! Rules:
//!
//! - Every program leads a session of its own and dies with the worker. What it leaves running is left to the agent,
//!   which names and kills it.
//! - What tests write reaches the worker's own outputs byte for byte and in bounded memory.
//! - SIGTERM, and the end of the agent, end the running program first (`program.rs`).

mod bats;
mod cargo;
mod excerpt;
#[cfg(test)]
mod fuzz;
mod go;
mod ids;
mod junit;
mod kind;
mod lines;
mod link;
mod messages;
mod program;
mod report;
mod run_directory;
mod tap;
mod text;
mod tools;
mod worker;

pub use kind::KINDS_OF_UNITS;
pub use worker::main;
