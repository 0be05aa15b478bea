//! Knows the test frameworks: how to detect them, find their test files and launch them.
//!
//! Everything here is a function over a project's directory; no process is run. What runs tests are the *worker
//! programs* in `workers/`, written in the language of their framework and embedded here: [`Launch`] describes to an
//! agent how to start them, and `proto/worker.md` is the protocol they speak. What is particular to one framework stands
//! in its own module in `frameworks/`; everything else asks it through [`Framework`].
//!
//! A framework's own configuration counts: pytest's `testpaths`, RSpec's `--pattern` and so on decide what is found,
//! so that `distributest` runs the files the framework alone would run. Two things differ from the frameworks, for the
//! sake of hosts that get a synced copy: only configuration inside the project is looked at, and in a git checkout
//! what `.gitignore` names is left out.

#![warn(missing_docs)]

mod detect;
mod discover;
mod error;
mod framework;
mod frameworks;
mod glob;
mod launch;
mod project_files;
mod rules;
mod units;
mod walk;
mod words;

pub use detect::{Detected, detect};
pub use discover::{Discovered, DiscoveredFile, Selection, discover};
pub use error::DiscoverError;
pub use framework::Framework;
pub use frameworks::own::OwnFramework;
pub use launch::{CommandLaunch, Isolation, Launch, LaunchOptions, OwnWorkerLaunch, WorkerLaunch};
