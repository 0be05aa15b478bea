//! Compares a host's workspace with the project over the run's own connection, and sends what little is missing.

use std::path::Path;
use std::sync::Arc;

use distributest_tree::workspace::Answer;

use super::project_state::ProjectState;
use crate::agents::{Agent, AgentError};
use crate::error::chain;

/// What came of it.
pub(super) enum Compared {
    /// The workspace is a copy of the project.
    Same {
        /// Each file is as it was when the project was looked at.
        as_it_was: bool,
    },
    /// rsync has to copy the project.
    CopyWanted {
        /// Why, for people.
        reason: String,
        /// The agent will remember what comes of it, if it is told what should.
        remembers: bool,
    },
}

/// Asks the agent whether its workspace is a copy of the project, and makes it one where few files differ.
///
/// # Errors
///
/// When the connection breaks or the agent refuses to go on.
pub(super) async fn compare(
    agent: &mut Agent,
    project: &Path,
    state: &Arc<ProjectState>,
) -> Result<Compared, AgentError> {
    let copy = |reason: &str| Ok(Compared::CopyWanted { reason: reason.to_owned(), remembers: false });
    if !agent.compares_trees() {
        return copy("its agent can't compare, or not in this version's way");
    }
    let read = match &state.tree {
        Ok(read) => read,
        Err(error) => return copy(&format!("the project can't be compared: {}", chain(error))),
    };
    let mut as_it_was = true;
    let mut answer = agent.compare(&read.fingerprint).await?;
    loop {
        answer = match answer {
            Answer::Same => return Ok(Compared::Same { as_it_was }),
            Answer::CopyWanted(reason) => return Ok(Compared::CopyWanted { reason, remembers: true }),
            Answer::TreeWanted => {
                agent.send_tree(&read.encoded).await?;
                agent.compared().await?
            }
            Answer::FilesWanted(entries) => {
                let (project, state) = (project.to_owned(), Arc::clone(state));
                let reading = tokio::task::spawn_blocking(move || {
                    state.tree.as_ref().ok()?.read_files(&project, &entries).ok()
                });
                let Ok(Some(files)) = reading.await else {
                    // rsync knows what to do, or to say.
                    return copy("a file to be sent has gone, or can't be read");
                };
                for file in files {
                    as_it_was &= !file.changed;
                    agent.send_file(file.entry, &file.contents, file.changed).await?;
                }
                agent.compared().await?
            }
        };
    }
}
