//! Where bats is: in the project, the ways its manual names, or in `PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kind::Unable;
use crate::link::{Link, Stop};
use crate::program::Ending;
use crate::tools;

/// Where projects keep a bats of their own.
const PLACES: [&str; 6] = [
    "test/bats/bin/bats",
    "tests/bats/bin/bats",
    "test/libs/bats/bin/bats",
    "test/libs/bats-core/bin/bats",
    "vendor/bats-core/bin/bats",
    "node_modules/.bin/bats",
];

const HINT: &str = "install it in node_setup: apt-get install bats, npm install bats, or git submodule update --init \
                    where it is a submodule";

/// The bats of this project.
pub(super) fn find() -> Result<PathBuf, Unable> {
    let submodules = std::fs::read_to_string(".gitmodules").unwrap_or_default();
    let places = submodule_paths(&submodules).map(|path| format!("{path}/bin/bats"));
    let places: Vec<String> = places.chain(PLACES.map(str::to_owned)).collect();
    let here = places.iter().map(PathBuf::from).find(|place| tools::is_executable(place));
    here.or_else(|| tools::find("bats", &[])).ok_or_else(|| Unable {
        message: format!("bats is not there: looked for {}, and bats in PATH", places.join(", ")),
        hint: HINT.to_owned(),
    })
}

/// The directories of a `.gitmodules`.
fn submodule_paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (key, path) = line.split_once('=')?;
        (key.trim() == "path").then(|| path.trim())
    })
}

/// The version of a bats that can be used here.
pub(super) fn version(program: &Path, link: &mut Link) -> Result<Result<String, Unable>, Stop> {
    let mut command = Command::new(program);
    command.arg("--version");
    let answer = tools::ask(command, false, link)?;
    let said = match (&answer.ending, answer.text()) {
        (Ending::NotStarted(error), _) => error.to_string(),
        (Ending::Exited(_), said) if said.is_empty() => answer.messages.text(),
        (Ending::Exited(_), said) => said,
    };
    let version = said.strip_prefix("Bats ").unwrap_or_default();
    // Formatters came with 1.2.
    if parts(version) >= Some((1, 2)) {
        return Ok(Ok(version.to_owned()));
    }
    let said = said.lines().next().unwrap_or("nothing");
    let message = format!(
        "{} is not bats-core 1.2 or newer; asked for its version, it says: {said}",
        program.display()
    );
    Ok(Err(Unable { message, hint: HINT.to_owned() }))
}

/// What the bash that runs bats says of its version; empty when it says nothing.
pub(super) fn shell(link: &mut Link) -> Result<String, Stop> {
    let mut command = Command::new("bash");
    command.arg("--version");
    let answer = tools::ask(command, false, link)?;
    Ok(answer.text().lines().next().unwrap_or_default().to_owned())
}

fn parts(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parts("1.10.0") > parts("1.2.0"));
        assert_eq!(parts("0.4.0"), Some((0, 4)));
        assert!(parts("") < Some((1, 2)));
    }

    #[test]
    fn submodules_are_named_by_their_paths() {
        let text =
            "[submodule \"x\"]\n\tpath = test/test_helper/bats-support\n\turl = https://example.com/bats\n";
        assert_eq!(submodule_paths(text).collect::<Vec<_>>(), ["test/test_helper/bats-support"]);
    }
}
