//! Units that are no files: Go packages, cargo test targets. What is selected of them.

use std::path::{Path, PathBuf};

use crate::discover::{Discovered, DiscoveredFile, Selection, path_pattern};
use crate::error::DiscoverError;
use crate::glob::Pattern;

/// What a path on the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The unit of this path.
    Unit(PathBuf),
    /// Every unit at or below it.
    Below(PathBuf),
}

impl Asked {
    fn takes(&self, unit: &Path) -> bool {
        match self {
            Asked::Unit(path) => unit == path,
            Asked::Below(path) => unit.starts_with(path),
        }
    }
}

/// What is selected of a project's units. `asked` says for each path on the command line, in order, what it stands for.
pub(crate) fn select(
    mut units: Vec<DiscoveredFile>,
    selection: &Selection,
    asked: &[Asked],
) -> Result<Discovered, DiscoverError> {
    let globs = |globs: &[String]| globs.iter().map(|glob| path_pattern(glob)).collect::<Result<Vec<_>, _>>();
    let (files, exclude) = (globs(&selection.files)?, globs(&selection.exclude)?);
    let matches = |unit: &DiscoveredFile, patterns: &[Pattern]| {
        let path = Path::new(&unit.path);
        path.ancestors().any(|ancestor| patterns.iter().any(|pattern| pattern.matches(ancestor)))
    };
    units.retain(|unit| !matches(unit, &exclude) && (files.is_empty() || matches(unit, &files)));
    let mut unmatched = Vec::new();
    if asked.is_empty() {
        let leads_nowhere =
            |pattern: &&Pattern| !units.iter().any(|unit| matches(unit, std::slice::from_ref(*pattern)));
        unmatched.extend(files.iter().filter(leads_nowhere).map(|pattern| pattern.text.clone()));
    } else {
        let takes = |asked: &Asked, unit: &DiscoveredFile| asked.takes(Path::new(&unit.path));
        let given = selection.only.iter().zip(asked);
        let leads_nowhere = given.filter(|(_, asked)| !units.iter().any(|unit| takes(asked, unit)));
        unmatched.extend(leads_nowhere.map(|(given, _)| given.clone()));
        units.retain(|unit| asked.iter().any(|asked| takes(asked, unit)));
    }
    units.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(Discovered { files: units, unusable: Vec::new(), unmatched })
}
