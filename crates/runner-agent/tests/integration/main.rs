//! The agent's real processes, driven by a real coordinator's end of the protocol.

mod commands;
mod daemon;
mod endings;
mod hooks;
mod hostile;
mod identifiers;
mod own_workers;
mod support;
mod warm;
mod workers;
