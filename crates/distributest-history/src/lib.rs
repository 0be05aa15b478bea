//! Remembers runs, attempts and tests in one SQLite file, so that the next run can go slowest-first.
//!
//! # Theory of operation
//!
//! A run opens the file once ([`History::open`]), asks it what every file of the project took lately
//! ([`History::recent`]), and then gives it to a [`Recorder`], which is fed the run's events as a reporter is.
//! The history is an aid, never a condition: every way it can fail is a value ([`HistoryError`],
//! [`HistoryWarning`]) that the caller shows once before it goes on without.
//!
//! # Rules
//!
//! - Several coordinators use the file at once. It is in WAL mode, so readers and the one writer do not wait for
//!   each other; writers take turns in transactions of a few milliseconds. A recorder that finds the file locked
//!   keeps its rows and tries again a second later, so a busy neighbour delays neither the run nor loses a row.
//! - A coordinator that dies loses at most the rows of its last second and can't damage the file.
//! - A damaged file is moved aside (`history.sqlite.corrupt-1`, …) and a new one begun. Opening and moving are
//!   serialised by `history.sqlite.lock`, so that nobody moves away the new file of a neighbour.
//! - A file of a newer format is left alone.
//! - Paths are relative to the project. Nothing in the file names the directory of a project.
//!
//! # What is in the file
//!
//! Times of day are milliseconds since the Unix epoch, durations and offsets are microseconds.
//!
//! | table | one row is | columns |
//! | --- | --- | --- |
//! | `projects` | a project | `key` (git remote or path, hashed or not: the caller's choice), `name` for people |
//! | `hosts` | a host by its name in the configuration | `name` |
//! | `files` | a test file that was once attempted | `project_id`, `path`, `framework` |
//! | `runs` | a run | `identifier`, `version` of the program, `started_at`, `files` discovered; `wall`, `testing`, `lower_bound`, `exit_status` are null until it finished, for ever if it was killed |
//! | `attempts` | an attempt that ended | `run_id`, `number`, `file_id`, `host_id`, `runner`, `result` (the word of its outcome or interruption), `started` (offset into the run), `duration`, `predicted` (null: nothing was known), `finished_at`, `deciding` (1 if the file's verdict is its outcome) |
//! | `passes` | an attempt that may stand for a run with the same inputs ([`History::passes`]) | `attempt_id`, `inputs` (a hash of them all), `versions` of framework and interpreter |
//! | `tests` | a test of a deciding attempt, in order | `attempt_id`, `position`, `identifier`, `name` (null: the same as the identifier), `status`, `duration` |
//!
//! # What is kept
//!
//! A file that was run in parts has one attempt, as if it had been run as a whole: where its longest part ran, with the tests
//! of all of them.
//!
//! The newest [`ATTEMPTS_KEPT`] attempts of each file, and the tests and passes of the newest [`TESTS_KEPT`] deciding ones;
//! nothing of a run older than [`DAYS_KEPT`]. Counting per file rather than per run keeps a week of running one
//! file again and again from erasing what is known of all others. Each batch trims the files it wrote, so there is
//! never a big clean-up that others would have to wait for.
//!
//! # What is learnt from
//!
//! [`History::recent`] returns attempts that passed or failed, for those ran to their end. One that was broken,
//! crashed, timed out or interrupted stopped early or late for reasons of its own; taking its duration for the
//! file's would send a file that has just been repaired to the wrong place in the order.

mod batch;
mod migrations;
mod opening;
mod passes;
mod recorder;
mod split_files;
mod store;

pub use batch::{ATTEMPTS_KEPT, DAYS_KEPT, TESTS_KEPT};
pub use passes::{NewPass, RecordedPass};
pub use recorder::{Recorder, RunInfo};
pub use store::{History, HistoryError, HistoryWarning, RecordedAttempt, RecordedTest};
