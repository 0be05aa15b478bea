//! Writes rows of one run, a batch in a transaction, and trims what they displaced.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use distributest_core::identity::{AttemptId, FileId, HostId};
use distributest_core::run_event::{AttemptResult, FilePlan, HostPlan, RunSummary};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;

use crate::passes::NewPass;
use crate::recorder::RunInfo;

/// Attempts kept of each file, the newest.
pub const ATTEMPTS_KEPT: u32 = 50;

/// Deciding attempts of each file whose tests are kept, the newest.
pub const TESTS_KEPT: u32 = 10;

/// Days after which a run is forgotten, and with its last run a project or a file.
pub const DAYS_KEPT: u32 = 365;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The run all rows of a recorder belong to.
#[derive(Debug)]
pub(crate) struct RunRecord {
    pub(crate) info: RunInfo,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) files: Arc<[FilePlan]>,
}

/// One row to write, or a change to one written before.
#[derive(Debug)]
pub(crate) enum Row {
    /// An attempt ended; with its tests, if its outcome became its file's verdict before this was written.
    Attempt { attempt: AttemptRow, deciding: Option<Vec<TestRow>> },
    /// The outcome of an attempt that is written became its file's verdict.
    Deciding { attempt: AttemptId, tests: Vec<TestRow> },
    /// An attempt that decided its file may stand for a later run of it.
    Pass(NewPass),
    /// The run ended.
    RunFinished { wall: Duration, testing: Duration, lower_bound: Duration, exit_status: u8 },
}

impl Row {
    /// The row for the end of a run.
    pub(crate) fn finished(summary: &RunSummary) -> Row {
        Row::RunFinished {
            wall: summary.wall,
            testing: summary.testing,
            lower_bound: summary.lower_bound,
            exit_status: summary.exit_status,
        }
    }

    /// Rows it becomes in the database, for the size of a batch.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Row::Attempt { deciding: None, .. } | Row::Pass(_) | Row::RunFinished { .. } => 1,
            Row::Attempt { deciding: Some(tests), .. } | Row::Deciding { tests, .. } => 1 + tests.len(),
        }
    }
}

/// An attempt that ended.
#[derive(Debug)]
pub(crate) struct AttemptRow {
    pub(crate) attempt: AttemptId,
    pub(crate) file: FileId,
    pub(crate) host: HostId,
    pub(crate) runner: u16,
    pub(crate) result: AttemptResult,
    /// Since the start of the run.
    pub(crate) started: Duration,
    pub(crate) duration: Duration,
    pub(crate) usage: Usage,
    /// Since the start of the run.
    pub(crate) finished: Duration,
}

/// A test of a deciding attempt.
#[derive(Debug)]
pub(crate) struct TestRow {
    identifier: String,
    /// `None`: the same as the identifier.
    name: Option<String>,
    status: TestStatus,
    pub(crate) duration: Duration,
}

impl From<&TestResult> for TestRow {
    fn from(test: &TestResult) -> TestRow {
        TestRow {
            identifier: test.id.clone(),
            name: (test.name != test.id).then(|| test.name.clone()),
            status: test.status,
            duration: test.duration,
        }
    }
}

/// Writes all rows or none. `run_row` is the run's own row once that is written; the answer is its new value.
pub(crate) fn write(
    connection: &mut Connection,
    run: &RunRecord,
    run_row: Option<i64>,
    rows: &[Row],
) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let project = project_row(&transaction, &run.info)?;
    let run_row = match run_row {
        Some(row) => row,
        None => insert_run(&transaction, run, project)?,
    };
    let hosts = host_rows(&transaction, run, rows)?;
    for row in rows {
        match row {
            Row::Attempt { attempt, deciding } => {
                let places = Places { project, run: run_row, hosts: &hosts };
                insert_attempt(&transaction, run, &places, attempt, deciding.as_deref())?;
            }
            Row::Deciding { attempt, tests } => decide(&transaction, run_row, *attempt, tests)?,
            Row::Pass(pass) => insert_pass(&transaction, run_row, pass)?,
            Row::RunFinished { wall, testing, lower_bound, exit_status } => {
                transaction.execute(
                    "UPDATE runs SET wall = ?2, testing = ?3, lower_bound = ?4, exit_status = ?5 WHERE id = ?1",
                    params![run_row, micros(*wall), micros(*testing), micros(*lower_bound), exit_status],
                )?;
                forget_old_runs(&transaction, run.info.started_at_unix_ms)?;
            }
        }
    }
    transaction.commit()?;
    Ok(run_row)
}

