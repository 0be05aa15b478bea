//! SQLite history of runs, attempts and tests.
