//! The `distributest` command: configuration, discovery, hosts and the run.

pub mod agents;
pub mod cache;
pub mod cli;
pub mod config;
pub mod driver;
pub mod dry_run;
pub mod error;
pub mod event_sinks;
pub mod hosts;
pub mod journal;
pub mod launch;
pub mod news_channel;
pub mod output_blocks;
pub mod plan;
pub mod project;
pub mod signals;
pub mod terminal;
