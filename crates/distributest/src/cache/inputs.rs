//! What test files depend on in the project: all of it, or what is declared and a little more.
//!
//! # Rules
//!
//! - A file that no declaration is about depends on everything that is copied to hosts.
//! - One that declarations are about depends on what all of those name, on itself, on what lies at the top of the project,
//!   where frameworks have their settings and lists of packages, and on `.distributest`.
//! - A link out of what is copied depends on the file it leads to. Where it leads to a directory, nobody knows what is in that.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use distributest_tree::contents::Hash;
use distributest_tree::tree::{Entry, Kind, ProjectTree};
use globset::{GlobBuilder, GlobMatcher};

use super::key::Naming;

/// What a run knows of an entry of the project.
#[derive(Clone, Debug)]
enum State {
    Known(Hash),
    /// All about it is known where all about the project is.
    PartOfAll(Hash),
    Unknown(String),
}

/// The project as it was at a moment.
pub(super) struct Look<'a> {
    tree: &'a ProjectTree,
    /// Of its entries.
    states: Vec<State>,
}

impl<'a> Look<'a> {
    /// Of a tree in `project`, with the hashes of its files.
    pub(super) fn new(project: &Path, tree: &'a ProjectTree, hashes: &[Option<Hash>]) -> Look<'a> {
        let project = fs::canonicalize(project).unwrap_or_else(|_| project.to_owned());
        let mut look = Look { tree, states: Vec::new() };
        let states =
            tree.entries.iter().zip(hashes).map(|(entry, hash)| look.state(&project, entry, *hash, hashes));
        look.states = states.collect();
        look
    }

    fn state(&self, project: &Path, entry: &Entry, hash: Option<Hash>, hashes: &[Option<Hash>]) -> State {
        let mut naming = Naming::default();
        naming.add(&entry.path).add(entry.mode.to_le_bytes());
        match (&entry.kind, hash) {
            (Kind::Directory, _) => State::Known(naming.add("directory").name_of()),
            (Kind::File { .. }, Some(hash)) => State::Known(naming.add("file").add(hash).name_of()),
            (Kind::File { .. }, None) => {
                State::Unknown(format!("{} can't be read, or was changed just now", shown(entry)))
            }
            (Kind::Link { target }, _) => {
                naming.add("link").add(target);
                self.state_of_link(project, entry, naming, hashes)
            }
        }
    }

    fn state_of_link(
        &self,
        project: &Path,
        entry: &Entry,
        mut naming: Naming,
        hashes: &[Option<Hash>],
    ) -> State {
        let link = entry.below(project);
        let Ok(metadata) = fs::metadata(&link) else {
            return State::Known(naming.add("leads nowhere").name_of());
        };
        let target = fs::canonicalize(&link).ok();
        let inside = target.as_deref().and_then(|target| target.strip_prefix(project).ok());
        let inside = inside.and_then(|path| self.position(path.as_os_str().as_encoded_bytes()));
        match inside.map(|index| (&self.tree.entries[index].kind, hashes[index])) {
            Some((Kind::File { .. }, Some(hash))) => State::Known(naming.add(hash).name_of()),
            Some(_) => State::PartOfAll(naming.add("leads into the project").name_of()),
            None if metadata.is_file() => {
                let identity = [
                    metadata.size().cast_signed(),
                    metadata.ino().cast_signed(),
                    metadata.mtime(),
                    metadata.ctime(),
                ];
                let parts = [metadata.mtime_nsec(), metadata.ctime_nsec()];
                State::Known(naming.add(format!("{identity:?} {parts:?}")).name_of())
            }
            None => {
                State::Unknown(format!("{} leads to a directory that is not copied to hosts", shown(entry)))
            }
        }
    }

    fn position(&self, path: &[u8]) -> Option<usize> {
        self.tree.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()
    }

    /// Names the states of entries, or says what is not known. `is_all`: they are all there are.
    fn name(&self, entries: impl Iterator<Item = usize>, is_all: bool) -> Result<Hash, String> {
        let mut naming = Naming::default();
        for index in entries {
            match &self.states[index] {
                State::Known(hash) => _ = naming.add(hash),
                State::PartOfAll(hash) if is_all => _ = naming.add(hash),
                State::PartOfAll(_) => {
                    return Err(format!("{} leads to something else", shown(&self.tree.entries[index])));
                }
                State::Unknown(reason) => return Err(reason.clone()),
            }
        }
        Ok(naming.name())
    }

    /// Whether a glob matches any entry.
    fn has(&self, glob: &GlobMatcher) -> bool {
        self.tree.entries.iter().any(|entry| glob.is_match(path_of(entry)))
    }

    /// The entry at the path of a test file, and those below it if that is a directory.
    fn at_or_below(&self, path: &str) -> Option<impl Iterator<Item = usize> + use<>> {
        let path = if path == "." { "" } else { path };
        let first = self.position(path.as_bytes())?;
        let beginning = if path.is_empty() { String::new() } else { format!("{path}/") };
        let entries = &self.tree.entries;
        let below = entries.partition_point(|entry| entry.path.as_slice() < beginning.as_bytes());
        let is_below = |entry: &&Entry| entry.path.starts_with(beginning.as_bytes());
        let count = match entries[first].kind {
            Kind::Directory => entries[below..].iter().take_while(is_below).count(),
            Kind::File { .. } | Kind::Link { .. } => 0,
        };
        Some(iter::once(first).chain(below..below + count))
    }
}

impl Naming {
    fn name_of(&mut self) -> Hash {
        std::mem::take(self).name()
    }
}

fn shown(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.path).into_owned()
}

