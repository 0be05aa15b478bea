//! The whole product: the real command, its real private agent, real frameworks, in an environment of the test's own.
//!
//! What the user sees (standard output, standard error, exit status) is one snapshot per case; what the run was is
//! compared through `--json`.

mod bad_input;
mod cache;
mod capabilities;
mod changes;
mod connecting;
mod disks;
mod ending;
mod floods;
mod frameworks;
mod history;
mod hooks;
mod lost_agents;
mod memory;
mod outcomes;
mod resume;
mod retries;
mod sandbox;
mod splitting;
mod synced_copies;
mod zero_configuration;
