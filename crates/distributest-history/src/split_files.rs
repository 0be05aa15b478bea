//! Makes one attempt of the parts of a file.
//!
//! The row says what running the file as a whole would have taken: the tests of all parts, and the *setup*, which is what
//! comes before and after them, of one. It is that of the part with the least, for the others paid it beside it. Parts
//! that did not pass or fail leave nothing: their time says nothing about the file's. The file needs the memory of the part that
//! needed most; what processor time it would have taken in one piece nobody knows.

use std::collections::HashMap;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptResult, FilePlan};
use distributest_core::usage::Usage;

use crate::batch::{AttemptRow, TestRow};

/// The files that are run in parts.
#[derive(Debug, Default)]
pub(crate) struct SplitFiles {
    /// What each part belongs to, by its place in `files`, and its number.
    parts: HashMap<FileId, (usize, u32)>,
    files: Vec<SplitFile>,
    /// Attempts whose files have no verdict.
    attempts: HashMap<AttemptId, AttemptRow>,
}

#[derive(Debug)]
struct SplitFile {
    undecided: u32,
    /// The attempts that decided the parts, by their numbers. `None`: one of them is no good.
    parts: Option<Vec<(u32, AttemptRow, Vec<TestRow>)>>,
}

impl SplitFiles {
    /// Those of a run's files.
    pub(crate) fn new(files: &[FilePlan]) -> Self {
        let mut split = SplitFiles::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (id, plan) in (0..).map(FileId).zip(files) {
            let Some(part) = plan.part else { continue };
            let place = *places.entry(&plan.path).or_insert_with(|| {
                split.files.push(SplitFile { undecided: part.of, parts: Some(Vec::new()) });
                split.files.len() - 1
            });
            split.parts.insert(id, (place, part.number));
        }
        split
    }

    /// Whether this is a part of a file.
    pub(crate) fn has(&self, file: FileId) -> bool {
        self.parts.contains_key(&file)
    }

    /// An attempt at a part ended.
    pub(crate) fn attempt_finished(&mut self, row: AttemptRow) {
        self.attempts.insert(row.attempt, row);
    }

    /// A part has its verdict. With the last one of its file comes the file's row, and its tests in their order.
    pub(crate) fn decided(
        &mut self,
        file: FileId,
        verdict: &Verdict,
        attempt: Option<AttemptId>,
        tests: Vec<TestRow>,
    ) -> Option<(AttemptRow, Vec<TestRow>)> {
        let (place, number) = *self.parts.get(&file)?;
        let split = self.files.get_mut(place)?;
        let deciding = attempt.and_then(|attempt| self.attempts.remove(&attempt));
        let ran = matches!(verdict, Verdict::Ran(Outcome::Passed | Outcome::Failed) | Verdict::Flaky);
        match (deciding, &mut split.parts) {
            (Some(row), Some(parts)) if ran => parts.push((number, row, tests)),
            _ => split.parts = None,
        }
        split.undecided = split.undecided.saturating_sub(1);
        if split.undecided > 0 { None } else { merged(split.parts.take()?) }
    }
}

/// The row of a file, of those of its parts.
fn merged(mut parts: Vec<(u32, AttemptRow, Vec<TestRow>)>) -> Option<(AttemptRow, Vec<TestRow>)> {
    parts.sort_by_key(|(number, ..)| *number);
    let of_tests = |tests: &[TestRow]| tests.iter().map(|test| test.duration).sum::<Duration>();
    let setup = parts.iter().map(|(_, row, tests)| row.duration.saturating_sub(of_tests(tests))).min()?;
    let failed = parts.iter().any(|(_, row, _)| row.result == AttemptResult::Outcome(Outcome::Failed));
    let started = parts.iter().map(|(_, row, _)| row.started).min()?;
    let finished = parts.iter().map(|(_, row, _)| row.finished).max()?;
    let peak_memory = parts.iter().filter_map(|(_, row, _)| row.usage.peak_memory).max();
    let longest = (0..parts.len()).max_by_key(|index| parts[*index].1.duration)?;
    let mut all_tests = Vec::new();
    let mut rows = Vec::new();
    for (_, row, tests) in parts {
        all_tests.extend(tests);
        rows.push(row);
    }
    let duration = setup + of_tests(&all_tests);
    let outcome = if failed { Outcome::Failed } else { Outcome::Passed };
    let result = AttemptResult::Outcome(outcome);
    let usage = Usage { processor: None, peak_memory };
    let row = rows.swap_remove(longest);
    Some((AttemptRow { result, started, finished, duration, usage, ..row }, all_tests))
}
