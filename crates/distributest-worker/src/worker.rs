//! The worker's life: makes itself ready, then runs one file after another until nothing more is wanted.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::iter;

use distributest_process::take_control_socket;

use crate::kind::{self, Unable};
use crate::link::{Link, Stop};
use crate::messages::{Message, Order};

/// The version of the worker protocol spoken here.
const PROTOCOL: u32 = 1;

/// Exit status of a worker that was stopped, or that can't work.
const STOPPED_STATUS: u8 = 1;

/// Exit status of one that was started by hand (`EX_USAGE`).
const USAGE_STATUS: u8 = 64;

/// Is a worker: `words` are its kind and what that takes. Returns the exit status of the process.
///
/// It expects what an agent gives a worker (`proto/worker.md`). Call it before there are threads.
pub fn main(words: &[OsString]) -> u8 {
    // It was started as /proc/self/exe, which says nothing to somebody who looks at a list of processes.
    let _ = std::fs::write("/proc/self/comm", "test-worker");
    let link = take_control_socket().and_then(Link::new);
    let mut link = match link {
        Ok(link) => link,
        Err(error) => {
            complain("failed to take the control socket; this command is run by the agent itself", &error);
            return USAGE_STATUS;
        }
    };
    match work(words, &mut link) {
        Ok(()) => 0,
        // Both are what the agent wanted, or can't hear any more.
        Err(Stop::Terminated | Stop::AgentGone) => STOPPED_STATUS,
        Err(stop) => {
            complain("the worker ends", &stop);
            STOPPED_STATUS
        }
    }
}

fn work(words: &[OsString], link: &mut Link) -> Result<(), Stop> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (name, arguments) = words.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest));
    let mut kind = match kind::create(name, arguments) {
        Ok(kind) => kind,
        Err(Unable { message, hint }) => {
            return link.send(&Message::Unable { message: &message, hint: &hint });
        }
    };
    if let Err(Unable { message, hint }) = kind.prepare(link)? {
        return link.send(&Message::Unable { message: &message, hint: &hint });
    }
    let (framework, version, runtime) = (kind.framework(), kind.version(), kind.runtime());
    link.send(&Message::Ready { protocol: PROTOCOL, framework, version, runtime })?;
    while let Order::Run(order) = link.next_order()? {
        // What was used to make ready is no file's.
        link.take_spent();
        let finished = kind.run(&order, link)?;
        let spent = link.take_spent();
        link.send(&Message::finished(&finished, &spent))?;
    }
    Ok(())
}

/// Says what went wrong where the agent's log has it.
fn complain(what: &str, error: &dyn std::error::Error) {
    let causes = iter::successors(Some(error), |error| error.source());
    let chain: String = causes.map(|cause| format!(": {cause}")).collect();
    let _ = writeln!(io::stderr(), "{what}{chain}");
}
