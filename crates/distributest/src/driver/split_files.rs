//! Holds that the parts of a file make up the file.
//!
//! Each part runs the tests that are assigned to it, of those its worker finds in the file. That is all of them, each once,
//! only if every part finds the same ones. Each therefore says, by a digest, what it has found; a passed part that
//! says something else than another one, or nothing, has failed.

use std::collections::HashMap;

use distributest_core::outcome::Outcome;
use distributest_core::run_event::AttemptResult;

use crate::plan::PlannedFile;

/// What the parts of each file have said so far.
#[derive(Debug, Default)]
pub(super) struct SplitFiles {
    /// The digest of the tests in a file, by its path.
    collected: HashMap<String, String>,
}

impl SplitFiles {
    /// Why a file's result can't be what its worker says; `None` where nothing is wrong with that.
    pub(super) fn objection(
        &mut self,
        planned: &PlannedFile,
        result: AttemptResult,
        collected: String,
    ) -> Option<String> {
        planned.part.as_ref()?;
        let passed = result == AttemptResult::Outcome(Outcome::Passed);
        if collected.is_empty() {
            return passed
                .then(|| "its worker does not run parts of files: leave it out of `split`".to_owned());
        }
        let first = self.collected.entry(planned.path.clone()).or_insert_with(|| collected.clone());
        (passed && *first != collected).then(|| {
            "its tests have other names in each process, so it can't be split: leave it out of `split`"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use distributest_core::identity::LaunchId;

    use super::*;
    use crate::plan::PlannedPart;

    fn part(number: u32) -> PlannedFile {
        let part = PlannedPart { number, of: 3, tests: Arc::default() };
        PlannedFile {
            path: "a.py".to_owned(),
            framework: "pytest".to_owned(),
            launch: LaunchId(0),
            tests: Vec::new(),
            retries: 0,
            predicted: None,
            memory: None,
            part: Some(Arc::new(part)),
        }
    }

    #[test]
    fn parts_that_have_seen_other_tests_do_not_pass() {
        let mut files = SplitFiles::default();
        let mut objection = |number, outcome, collected: &str| {
            files.objection(&part(number), AttemptResult::Outcome(outcome), collected.to_owned())
        };
        assert_eq!(objection(3, Outcome::Passed, "one"), None);
        assert_eq!(objection(1, Outcome::Passed, "one"), None);
        assert!(objection(2, Outcome::Passed, "other").is_some_and(|text| text.contains("other names")));
        assert_eq!(objection(2, Outcome::Failed, "other"), None, "it has its own account of that");
        assert!(objection(2, Outcome::Passed, "").is_some_and(|text| text.contains("does not run parts")));
        assert_eq!(objection(2, Outcome::Crashed, ""), None);
    }
}
