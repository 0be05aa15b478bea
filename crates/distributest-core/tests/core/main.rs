//! The core's tests from outside: scripts, properties with named invariants, and the fake run they stand on.

mod host_speed;
mod ledger;
mod model;
mod observed_run;
mod prediction;
mod scale;
mod scheduler_properties;
mod scheduler_scripts;
mod slots;
mod splitting;
mod words;
