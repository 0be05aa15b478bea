//! Finds the tools that are not part of a project and asks them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::excerpt::Excerpt;
use crate::link::{Link, Stop};
use crate::program::{self, Ending, Piped, Reader, Stream, pass_on};

/// How much of each end of a tool's messages is kept.
const MESSAGES_BYTES: usize = 256 * 1024;

/// How much of its output is; more than any tool that is asked here has to say.
const OUTPUT_BYTES: usize = 256 * 1024 * 1024;

/// What a tool answered.
pub(crate) struct Answer {
    pub(crate) ending: Ending,
    /// What it wrote to standard output.
    pub(crate) output: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) messages: Excerpt,
}

impl Answer {
    /// Whether it ended well.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self.ending, Ending::Exited(exit) if exit.is_success())
    }

    /// Its standard output as text, without white space around it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).trim().to_owned()
    }
}

/// Runs a tool and keeps what it writes. With `passes_on`, its messages reach the log as well.
pub(crate) fn ask(command: Command, passes_on: bool, link: &mut Link) -> Result<Answer, Stop> {
    let mut listener = Listener { output: Vec::new(), messages: Excerpt::new(MESSAGES_BYTES), passes_on };
    let ending = program::run(command, Piped::Both, link, &mut listener)?;
    Ok(Answer { ending, output: listener.output, messages: listener.messages })
}

struct Listener {
    output: Vec<u8>,
    messages: Excerpt,
    passes_on: bool,
}

impl Reader for Listener {
    fn read(&mut self, stream: Stream, bytes: &[u8], _: &mut Link) -> Result<(), Stop> {
        match stream {
            Stream::Stdout if self.output.len() + bytes.len() > OUTPUT_BYTES => {}
            Stream::Stdout => self.output.extend_from_slice(bytes),
            Stream::Stderr => self.messages.push(bytes),
        }
        if self.passes_on && stream == Stream::Stderr { pass_on(stream, bytes) } else { Ok(()) }
    }
}

/// The program of this name in `PATH`, or else the first of `elsewhere` that is one.
pub(crate) fn find(name: &str, elsewhere: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = std::env::split_paths(&path).map(|place| place.join(name)).collect();
    in_path.iter().chain(elsewhere).find(|candidate| is_executable(candidate)).cloned()
}

/// A path below the directory that a variable of the environment names; `None` where it names none.
pub(crate) fn below(variable: impl AsRef<OsStr>, rest: &str) -> Option<PathBuf> {
    let directory = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(Path::new(&directory).join(rest))
}

/// Whether a path is a program's.
pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
