//! A workspace on a host, made the same as a project step by step.
//!
//! 1. [`Workspace::open`] looks at it as its record says it was left.
//! 2. [`Workspace::compare`] hears which state the project is in. If that is the recorded one and nothing was changed in
//!    the workspace, there is nothing to do.
//! 3. Otherwise [`Workspace::compare_with`] is given the project's tree, and files are named whose contents it wants.
//! 4. [`Workspace::receive`] takes them, and after the last one the workspace is the project's copy.
//! 5. Whenever there is a doubt, or much to do, the answer is [`Answer::CopyWanted`]: rsync copies the project, and
//!    [`Workspace::copied`] is told what should have come of it.
//!
//! The record is deleted before anything is changed and written when everything is in place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::clock;
use crate::filter::{Filter, UnknownRule};
use crate::record::{Record, Stamp};
use crate::repair::{IncomingFile, Obstacle, Repair, as_copied, spoil};
use crate::survey::Survey;
use crate::tree::{DecodeError, Entry, Fingerprint, Kind, ProjectTree};

/// With more files to be sent than this, or more bytes in them, rsync is faster, and shows how far it is.
const MOST_FILES: usize = 1000;
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// A workspace that is being made the same as a project.
#[derive(Debug)]
pub struct Workspace {
    directory: PathBuf,
    /// Where its record is.
    memory: PathBuf,
    /// Where a file is until it is complete.
    scratch: PathBuf,
    record: Option<Record>,
    /// What was found, compared with the record's tree.
    survey: Option<Survey>,
    /// What is being done.
    work: Option<Work>,
}

/// A repair under way.
#[derive(Debug)]
struct Work {
    fingerprint: Fingerprint,
    tree: ProjectTree,
    repair: Repair,
    missing: BTreeSet<usize>,
    incoming: Option<(usize, IncomingFile)>,
    /// Files that changed while they were read.
    uncertain: Vec<usize>,
}

/// What has to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: the workspace is the project's copy.
    Same,
    /// Tell what the project holds.
    TreeWanted,
    /// Send the contents of these entries of its tree.
    FilesWanted(Vec<usize>),
    /// Copy it with rsync; why that is.
    CopyWanted(String),
}

