//! Generates test suites with a model of their outcomes, for the end-to-end tests and the lab. Never shipped.
//!
//! [`suites`] writes a project whose every test's result is known beforehand, so that a test can run a program on it
//! and compare. `make-suite` does the same for shell scripts. The crate's own tests hold the rules of
//! `crates/ARCHITECTURE.md`.

pub mod suites;
