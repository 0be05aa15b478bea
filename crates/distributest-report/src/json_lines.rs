//! Writes one JSON object a line for every event but output, for programs.
//!
//! The format is a contract, written down in `docs/json-events.md`: names do not change while [`JSON_SCHEMA`] stays,
//! new events and fields may come. Bytes that processes wrote are not in it; they are in the aggregated log.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use distributest_core::run_event::RunEvent;

use crate::names::Names;
use crate::reporter::{ReportError, Reporter};

mod line;

/// The version of the format, in the first line as `schema`.
pub const JSON_SCHEMA: u32 = 1;

/// The consumer that writes JSON lines.
pub struct JsonLines {
    output: Box<dyn Write + Send>,
    path: PathBuf,
    names: Names,
}

impl JsonLines {
    /// Writes to a new file, replacing one that is there.
    ///
    /// # Errors
    ///
    /// [`ReportError::JsonLines`] if it can't be made.
    pub fn create(path: &Path) -> Result<JsonLines, ReportError> {
        let file =
            File::create(path).map_err(|source| ReportError::JsonLines { path: path.to_owned(), source })?;
        Ok(JsonLines::new(Box::new(file), path.to_owned()))
    }

    /// Writes to anything; `path` is what errors call it.
    pub fn new(output: Box<dyn Write + Send>, path: PathBuf) -> JsonLines {
        JsonLines { output, path, names: Names::default() }
    }

    fn write(&mut self, now: Duration, event: &RunEvent) -> io::Result<()> {
        self.names.learn(event);
        let Some(line) = line::Line::of(now, event, &self.names) else { return Ok(()) };
        // In one write, so that a reader who follows the file does not find half a line.
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.output.write_all(&bytes)?;
        self.output.flush()
    }
}

impl Reporter for JsonLines {
    fn on_event(&mut self, now: Duration, event: &RunEvent) -> Result<(), ReportError> {
        self.write(now, event).map_err(|source| ReportError::JsonLines { path: self.path.clone(), source })
    }
}
