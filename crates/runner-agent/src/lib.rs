//! The daemon on each workstation, and the private agent that takes its place where there is none.
//!
//! Three kinds of processes, all of one program:
//!
//! - the **daemon** ([`daemon::serve`]) accepts connections on a Unix socket and shares slots among runs. It knows no
//!   gRPC and opens no file for anybody;
//! - a **session** process serves one run: it already is the user it works for. The daemon starts one for each
//!   connection, and a private agent ([`private_agent`]) has exactly one, watched by the process that was started;
//! - **dial** ([`dial::relay`]) joins its standard input and output with the daemon's socket, for coordinators whose ssh
//!   does not connect to that socket itself.
//!
//! What must never happen is that something of a run outlives it. Every session is watched by another process,
//! which ends what the session leaves; and every session watches its connection and its watcher, and ends its run
//! with either.

pub mod cli;
pub mod daemon;
pub mod dial;
pub mod socket;

mod config;
mod connection;
mod control_messages;
mod failure;
mod private;
mod refusal;
mod runtime;
mod session;
mod watcher;

pub use cli::private_agent;
pub use config::{Config, ConfigError};
pub use runtime::{LOG_VARIABLE, start_log};

/// The version of the protocol between coordinator and agent that this agent speaks.
pub const PROTOCOL_VERSION: u32 = 1;