fn project_row(transaction: &Transaction<'_>, info: &RunInfo) -> rusqlite::Result<i64> {
    let known = transaction
        .prepare_cached("SELECT id, name FROM projects WHERE key = ?1")?
        .query_row([&info.project_key], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    match known {
        Some((id, name)) => {
            if name != info.project_name {
                transaction
                    .execute("UPDATE projects SET name = ?2 WHERE id = ?1", params![id, info.project_name])?;
            }
            Ok(id)
        }
        None => {
            transaction.execute(
                "INSERT INTO projects (key, name) VALUES (?1, ?2)",
                [&info.project_key, &info.project_name],
            )?;
            Ok(transaction.last_insert_rowid())
        }
    }
}

fn insert_run(transaction: &Transaction<'_>, run: &RunRecord, project: i64) -> rusqlite::Result<i64> {
    transaction.execute(
        "INSERT INTO runs (project_id, identifier, version, started_at, files) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![project, run.info.run, run.info.version, run.info.started_at_unix_ms, run.files.len() as i64],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// The rows that an attempt's row names.
struct Places<'a> {
    project: i64,
    run: i64,
    /// Those of the run's hosts, as far as they are named.
    hosts: &'a [Option<i64>],
}

/// Writes an attempt and, if it decided its file, its tests.
fn insert_attempt(
    transaction: &Transaction<'_>,
    run: &RunRecord,
    places: &Places<'_>,
    attempt: &AttemptRow,
    deciding: Option<&[TestRow]>,
) -> rusqlite::Result<()> {
    // An event that names a file or host the run did not announce has nothing to be remembered under.
    let host_row = places.hosts.get(attempt.host.0 as usize).copied().flatten();
    let (Some(file), Some(host_row)) = (run.files.get(attempt.file.0 as usize), host_row) else {
        return Ok(());
    };
    let (file_row, is_new) = file_row(transaction, places.project, file)?;
    let result = match attempt.result {
        AttemptResult::Outcome(outcome) => outcome.word(),
        AttemptResult::Interrupted(interruption) => interruption.word(),
    };
    let finished_ms = i64::try_from(attempt.finished.as_millis()).unwrap_or(i64::MAX);
    let attempt_row = transaction
        .prepare_cached(
            "INSERT INTO attempts (run_id, number, file_id, host_id, runner, result, started, duration, predicted, \
             finished_at, deciding, processor, peak_memory) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .insert(params![
            places.run,
            attempt.attempt.0.cast_signed(),
            file_row,
            host_row,
            attempt.runner,
            result,
            micros(attempt.started),
            micros(attempt.duration),
            file.predicted.map(micros),
            run.info.started_at_unix_ms.saturating_add(finished_ms),
            deciding.is_some(),
            attempt.usage.processor.map(micros),
            attempt.usage.peak_memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        ])?;
    if let Some(tests) = deciding {
        insert_tests(transaction, attempt_row, tests)?;
    }
    // A file's first attempt displaces none.
    if is_new { Ok(()) } else { forget_displaced(transaction, file_row, deciding.is_some()) }
}

/// Forgets what the newest attempt of a file displaced; `is_deciding`: it decided the file.
fn forget_displaced(transaction: &Transaction<'_>, file_row: i64, is_deciding: bool) -> rusqlite::Result<()> {
    let displaced = transaction
        .prepare_cached(
            "SELECT id FROM attempts WHERE file_id = ?1 ORDER BY finished_at DESC, id DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![file_row, ATTEMPTS_KEPT], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(displaced) = displaced {
        transaction.prepare_cached("DELETE FROM attempts WHERE id = ?1")?.execute([displaced])?;
    }
    if is_deciding { forget_displaced_tests(transaction, file_row) } else { Ok(()) }
}

/// The file's row, and whether it was made just now.
fn file_row(transaction: &Transaction<'_>, project: i64, file: &FilePlan) -> rusqlite::Result<(i64, bool)> {
    let known = transaction
        .prepare_cached("SELECT id FROM files WHERE project_id = ?1 AND path = ?2")?
        .query_row(params![project, file.path], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok((id, false));
    }
    let id = transaction
        .prepare_cached("INSERT INTO files (project_id, path, framework) VALUES (?1, ?2, ?3)")?
        .insert(params![project, file.path, file.framework])?;
    Ok((id, true))
}

/// The rows of those hosts, by their ids, that these rows name.
fn host_rows(
    transaction: &Transaction<'_>,
    run: &RunRecord,
    rows: &[Row],
) -> rusqlite::Result<Vec<Option<i64>>> {
    let mut found = vec![None; run.hosts.len()];
    for row in rows {
        let Row::Attempt { attempt, .. } = row else { continue };
        let host = attempt.host.0 as usize;
        if let (Some(plan), Some(place @ None)) = (run.hosts.get(host), found.get_mut(host)) {
            *place = Some(host_row(transaction, &plan.name)?);
        }
    }
    Ok(found)
}

fn host_row(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    let known = transaction
        .prepare_cached("SELECT id FROM hosts WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => transaction.prepare_cached("INSERT INTO hosts (name) VALUES (?1)")?.insert([name]),
    }
}

/// Makes a written attempt the one that decided its file.
fn decide(
    transaction: &Transaction<'_>,
    run_row: i64,
    attempt: AttemptId,
    tests: &[TestRow],
) -> rusqlite::Result<()> {
    let decided = transaction
        .prepare_cached(
            "UPDATE attempts SET deciding = 1 WHERE run_id = ?1 AND number = ?2 RETURNING id, file_id",
        )?
        .query_row(params![run_row, attempt.0.cast_signed()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    // Newer attempts of a neighbour may have displaced it already.
    let Some((attempt_row, file_row)) = decided else { return Ok(()) };
    insert_tests(transaction, attempt_row, tests)?;
    forget_displaced_tests(transaction, file_row)
}

fn insert_tests(transaction: &Transaction<'_>, attempt_row: i64, tests: &[TestRow]) -> rusqlite::Result<()> {
    if tests.is_empty() {
        return Ok(());
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO tests (attempt_id, position, identifier, name, status, duration) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (position, test) in (0_i64..).zip(tests) {
        insert.execute(params![
            attempt_row,
            position,
            test.identifier,
            test.name,
            test.status.word(),
            micros(test.duration)
        ])?;
    }
    Ok(())
}

/// Forgets the tests of the attempt that a file's newest deciding one displaced, and that it may stand for a later run: a
/// pass without its tests stands for nothing.
fn forget_displaced_tests(transaction: &Transaction<'_>, file_row: i64) -> rusqlite::Result<()> {
    let displaced = transaction
        .prepare_cached(
            "SELECT id FROM attempts WHERE file_id = ?1 AND deciding = 1 \
             ORDER BY finished_at DESC, id DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![file_row, TESTS_KEPT], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(displaced) = displaced {
        transaction.prepare_cached("DELETE FROM tests WHERE attempt_id = ?1")?.execute([displaced])?;
        transaction.prepare_cached("DELETE FROM passes WHERE attempt_id = ?1")?.execute([displaced])?;
    }
    Ok(())
}

/// Newer attempts of a neighbour may have displaced the attempt already: then there is nothing to remember.
fn insert_pass(transaction: &Transaction<'_>, run_row: i64, pass: &NewPass) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO passes (attempt_id, inputs, versions) \
             SELECT id, ?3, ?4 FROM attempts WHERE run_id = ?1 AND number = ?2 AND deciding = 1",
        )?
        .execute(params![run_row, pass.attempt.0.cast_signed(), pass.inputs, pass.versions])?;
    Ok(())
}

/// Forgets runs, and with them files and projects, that nobody has run for [`DAYS_KEPT`].
fn forget_old_runs(transaction: &Transaction<'_>, now_unix_ms: i64) -> rusqlite::Result<()> {
    let oldest_kept = now_unix_ms.saturating_sub(i64::from(DAYS_KEPT) * DAY_MS);
    let forgotten = transaction.execute("DELETE FROM runs WHERE started_at < ?1", [oldest_kept])?;
    if forgotten > 0 {
        transaction.execute_batch(
            "DELETE FROM files WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.file_id = files.id);
             DELETE FROM projects WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.project_id = projects.id);",
        )?;
    }
    Ok(())
}

/// Whole microseconds, as the database stores durations.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
