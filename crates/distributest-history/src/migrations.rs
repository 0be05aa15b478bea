//! Brings a history file to the format this program knows.
//!
//! `PRAGMA user_version` is the number of scripts that have been applied. The list only ever grows at its end: a
//! script that was released is history itself, and a test holds its text.

use rusqlite::{Connection, TransactionBehavior};

/// The scripts, oldest first; script `n` takes the file from version `n` to `n + 1`.
const SCRIPTS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_deciding_attempts_by_file.sql"),
    include_str!("migrations/0003_passes.sql"),
    include_str!("migrations/0004_usage.sql"),
];

/// The format this program reads and writes.
pub(crate) const CURRENT_VERSION: i64 = SCRIPTS.len() as i64;

/// Why a file could not be brought to the current format.
#[derive(Debug)]
pub(crate) enum MigrationError {
    /// It has a format this program does not know yet.
    Newer {
        /// The file's version.
        found: i64,
    },
    /// SQLite refused.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrationError {
    fn from(error: rusqlite::Error) -> MigrationError {
        MigrationError::Sqlite(error)
    }
}

/// Applies the missing scripts in one transaction; a file that is up to date is only read.
pub(crate) fn apply(connection: &mut Connection) -> Result<(), MigrationError> {
    let found = version(connection)?;
    if found > CURRENT_VERSION {
        return Err(MigrationError::Newer { found });
    }
    if found == CURRENT_VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let missing = usize::try_from(found).map_or(SCRIPTS, |applied| &SCRIPTS[applied..]);
    for script in missing {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", CURRENT_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, 64 bits, of each script as it was released. Add a line for a new script; never change one.
    const RELEASED: &[u64] = &[
        8_557_333_747_446_158_463,
        16_373_357_537_504_909_399,
        16_565_869_364_945_308_431,
        533_118_478_175_982_436,
    ];

    fn fnv1a(text: &str) -> u64 {
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    #[test]
    fn released_scripts_never_change() {
        let hashes: Vec<u64> = SCRIPTS.iter().map(|script| fnv1a(script)).collect();
        assert_eq!(hashes, RELEASED, "a released script changed; write a new one instead");
    }

    #[test]
    fn applying_twice_is_applying_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        connection.execute("INSERT INTO projects (key, name) VALUES ('k', 'n')", []).unwrap();
        apply(&mut connection).unwrap();
        assert_eq!(version(&connection).unwrap(), CURRENT_VERSION);
        let projects: i64 =
            connection.query_row("SELECT count(*) FROM projects", [], |row| row.get(0)).unwrap();
        assert_eq!(projects, 1);
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", CURRENT_VERSION + 1).unwrap();
        let error = apply(&mut connection).unwrap_err();
        assert!(matches!(error, MigrationError::Newer { found } if found == CURRENT_VERSION + 1));
        assert_eq!(version(&connection).unwrap(), CURRENT_VERSION + 1);
    }
}
