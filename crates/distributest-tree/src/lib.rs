//! What a directory tree holds, told exactly: which part of a project is copied to a workspace, whether a workspace still
//! holds it, and how it is put right where little differs.
//!
//! rsync makes a workspace the same as a project and needs a process at either end and a list of every file for that,
//! also when nothing has changed. Here both ends walk their own tree, and a single number tells that nothing has. What
//! comes of it is what rsync would make of it (`-a --no-owner --no-group --delete` and the filter rules), to the mode and
//! time of each directory; a property test holds that.
//!
//! # What is relied upon
//!
//! - A file that changes gets a new *time of change* (`ctime`) from its system, which nobody can set. So a file that looks
//!   as it was left, holds what it was left with, whatever was done to its size and time of modification: on the
//!   developer's machine ([`Version`](tree::Version)) and in the workspace.
//! - That time has a granularity. What was changed within the tick in which it is looked at may be changed again without a
//!   trace: it counts as changed the next time (git calls it *racily clean*), or the tick is waited for.
//! - Not every file system keeps that promise; only those count that are known to (`clock.rs`).
//!
//! Whatever else is in doubt (nothing remembered, rules that are not understood to the letter, an error of any kind) ends
//! in a copy by rsync, which is right in any case.

pub mod contents;
pub mod filter;
pub mod project;
pub mod record;
pub mod tree;
pub mod walk;
pub mod workspace;

mod clock;
mod pattern;
mod repair;
mod survey;