/// Why a workspace can't be made the same without rsync.
#[derive(Debug, thiserror::Error)]
enum Doubt {
    #[error("nothing is remembered of the workspace")]
    NoRecord,
    #[error("the file system of the workspace is not one of those that are known to date every change")]
    FileSystem,
    #[error("much is to be copied")]
    Much,
    #[error("what was sent is not what was wanted")]
    Unwanted,
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    #[error(transparent)]
    Rule(#[from] UnknownRule),
    #[error("{0}")]
    Tree(#[from] DecodeError),
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// Whether a survey finds the same with a tree as with the recorded one: it looks at the same paths in the same order. So it
/// is where files were only changed.
fn is_surveyed_as(tree: &ProjectTree, record: Option<&Record>) -> bool {
    let is_same = |(one, other): (&Entry, &Entry)| {
        one.path == other.path && (one.kind == Kind::Directory) == (other.kind == Kind::Directory)
    };
    record.is_some_and(|record| {
        let (recorded, told) = (&record.tree.entries, &tree.entries);
        record.tree.rules == tree.rules
            && recorded.len() == told.len()
            && recorded.iter().zip(told).all(is_same)
    })
}

impl Workspace {
    /// Looks at the workspace in `directory`. What is remembered of it is in the file `memory`; while a file arrives, it is
    /// `scratch`. Both are on the file system of the workspace.
    pub fn open(directory: PathBuf, memory: PathBuf, scratch: PathBuf) -> Workspace {
        let record = Record::load(&memory);
        let look = |record: &Record| {
            let filter = Filter::parse(&record.tree.rules).ok()?;
            Survey::of(&directory, &record.tree, &filter).ok()
        };
        let survey = record.as_ref().and_then(look);
        Workspace { directory, memory, scratch, record, survey, work: None }
    }

    /// Compares with the state that the project is in.
    pub fn compare(&mut self, fingerprint: Fingerprint) -> Answer {
        if self.record.as_ref().is_some_and(|record| record.fingerprint != fingerprint) {
            return Answer::TreeWanted;
        }
        let answer = self.compare_with_record();
        self.or_copy(answer)
    }

    fn compare_with_record(&mut self) -> Result<Answer, Doubt> {
        let record = self.record.as_ref().ok_or(Doubt::NoRecord)?;
        let survey = match self.survey.take() {
            Some(survey) => survey,
            // What went wrong then goes wrong again, and says why.
            None => self.survey(&record.tree)?,
        };
        let repair = Repair::plan(&record.tree, survey, Some(record))?;
        if repair.is_of_attributes() {
            // Tests that leave files in a directory change its time.
            repair.finish_directories(&self.directory, &record.tree)?;
            return Ok(Answer::Same);
        }
        let (fingerprint, tree) = (record.fingerprint, record.tree.clone());
        self.begin(fingerprint, tree, repair)
    }

    /// Compares with the project's tree, as it was encoded.
    pub fn compare_with(&mut self, encoded: &[u8]) -> Answer {
        let answer = match ProjectTree::decode(encoded) {
            Ok(tree) => {
                self.suspect(&tree);
                self.compare_with_tree(Fingerprint::of(encoded), tree)
            }
            Err(error) => Err(error.into()),
        };
        self.or_copy(answer)
    }

    /// Notes which files can't be told by size and time from what the record says was copied, but may not be the same.
    fn suspect(&mut self, tree: &ProjectTree) {
        let Some(record) = &mut self.record else { return };
        for (entry, former) in tree.entries.iter().zip(tree.counterparts(&record.tree)) {
            if let (Some(former), Kind::File { .. }) = (former, &entry.kind)
                && (record.tree.entries[former].version != entry.version || !entry.version.is_certain())
            {
                record.stamps[former] = None;
            }
        }
    }

    /// Takes a piece of a file. After the last piece of the last one that is missing there is an answer. A file that
    /// changed while it was read is not `certain`.
    pub fn receive(&mut self, entry: usize, piece: &[u8], last: bool, certain: bool) -> Option<Answer> {
        match self.take(entry, piece, last, certain) {
            Ok(false) => None,
            Ok(true) => {
                let finished = self.finish();
                Some(self.or_copy(finished))
            }
            Err(doubt) => Some(self.or_copy(Err(doubt))),
        }
    }

    /// Remembers what rsync left, which should be the tree.
    ///
    /// # Errors
    ///
    /// When nothing can be remembered: rsync will be needed the next time as well.
    pub fn copied(&mut self, encoded: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let tree = ProjectTree::decode(encoded)?;
        if !clock::is_trusted(&self.directory)? {
            return Ok(());
        }
        clock::wait_for_tick();
        let now = clock::now();
        let survey = Survey::of(&self.directory, &tree, &Filter::parse(&tree.rules)?)?;
        let as_left = |(entry, stamp): (&Entry, &Option<Stamp>)| {
            let stamp = as_copied(entry, (*stamp)?, now)?;
            match &entry.kind {
                Kind::Link { target } => {
                    let leads_to = fs::read_link(entry.below(&self.directory)).ok()?;
                    (leads_to.as_os_str().as_bytes() == target).then_some(stamp)
                }
                Kind::File { .. } | Kind::Directory => Some(stamp),
            }
        };
        let stamps = tree.entries.iter().zip(&survey.stamps).map(as_left).collect();
        let fingerprint = Fingerprint::of(encoded);
        Ok(Record { fingerprint, tree, stamps }.store(&self.memory)?)
    }

    fn compare_with_tree(&mut self, fingerprint: Fingerprint, tree: ProjectTree) -> Result<Answer, Doubt> {
        let survey = match self.survey.take_if(|_| is_surveyed_as(&tree, self.record.as_ref())) {
            Some(survey) => survey,
            None => self.survey(&tree)?,
        };
        let repair = Repair::plan(&tree, survey, self.record.as_ref())?;
        self.begin(fingerprint, tree, repair)
    }

    fn survey(&self, tree: &ProjectTree) -> Result<Survey, Doubt> {
        if !clock::is_trusted(&self.directory)? {
            return Err(Doubt::FileSystem);
        }
        Ok(Survey::of(&self.directory, tree, &Filter::parse(&tree.rules)?)?)
    }

    /// Does what can be done at once, and says what is missing for the rest.
    fn begin(
        &mut self,
        fingerprint: Fingerprint,
        tree: ProjectTree,
        repair: Repair,
    ) -> Result<Answer, Doubt> {
        let size = |index: &usize| match tree.entries[*index].kind {
            Kind::File { size } => size,
            Kind::Directory | Kind::Link { .. } => 0,
        };
        let bytes: u64 = repair.files.iter().map(size).sum();
        if repair.files.len() > MOST_FILES || bytes > MOST_BYTES {
            return Err(Doubt::Much);
        }
        Record::forget(&self.memory)?;
        repair.begin(&self.directory, &tree, &self.scratch)?;
        let files = repair.files.clone();
        let missing = files.iter().copied().collect();
        self.work = Some(Work { fingerprint, tree, repair, missing, incoming: None, uncertain: Vec::new() });
        if files.is_empty() { self.finish() } else { Ok(Answer::FilesWanted(files)) }
    }

    /// Takes a piece of a file. Says whether it was the last that was missing.
    fn take(&mut self, index: usize, piece: &[u8], last: bool, certain: bool) -> Result<bool, Doubt> {
        let work = self.work.as_mut().ok_or(Doubt::Unwanted)?;
        let mut file = match work.incoming.take() {
            Some((at_work, file)) if at_work == index => file,
            None if work.missing.contains(&index) => IncomingFile::create(&self.scratch)?,
            Some(_) | None => return Err(Doubt::Unwanted),
        };
        file.write(piece)?;
        if !last {
            work.incoming = Some((index, file));
            return Ok(false);
        }
        file.put(&self.directory, &work.tree.entries[index])?;
        work.missing.remove(&index);
        if !certain {
            work.uncertain.push(index);
        }
        Ok(work.missing.is_empty())
    }

    fn finish(&mut self) -> Result<Answer, Doubt> {
        let Work { fingerprint, tree, repair, uncertain, .. } = self.work.take().ok_or(Doubt::Unwanted)?;
        let former = self.record.as_ref().ok_or(Doubt::NoRecord)?;
        let counterparts = tree.counterparts(&former.tree);
        let mut stamps: Vec<_> = counterparts.iter().map(|index| former.stamps[(*index)?]).collect();
        for (index, stamp) in repair.finish(&self.directory, &tree)? {
            stamps[index] = stamp;
        }
        for index in uncertain {
            stamps[index] = None;
        }
        // Without a record the next copy is rsync's; this one is complete.
        let _ = Record { fingerprint, tree, stamps }.store(&self.memory);
        Ok(Answer::Same)
    }

    /// Leaves the rest to rsync where there is a doubt.
    fn or_copy(&mut self, answer: Result<Answer, Doubt>) -> Answer {
        answer.unwrap_or_else(|doubt| match self.prepare_copy() {
            Ok(()) => Answer::CopyWanted(doubt.to_string()),
            Err(error) => Answer::CopyWanted(format!("{doubt}; {error}")),
        })
    }

    /// Forgets what is remembered, and makes rsync see what its quick check would not: files that were changed and given
    /// their size and time back.
    fn prepare_copy(&mut self) -> io::Result<()> {
        self.work = None;
        Record::forget(&self.memory)?;
        let Some(record) = &self.record else { return Ok(()) };
        for (entry, stamp) in record.tree.entries.iter().zip(&record.stamps) {
            if !matches!(entry.kind, Kind::File { .. }) {
                continue;
            }
            let path = entry.below(&self.directory);
            let found = rustix::fs::lstat(&path).map(|stat| Stamp::of(&stat));
            if found.is_ok_and(|found| found.is_file() && Some(found) != *stamp) {
                spoil(&path)?;
            }
        }
        Ok(())
    }
}
