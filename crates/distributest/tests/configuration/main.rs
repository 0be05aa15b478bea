//! The configuration and the command line, without a run.

mod command_line;
mod fuzz;
mod hooks;
mod init;
mod invalid;
mod layers;
mod round_trip;
mod support;
