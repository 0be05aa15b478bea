//! One process tree: spawn, capture, stop, leak detection, and becoming another user.
//!
//! [`ProcessTree::spawn`] starts a program (the *root*) in its own session with its output captured. Everything
//! the root starts, directly or not, belongs to its tree, also what daemonises: a daemon leaves its session, its
//! process group, its parent, its descriptors and its environment behind, but none of the three things this crate
//! goes by:
//!
//! - **Descent.** What the root started, what that started, and so on.
//! - **Mark.** When a parent dies, its children become children of the process that called `spawn`, which `spawn`
//!   makes a subreaper. Each tree has a resource limit of its own (see `mark.rs`), which children inherit and no
//!   program changes. It tells whose orphan is whose.
//! - **Cgroup**, where the agent was given a part of the hierarchy (see [`cgroup`]).
//!
//! Rules:
//!
//! - Linux 5.3 or newer (pidfd). Newer kernels add `close_range` (5.11) and `cgroup.kill` (5.14); without them the
//!   same is done step by step.
//! - The root is killed when the *thread* that spawned it dies. Callers therefore spawn on a thread that lives as
//!   long as they do: the main thread with a current-thread runtime.
//! - A signal goes through a pidfd to a process whose start time was compared after the pidfd was opened, so that
//!   it never hits a stranger that got the same pid.
//! - "Nothing is left" is only concluded from listings that came out the same twice in a row.
//! - [`reap_orphans`] runs beside the trees, so that orphans that end do not stay as zombies.
//! - Nobody else in the process waits for children they did not start: no `waitpid(-1)`.
//! - A process that owns trees has somebody above it who kills what is below its roots when it is killed itself: a
//!   guardian ([`guard`]), or the owner of the tree it is the root of.
//! - A process that nobody is above keeps a record of its trees ([`TreeRecords`]), by which its successor kills what it
//!   leaves when it is killed together with their roots.
//! - Only `accounts`, `child`, `guardian`, `inherited`, `usage` and `watch` contain unsafe code.

pub mod cgroup;
pub mod identity;
pub mod output;

#[expect(unsafe_code, reason = "calls the C library's account functions, which take raw buffers")]
mod accounts;
mod activity;
#[expect(unsafe_code, reason = "prepares the child until it executes")]
mod child;
#[expect(unsafe_code, reason = "makes a process by a system call that the C library does not know")]
mod clone_inside;
#[expect(unsafe_code, reason = "walks the program's segments, and takes pages of them out of memory")]
mod code_pages;
mod exit;
#[expect(unsafe_code, reason = "forks, and waits for signals")]
mod guardian;
#[expect(unsafe_code, reason = "takes ownership of a descriptor by its number")]
mod inherited;
#[expect(unsafe_code, reason = "makes the child, which shares this process's memory until it executes")]
mod launch;
mod mark;
mod members;
mod memory;
mod process_table;
mod records;
mod roots;
mod spawn;
mod tree;
#[expect(unsafe_code, reason = "asks what a child used while it is waited for")]
mod usage;
mod variables;
#[expect(unsafe_code, reason = "registers pidfds with the runtime")]
mod watch;

pub use activity::Activity;
pub use cgroup::{Cgroup, CgroupError, CgroupPool, Delegation};
pub use child::lead_session;
pub use code_pages::release_code;
pub use exit::Exit;
pub use guardian::{GuardError, guard};
pub use identity::{IdentityError, User, peer_uid};
pub use inherited::take_control_socket;
pub use memory::{OutOfMemoryKills, available_memory};
pub use output::drain_available;
pub use records::{RecordedTree, TreeRecords};
pub use roots::reap_orphans;
pub use spawn::{CONTROL_DESCRIPTOR, ProcessSpec, SpawnError, become_subreaper};
pub use tree::{LeakedProcess, ProcessTree, StopError};
pub use usage::{ProcessUsage, wait_with_usage};
pub use variables::Variables;
