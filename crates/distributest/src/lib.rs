//! The `distributest` command: configuration, discovery, hosts and the run.

pub mod cli;
pub mod config;
pub mod error;
