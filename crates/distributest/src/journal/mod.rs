//! The journal of a run: what `distributest --resume` needs to continue it, written while it goes on.
//!
//! It is a file in the state directory with a line for what was asked for and one for each file that is finished: its
//! verdict, and the attempts that led to it with all their tests. What is no verdict of the tests (a file that was not
//! run, an attempt that was interrupted) is not in it. A run that ends with every file finished removes its journal; any
//! other leaves it, however it ended: killed, interrupted, without runners.
//!
//! Rules:
//!
//! - A line is written in one piece once everything it tells is known, and begins with a checksum. A line that is torn or
//!   damaged counts for nothing, so a file is finished only if its whole result is there, and otherwise run again. Nothing
//!   is ever synced to the disk: a program that dies loses nothing, a machine that does may lose the last lines.
//! - The journal is locked while its run lives, so nobody continues a run that is still going on.
//! - A resumed run goes on writing the journal it continues.
//! - A finished file counts in a later run only if it is still the same ([`FileIdentity`]) there.
//! - A journal that can't be written costs a warning and never the run.

mod directory;
mod former;
mod identity;
mod notes;
mod record;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use distributest_core::run_event::RunEvent;

pub use self::directory::{Journals, TakeUpError, TakenUp};
pub use self::former::FinishedPart;
pub use self::identity::{FileIdentity, identify};
pub use self::record::{Begun, FinishedAttempt, FinishedFile, FinishedTest, Invocation, UnreadableError};

use self::notes::Notes;
use self::record::Record;

/// Why a run has no journal, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory of the journals can't be made.
    #[error("make the directory {} for journals", path.display())]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file can't be made or renamed.
    #[error("make the journal {}", path.display())]
    Make {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line can't be written.
    #[error("write the journal {}", path.display())]
    Write {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The journal of a run that goes on.
#[derive(Debug)]
pub struct Journal {
    /// Locked as long as it is open.
    file: File,
    path: PathBuf,
    journals: Journals,
    begun: Begun,
    notes: Notes,
    /// A line could not be written, and so none is any more.
    broken: bool,
    /// Why, until it is told.
    untold: Option<JournalError>,
}

impl Journal {
    /// Writes in a file that is open and locked: what comes `before`, and that a run has begun.
    fn start(
        (file, path): (File, PathBuf),
        journals: Journals,
        begun: Begun,
        files: Vec<FileIdentity>,
        before: &[u8],
    ) -> Journal {
        let line = record::encode(&Record::Begun(begun.clone()));
        let notes = Notes::new(files);
        let mut journal = Journal { file, path, journals, begun, notes, broken: false, untold: None };
        journal.write(line.map(|line| [before, &line].concat()));
        journal
    }

    /// Takes note of an event, and writes down what is finished with it.
    ///
    /// # Errors
    ///
    /// At most one in a run, to be shown as a warning: from then on nothing is written and this returns `Ok`.
    pub fn on_event(&mut self, event: &RunEvent) -> Result<(), JournalError> {
        if let Some(finished) = self.notes.on_event(event)
            && !self.broken
        {
            self.write(record::encode(&Record::Finished(Box::new(finished))));
        }
        self.untold.take().map_or(Ok(()), Err)
    }

    /// Ends with the run. Where nothing is left to continue, the journal goes, and so do those of earlier runs that were
    /// asked for the same files.
    pub fn finish(self) {
        if self.notes.all_finished() {
            self.journals.remove(&self.path, &self.begun.invocation);
        }
    }

    fn write(&mut self, line: serde_json::Result<Vec<u8>>) {
        let written = line.map_err(io::Error::from).and_then(|line| self.file.write_all(&line));
        if let Err(source) = written {
            self.broken = true;
            self.untold = Some(JournalError::Write { path: self.path.clone(), source });
        }
    }
}

#[cfg(test)]
mod tests;
