//! Where a resident agent listens.

use std::collections::HashSet;
use std::env;
use std::path::PathBuf;

use rustix::process::geteuid;

/// The socket of the agent that serves all users of a host.
pub const SYSTEM_SOCKET: &str = "/run/runner-agent/socket";

/// The socket of a daemon run by this user: the system's for root.
///
/// `None` when the user has neither a runtime directory nor a home.
pub(crate) fn of_this_user() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from(SYSTEM_SOCKET));
    }
    let in_runtime = absolute("XDG_RUNTIME_DIR").map(|directory| directory.join("runner-agent.sock"));
    in_runtime.or_else(in_home)
}

/// Where to look for a daemon, the system's first. A shell over ssh may lack the variables a daemon had.
pub fn default_paths() -> Vec<PathBuf> {
    let mut candidates = vec![PathBuf::from(SYSTEM_SOCKET)];
    candidates.extend(of_this_user());
    candidates.push(PathBuf::from(format!("/run/user/{}/runner-agent.sock", geteuid().as_raw())));
    candidates.extend(in_home());
    let mut tried = HashSet::new();
    candidates.retain(|path| tried.insert(path.clone()));
    candidates
}

fn in_home() -> Option<PathBuf> {
    Some(absolute("HOME")?.join(".cache/distributest/runner-agent.sock"))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
