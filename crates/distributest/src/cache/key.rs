//! Names what a test file depends on besides the project's files.

use std::collections::BTreeMap;

use distributest_protocol::wire;
use distributest_protocol::wire::launch::Kind;
use distributest_tree::contents::Hash;
use sha2::{Digest, Sha256};

use super::NoKey;
use crate::config::Config;
use crate::hosts::RunSpec;
use crate::journal::FileIdentity;
use crate::plan::RunPlan;

/// Changes with what goes into a key.
const FORMAT: &str = "distributest cache 1";

/// Variables that tell a terminal or a login from another, and those that are settings: what of those matters is in a key
/// already.
const PASSING_VARIABLES: [&str; 20] = [
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "GPG_TTY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LINES",
    "OLDPWD",
    "SHLVL",
    "SSH_AUTH_SOCK",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "TERM_SESSION_ID",
    "TMUX",
    "TMUX_PANE",
    "WINDOW",
    "WINDOWID",
    "XDG_SESSION_ID",
    "XDG_VTNR",
    "_",
];

/// Names a list of texts so that no other list has the same name.
#[derive(Default)]
pub(super) struct Naming(Sha256);

impl Naming {
    pub(super) fn add(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    pub(super) fn name(self) -> Hash {
        self.0.finalize().into()
    }
}

/// What all files of a run depend on.
pub(super) fn common(plan: &RunPlan, run: &RunSpec, config: &Config) -> Hash {
    let mut naming = Naming::default();
    naming.add(FORMAT).add(env!("CARGO_PKG_VERSION"));
    naming.add(plan.project.directory.as_os_str().as_encoded_bytes());
    for hook in [&run.prepare.node_setup, &run.prepare.runner_setup] {
        // A project's own hook is one of its files.
        let described = hook.as_ref().map(|hook| (&hook.source, &hook.fingerprint));
        naming.add(format!("{described:?}"));
    }
    let given: BTreeMap<_, _> = run.prepare.environment.iter().collect();
    naming.add(format!("{given:?}"));
    if config.local {
        let own = run.own_environment.iter().filter(|(name, _)| !is_passing(name));
        let own: BTreeMap<_, _> = own.map(|(name, value)| (name, value)).collect();
        naming.add(format!("{own:?}")).add([u8::from(config.snapshot)]);
    }
    naming.name()
}

fn is_passing(variable: &str) -> bool {
    PASSING_VARIABLES.contains(&variable) || variable.starts_with("DISTRIBUTEST_")
}

/// What a file depends on besides the project's files.
pub(super) fn circumstances(
    common: &Hash,
    file: &FileIdentity,
    launch: Option<&wire::Launch>,
) -> Result<Hash, NoKey> {
    if !file.tests.is_empty() || file.part.is_some() {
        return Err(NoKey::InParts);
    }
    if launch.is_none_or(|launch| matches!(launch.kind, None | Some(Kind::Command(_)))) {
        let reason = format!("nobody knows the versions of what runs files of {}", file.framework);
        return Err(NoKey::Because(reason));
    }
    let mut naming = Naming::default();
    naming.add(common).add(&file.path).add(&file.framework).add(&file.launch);
    Ok(naming.name())
}

/// The key of a file that depends on these inputs in these circumstances.
pub(super) fn finish(circumstances: &Hash, inputs: &Hash) -> String {
    let mut naming = Naming::default();
    naming.add(circumstances).add(inputs);
    naming.name().iter().map(|byte| format!("{byte:02x}")).collect()
}
