//! Domain types, duration prediction, the pure scheduler of a run and the pure slot arbiter of an agent.
//!
//! Nothing in this crate reads a clock, a file, an environment variable or a socket: time comes in as a
//! [`std::time::Duration`] since the start of the run, facts come in as events, decisions go out as commands.
//! `clippy.toml` beside this crate's manifest holds that.

pub mod host_speed;
pub mod identity;
pub mod ledger;
pub mod outcome;
pub mod prediction;
pub mod run_event;
pub mod scheduler;
pub mod scheduler_messages;
pub mod slots;
pub mod splitting;
pub mod test_result;
pub mod usage;
pub mod workload;
