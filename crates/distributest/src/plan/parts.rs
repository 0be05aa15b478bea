//! Splits the files of a plan that take longer than a runner's share of the whole, by what is known of their tests.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use distributest_core::run_event::FilePart;
use distributest_core::splitting::{self, Candidate, Part};
use distributest_frameworks::Framework;
use distributest_history::RecordedTest;
use distributest_protocol::wire;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{PlannedFile, RunPlan};

/// A part of a file that is split by its tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPart {
    /// From 1.
    pub number: u32,
    /// How many parts the file has.
    pub of: u32,
    /// The ids of the tests of each part. Tests that are in none, new ones, belong to the first.
    pub tests: Arc<Vec<Vec<String>>>,
}

impl PlannedPart {
    /// Which part it is.
    pub fn place(&self) -> FilePart {
        FilePart { number: self.number, of: self.of }
    }

    /// As an agent is told of it.
    pub fn to_wire(&self) -> wire::FilePart {
        match (self.number, self.tests.as_slice()) {
            (1, [_, others @ ..]) => wire::FilePart { only: Vec::new(), except: others.concat() },
            (number, parts) => {
                let only = parts.get(number as usize - 1).cloned().unwrap_or_default();
                wire::FilePart { only, except: Vec::new() }
            }
        }
    }
}

impl RunPlan {
    /// Splits files that match one of the globs and take too long for so many runners, and puts the parts where they
    /// belong in the order. `tests_of` says what is known of the tests of files, by path.
    pub fn split_files<Error>(
        &mut self,
        globs: &[String],
        runners: u32,
        tests_of: impl FnOnce(&[&str]) -> Result<HashMap<String, Vec<RecordedTest>>, Error>,
    ) -> Result<(), Error> {
        let work: Duration = self.files.iter().filter_map(|file| file.predicted).sum();
        let share = work / runners.max(1);
        let globs = matcher(globs);
        let is_candidate = |file: &&PlannedFile| {
            file.predicted.is_some_and(|predicted| predicted > share)
                && file.tests.is_empty()
                && globs.is_match(&file.path)
                && Framework::named(&file.framework).is_some_and(|framework| framework.splits_files())
        };
        let paths: Vec<&str> =
            self.files.iter().filter(is_candidate).map(|file| file.path.as_str()).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let known = tests_of(&paths)?;
        let candidates: Vec<Candidate> = self.files.iter().map(|file| candidate(file, &known)).collect();
        let parts = splitting::split(&candidates, runners);
        let files = std::mem::take(&mut self.files).into_iter().zip(parts);
        self.files = files.flat_map(|(file, parts)| in_parts(file, &parts, &known)).collect();
        self.files.sort_by_key(|file| Reverse(file.predicted));
        Ok(())
    }
}

fn matcher(globs: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    // Globs that are none were refused when the configuration was read.
    for glob in globs.iter().filter_map(|glob| GlobBuilder::new(glob).literal_separator(true).build().ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_default()
}

fn candidate(file: &PlannedFile, known: &HashMap<String, Vec<RecordedTest>>) -> Candidate {
    let predicted = file.predicted.unwrap_or_default();
    let tests = known.get(&file.path).map(Vec::as_slice).unwrap_or_default();
    let sum: Duration = tests.iter().map(|test| test.duration).sum();
    // They may have been recorded on a slow machine, or all of them may have been slow at the time.
    let scale = if sum > predicted { predicted.as_secs_f64() / sum.as_secs_f64() } else { 1.0 };
    Candidate { predicted, tests: tests.iter().map(|test| test.duration.mul_f64(scale)).collect() }
}

/// A file, or the parts of it.
fn in_parts(
    file: PlannedFile,
    parts: &[Part],
    known: &HashMap<String, Vec<RecordedTest>>,
) -> Vec<PlannedFile> {
    let Some(tests) = known.get(&file.path).filter(|_| !parts.is_empty()) else { return vec![file] };
    let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let ids_of = |part: &Part| {
        let tests = tests.iter().skip(part.first).take(part.tests);
        tests.map(|test| test.identifier.clone()).collect()
    };
    let tests: Arc<Vec<Vec<String>>> = Arc::new(parts.iter().map(ids_of).collect());
    let files = (1..).zip(parts).map(|(number, part)| PlannedFile {
        path: file.path.clone(),
        framework: file.framework.clone(),
        launch: file.launch,
        tests: Vec::new(),
        retries: file.retries,
        predicted: Some(part.predicted),
        // Any of them may be the one that the file needs it for.
        memory: file.memory,
        part: Some(Arc::new(PlannedPart { number, of, tests: Arc::clone(&tests) })),
    });
    files.collect()
}