fn path_of(entry: &Entry) -> &Path {
    Path::new(OsStr::from_bytes(&entry.path))
}

/// What `[cache_inputs]` says.
pub(super) struct Declarations(Vec<Declaration>);

struct Declaration {
    /// Which test files it is about.
    about: GlobMatcher,
    /// What they depend on.
    inputs: Vec<GlobMatcher>,
}

impl Declarations {
    pub(super) fn new(declared: &BTreeMap<String, Vec<String>>) -> Declarations {
        let declaration = |(about, inputs): (&String, &Vec<String>)| {
            let inputs = inputs.iter().map(|input| glob(input)).collect::<Option<_>>()?;
            Some(Declaration { about: glob(about)?, inputs })
        };
        Declarations(declared.iter().filter_map(declaration).collect())
    }

    /// Prepares to tell what files depend on at a moment.
    pub(super) fn resolve<'a>(&'a self, look: &'a Look<'a>) -> Inputs<'a> {
        Inputs { declarations: &self.0, look, named: HashMap::new() }
    }
}

/// The configuration has checked it.
fn glob(text: &str) -> Option<GlobMatcher> {
    Some(GlobBuilder::new(text).literal_separator(true).build().ok()?.compile_matcher())
}

/// What files depend on at a moment.
pub(super) struct Inputs<'a> {
    declarations: &'a [Declaration],
    look: &'a Look<'a>,
    /// What declarations say together, by their places.
    named: HashMap<Vec<usize>, Result<Hash, String>>,
}

impl Inputs<'_> {
    /// Names everything of the project that a test file depends on, or says what nobody knows of it.
    pub(super) fn of(&mut self, path: &str) -> Result<Hash, String> {
        let about = |index: &usize| self.declarations[*index].about.is_match(path);
        let about: Vec<usize> = (0..self.declarations.len()).filter(about).collect();
        let itself = self
            .look
            .at_or_below(path)
            .ok_or_else(|| format!("{path} is not among the files that are copied to hosts"))?;
        let (declarations, look) = (self.declarations, self.look);
        let declared = self.named.entry(about).or_insert_with_key(|about| name(declarations, look, about));
        let mut naming = Naming::default();
        naming.add(declared.clone()?).add(look.name(itself, false)?);
        Ok(naming.name())
    }
}

fn name(declarations: &[Declaration], look: &Look<'_>, about: &[usize]) -> Result<Hash, String> {
    let all = 0..look.tree.entries.len();
    if about.is_empty() {
        return look.name(all, true);
    }
    let globs: Vec<&GlobMatcher> = about.iter().flat_map(|index| &declarations[*index].inputs).collect();
    if let Some(nothing) = globs.iter().find(|glob| !look.has(glob)) {
        let glob = nothing.glob().glob();
        return Err(format!(
            "\"{glob}\" below [cache_inputs] matches none of the files that are copied to hosts"
        ));
    }
    let is_input = |index: &usize| {
        let entry = &look.tree.entries[*index];
        // A link there to a directory is no settings.
        let is_readable = match entry.kind {
            Kind::File { .. } => true,
            Kind::Link { .. } => matches!(look.states[*index], State::Known(_)),
            Kind::Directory => false,
        };
        let is_at_top = is_readable && !entry.path.contains(&b'/');
        let is_always = is_at_top || entry.path.starts_with(b".distributest/");
        is_always || globs.iter().any(|glob| glob.is_match(path_of(entry)))
    };
    look.name(all.filter(is_input), false)
}
