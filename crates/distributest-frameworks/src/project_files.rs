//! A project's files as detection looks at them: walked once, whichever frameworks ask.

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::rules::is_vendored;
use crate::walk;

/// The longest part of a file that detection reads.
const LONGEST_LOOK: u64 = 256 * 1024;

/// The files of a project, without those of its dependencies and without what git ignores.
pub(crate) struct ProjectFiles<'a> {
    directory: &'a Path,
    paths: OnceCell<Vec<String>>,
}

impl<'a> ProjectFiles<'a> {
    /// Nothing is read yet.
    pub(crate) fn of(directory: &'a Path) -> ProjectFiles<'a> {
        ProjectFiles { directory, paths: OnceCell::new() }
    }

    /// The project's directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory
    }

    /// The first of these files, relative to the project, that exists.
    pub(crate) fn existing(&self, names: &[&str]) -> Option<String> {
        names.iter().find(|name| self.directory.join(name).is_file()).map(ToString::to_string)
    }

    /// The beginning of a file, what is not UTF-8 replaced; `None` where there is none that can be read.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let path = self.directory.join(name);
        // A directory opens, but does not read.
        File::open(path).ok()?.take(LONGEST_LOOK).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every file with a name in UTF-8, ordered by path. What can't be walked is left out: discovery reports it.
    pub(crate) fn paths(&self) -> &[String] {
        self.paths.get_or_init(|| {
            let project = self.directory.to_owned();
            let enters = move |directory: &Path| {
                let name = directory.file_name().unwrap_or_default().to_string_lossy();
                !name.starts_with('.') && !is_vendored(&project, directory)
            };
            let files = walk::files(self.directory, Path::new(""), enters).unwrap_or_default();
            let mut paths: Vec<String> =
                files.iter().filter_map(|path| path.to_str().map(str::to_owned)).collect();
            paths.sort();
            paths
        })
    }

    /// The first file, by path, that is one.
    pub(crate) fn first(&self, is_one: impl Fn(&str) -> bool) -> Option<String> {
        self.paths().iter().find(|path| is_one(path)).cloned()
    }
}
