//! Answers which earlier passes of a file may stand for a run of it.
//!
//! A pass is an attempt that passed and decided its file, with a name for everything it depended on, its *inputs*, and the
//! versions of framework and interpreter it ran with. It goes with its attempt, and also when the tests of that attempt go.
//! It does not count any more once a later attempt at the file has failed, whatever its inputs were: then the file may pass
//! or fail with the same ones.

use std::time::Duration;

use distributest_core::identity::AttemptId;
use distributest_core::run_event::EarlierPass;
use distributest_core::test_result::{TestResult, TestStatus};
use rusqlite::{Connection, named_params};

use crate::store::{History, HistoryError, Operation};

/// A pass to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPass {
    /// The attempt of this run that passed.
    pub attempt: AttemptId,
    /// Names everything its outcome depended on.
    pub inputs: String,
    /// What its worker said of framework and interpreter.
    pub versions: String,
}

/// A pass that is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedPass {
    /// What its worker said of framework and interpreter.
    pub versions: String,
    /// What came of it.
    pub pass: EarlierPass,
}

impl History {
    /// The passes of a file with these inputs, the newest of each versions, newest first.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Read`], or [`HistoryError::Damaged`]: then open the history again to begin a new one.
    pub fn passes(
        &self,
        project_key: &str,
        path: &str,
        inputs: &str,
    ) -> Result<Vec<RecordedPass>, HistoryError> {
        read(&self.connection, project_key, path, inputs).map_err(|error| self.failed(error, Operation::Read))
    }
}

const PASSES: &str = "
    SELECT attempts.id, passes.versions, runs.identifier, hosts.name, attempts.finished_at, attempts.duration
    FROM projects
    JOIN files ON files.project_id = projects.id
    JOIN attempts ON attempts.file_id = files.id
    JOIN passes ON passes.attempt_id = attempts.id
    JOIN runs ON runs.id = attempts.run_id
    JOIN hosts ON hosts.id = attempts.host_id
    WHERE projects.key = :project AND files.path = :path AND passes.inputs = :inputs
      AND attempts.deciding AND attempts.result = 'passed'
      AND NOT EXISTS (
          SELECT 1 FROM attempts AS later
          WHERE later.file_id = files.id AND later.id > attempts.id
            AND later.result IN ('failed', 'broken', 'timed out', 'crashed'))
    ORDER BY attempts.id DESC";

fn read(
    connection: &Connection,
    project_key: &str,
    path: &str,
    inputs: &str,
) -> rusqlite::Result<Vec<RecordedPass>> {
    let mut statement = connection.prepare_cached(PASSES)?;
    let parameters = named_params! { ":project": project_key, ":path": path, ":inputs": inputs };
    let mut rows = statement.query(parameters)?;
    let mut passes: Vec<RecordedPass> = Vec::new();
    while let Some(row) = rows.next()? {
        let versions: String = row.get(1)?;
        if passes.iter().any(|newer| newer.versions == versions) {
            continue;
        }
        // One with a word that only a later program knows tells nothing to this one.
        let Some(tests) = read_tests(connection, row.get(0)?)? else { continue };
        passes.push(RecordedPass {
            versions,
            pass: EarlierPass {
                run: row.get(2)?,
                host: row.get(3)?,
                finished_at_unix_ms: row.get(4)?,
                duration: microseconds(row.get(5)?),
                tests,
            },
        });
    }
    Ok(passes)
}

fn read_tests(connection: &Connection, attempt: i64) -> rusqlite::Result<Option<Vec<TestResult>>> {
    let mut statement = connection.prepare_cached(
        "SELECT identifier, coalesce(name, identifier), status, duration FROM tests WHERE attempt_id = ?1 ORDER BY position",
    )?;
    let rows = statement.query_map([attempt], |row| {
        let status: String = row.get(2)?;
        Ok(TestStatus::from_word(&status).map(|status| (row.get(0), row.get(1), status, row.get(3))))
    })?;
    let mut tests = Vec::new();
    for row in rows {
        let Some((id, name, status, duration)) = row? else { return Ok(None) };
        tests.push(TestResult {
            id: id?,
            name: name?,
            status,
            duration: microseconds(duration?),
            message: String::new(),
            details: String::new(),
            file: None,
            line: None,
        });
    }
    Ok(Some(tests))
}

fn microseconds(stored: i64) -> Duration {
    Duration::from_micros(stored.unsigned_abs())
}
