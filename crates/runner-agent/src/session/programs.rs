//! Finds the program a worker is started with, among the candidates its framework names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::environment::Environment;

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// None of the candidates exists.
#[derive(Debug, thiserror::Error)]
#[error("none of these programs is there: {}", .candidates.join(", "))]
pub(crate) struct NoProgram {
    candidates: Vec<String>,
}

/// The first candidate that is an executable file.
///
/// With a slash a candidate is relative to `directory` or absolute; `$NAME/rest` is taken from the environment and
/// skipped when NAME is unset or empty; otherwise it is looked for in `PATH`.
pub(crate) fn find(
    candidates: &[String],
    directory: &Path,
    environment: &Environment,
) -> Result<PathBuf, NoProgram> {
    let found = candidates.iter().find_map(|candidate| locate(candidate, directory, environment));
    found.ok_or_else(|| NoProgram { candidates: candidates.to_vec() })
}

fn locate(candidate: &str, directory: &Path, environment: &Environment) -> Option<PathBuf> {
    let path = if let Some(variable) = candidate.strip_prefix('$') {
        let (name, rest) = variable.split_once('/')?;
        let value = environment.get(name).filter(|value| !value.is_empty())?;
        directory.join(value).join(rest)
    } else if candidate.contains('/') {
        directory.join(candidate)
    } else {
        let path = environment.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
        let mut places = std::env::split_paths(path).map(|place| directory.join(place).join(candidate));
        return places.find(|place| is_executable(place));
    };
    is_executable(&path).then_some(path)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_tried_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("venv/bin/python");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        let mut environment = Environment::default();
        environment.set("PATH", "/nonexistent:/bin");
        environment.set("EMPTY", "");
        let find = |environment: &Environment, candidates: &[&str]| {
            let candidates: Vec<_> = candidates.iter().map(|candidate| (*candidate).to_owned()).collect();
            super::find(&candidates, directory.path(), environment).ok()
        };

        assert_eq!(find(&environment, &["venv/bin/python", "sh"]), Some("/bin/sh".into()), "not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&environment, &["venv/bin/python", "sh"]), Some(program.clone()));
        let candidates = ["$VENV/bin/python", "$EMPTY/bin/sh", "venv", "no-such-program", "/bin/sh"];
        assert_eq!(find(&environment, &candidates), Some("/bin/sh".into()));
        environment.set("VENV", directory.path().join("venv"));
        assert_eq!(find(&environment, &candidates), Some(program));
        assert_eq!(find(&environment, &["no-such-program"]), None);
    }
}
