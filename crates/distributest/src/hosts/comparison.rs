//! Compares a host's workspace with the project over the run's own connection, and sends what little is missing.

use std::path::Path;
use std::sync::Arc;

use distributest_tree::workspace::Answer;

use super::project_state::ProjectState;
use crate::agents::{Agent, AgentError};

/// What came of it.
pub(super) enum Compared {
    /// The workspace is a copy of the project.
    Same {
        /// Each file is as it was when the project was looked at.
        as_it_was: bool,
    },
    /// rsync has to copy the project.
    CopyWanted {
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
    let Some(read) = state.tree.as_ref().filter(|_| agent.compares_trees()) else {
        return Ok(Compared::CopyWanted { remembers: false });
    };
    let mut as_it_was = true;
    let mut answer = agent.compare(&read.fingerprint).await?;
    loop {
        answer = match answer {
            Answer::Same => return Ok(Compared::Same { as_it_was }),
            Answer::CopyWanted(_) => return Ok(Compared::CopyWanted { remembers: true }),
            Answer::TreeWanted => {
                agent.send_tree(&read.encoded).await?;
                agent.compared().await?
            }
            Answer::FilesWanted(entries) => {
                let (project, state) = (project.to_owned(), Arc::clone(state));
                let reading = tokio::task::spawn_blocking(move || {
                    state.tree.as_ref().map(|read| read.read_files(&project, &entries))
                });
                let Ok(Some(Ok(files))) = reading.await else {
                    // A file has gone, or can't be read: rsync knows what to do, or to say.
                    return Ok(Compared::CopyWanted { remembers: false });
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
