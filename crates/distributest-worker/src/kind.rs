//! What kinds of workers there are.

use crate::bats::Bats;
use crate::cargo::Cargo;
use crate::go::Go;
use crate::junit::Junit;
use crate::link::{Link, Stop};
use crate::messages::{Finished, RunOrder};
use crate::tap::Tap;

/// The kinds that run a tool's packages or binaries, whose paths may name no file.
pub const KINDS_OF_UNITS: [&str; 2] = ["go", "cargo"];

/// One framework as this worker runs it.
pub(crate) trait Kind {
    /// The framework's name.
    fn framework(&self) -> &str;

    /// The framework's version as it says it; empty where it has none.
    fn version(&self) -> &str;

    /// What runs the tests besides: the interpreter or compiler, and for what kind of machine. Empty where nobody can tell, as
    /// of programs in any language.
    fn runtime(&self) -> &str {
        ""
    }

    /// Finds what it needs and makes ready what can be made ready before the first file.
    fn prepare(&mut self, _link: &mut Link) -> Result<Result<(), Unable>, Stop> {
        Ok(Ok(()))
    }

    /// Runs a file and reports each of its tests over the link as it ends. Whatever happens to the file is its
    /// outcome; an error only says that the worker itself has to end.
    fn run(&mut self, order: &RunOrder, link: &mut Link) -> Result<Finished, Stop>;
}

/// Why a worker can't work here.
#[derive(Debug)]
pub(crate) struct Unable {
    /// What is wrong: what was looked for, and where.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl Unable {
    /// There is no directory for what the workers of a run share.
    pub(crate) fn no_directory(error: std::io::Error) -> Unable {
        let place = std::env::temp_dir();
        Unable {
            message: format!("failed to make a directory in {}: {error}", place.display()),
            hint: "set TMPDIR to a directory that can be written to".to_owned(),
        }
    }
}

/// Makes a worker of the kind of this name, from what follows the name.
pub(crate) fn create(name: &str, arguments: &[String]) -> Result<Box<dyn Kind>, Unable> {
    match name {
        "bats" => Ok(Box::new(Bats::new(arguments))),
        "go" => Ok(Box::new(Go::new(arguments)?)),
        "cargo" => Ok(Box::new(Cargo::new(arguments)?)),
        "junit" => Ok(Box::new(Junit::new(arguments)?)),
        "tap" => Ok(Box::new(Tap::new(arguments)?)),
        _ => Err(Unable {
            message: format!("this agent has no worker of the kind {name:?}"),
            hint: "the coordinator is newer than the agent: install the same version on this host".to_owned(),
        }),
    }
}
