//! Any run, broken off at any byte of its journal or with any byte of it damaged: what is continued has exactly one verdict
//! for each file, and none that the run had not found out.

use std::collections::HashMap;
use std::fs;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::ledger::Ledger;
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, RunEvent};
use distributest_core::test_result::{TestResult, TestStatus};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::support::{Place, begun, host_spec, report};
use super::*;

const FILES: usize = 6;

/// What befalls a file in a run.
#[derive(Clone, Debug)]
struct Fate {
    attempts: Vec<(AttemptResult, Vec<TestResult>)>,
    verdict: Verdict,
    /// The last attempt ends after the verdict.
    late: bool,
}

fn test_result() -> impl Strategy<Value = TestResult> {
    let text = "(?s).{0,12}";
    let parts = (text, select(&TestStatus::ALL[..]), text, proptest::option::of(text), any::<Option<u32>>());
    parts.prop_map(|(name, status, details, file, line)| TestResult {
        id: name.clone(),
        name,
        status,
        duration: Duration::from_nanos(1_234_567_891),
        message: details.clone(),
        details,
        file,
        line,
    })
}

fn fate() -> impl Strategy<Value = Fate> {
    let result = prop_oneof![
        3 => select(&Outcome::ALL[..]).prop_map(AttemptResult::Outcome),
        1 => Just(AttemptResult::Interrupted(Interruption::HostLost)),
    ];
    let attempt = (result, proptest::collection::vec(test_result(), 0..3));
    (proptest::collection::vec(attempt, 0..4), any::<bool>()).prop_map(|(attempts, late)| {
        let outcomes = attempts.iter().filter_map(|(result, _)| match result {
            AttemptResult::Outcome(outcome) => Some(*outcome),
            AttemptResult::Interrupted(_) => None,
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        let verdict = match outcomes.as_slice() {
            [.., Outcome::Passed] if outcomes.len() > 1 => Verdict::Flaky,
            [.., last] => Verdict::Ran(*last),
            [] => Verdict::NotRun(NotRunReason::Stopped),
        };
        Fate { attempts, verdict, late }
    })
}

impl Fate {
    /// The events of a file; attempts are numbered from ten times its number.
    fn events(&self, file: u32) -> Vec<RunEvent> {
        let mut events = Vec::new();
        let mut counted = Vec::new();
        for (attempt, (result, tests)) in (u64::from(file) * 10..).zip(&self.attempts) {
            let id = AttemptId(attempt);
            let runner = RunnerId { host: HostId(0), number: 1 };
            events.push(RunEvent::AttemptStarted { attempt: id, file: FileId(file), runner });
            let told = |test: &TestResult| RunEvent::TestFinished {
                attempt: id,
                file: FileId(file),
                test: test.clone(),
            };
            events.extend(tests.iter().map(told));
            let report = AttemptReport { result: *result, ..report(attempt, file, Outcome::Passed) };
            events.push(RunEvent::AttemptFinished(report));
            if matches!(result, AttemptResult::Outcome(_)) {
                counted.push(id);
            }
        }
        let (verdict, attempt, failed_before) = (self.verdict.clone(), counted.pop(), counted);
        let decided = RunEvent::FileVerdict { file: FileId(file), verdict, attempt, failed_before };
        events.insert(events.len().saturating_sub(usize::from(self.late)), decided);
        events
    }

    /// What the tests of all attempts with an outcome said.
    fn tests(&self) -> Vec<TestResult> {
        let with_outcome = |(result, tests): &(AttemptResult, Vec<TestResult>)| match result {
            AttemptResult::Outcome(_) => tests.clone(),
            AttemptResult::Interrupted(_) => Vec::new(),
        };
        self.attempts.iter().flat_map(with_outcome).collect()
    }

    /// How many tests count.
    fn deciding_tests(&self) -> usize {
        let outcomes = self.attempts.iter().rev();
        let mut outcomes = outcomes.filter(|(result, _)| matches!(result, AttemptResult::Outcome(_)));
        outcomes.next().map_or(0, |(_, tests)| tests.len())
    }
}

/// Lets a run go by whose files take turns, and returns its journal.
fn journal_of(place: &Place, fates: &[Fate], turns: &[Index]) -> Vec<u8> {
    let mut journal = place.begin(begun("one", 1));
    let mut queues: Vec<std::vec::IntoIter<RunEvent>> =
        (0..).zip(fates).map(|(file, fate)| fate.events(file).into_iter()).collect();
    for turn in turns {
        if let Some(event) = queues[turn.index(fates.len())].next() {
            journal.on_event(&event).unwrap();
        }
    }
    for event in queues.into_iter().flatten() {
        journal.on_event(&event).unwrap();
    }
    drop(journal);
    fs::read(place.path()).unwrap()
}

/// Continues the run in which the rest of the files pass, and compares what comes of it with the fates of those that are
/// not run again. Returns how many those are.
fn check_continued(place: &Place, fates: &[Fate]) -> usize {
    let (plan, _) = place.resume();
    let by_path: HashMap<String, &Fate> =
        (0..).zip(fates).map(|(number, fate): (u32, _)| (format!("tests/{number}"), fate)).collect();
    let hosts = [host_spec()];
    let started = plan.started_event(&hosts);
    let RunEvent::RunStarted { files, .. } = &started else { panic!("a run starts with its start") };
    assert_eq!(files.len(), FILES);
    let mut verdicts: Vec<Option<Verdict>> = vec![None; FILES];
    let mut ledger = Ledger::new(false);
    let resumed = plan.resumed_events(&hosts);
    let said = |file: u32| -> Vec<TestResult> {
        let tests = resumed.iter().filter_map(|event| match event {
            RunEvent::TestFinished { file: FileId(of), test, .. } if *of == file => Some(test.clone()),
            _ => None,
        });
        tests.collect()
    };
    let rest = (0..).take(plan.files.len());
    let rest: Vec<RunEvent> =
        rest.flat_map(|file| support::finishing(file, Verdict::Ran(Outcome::Passed))).collect();
    for event in std::iter::once(&started).chain(&resumed).chain(&rest) {
        if let RunEvent::FileVerdict { file, verdict, .. } = event {
            let before = verdicts[file.0 as usize].replace(verdict.clone());
            assert_eq!(before, None, "two verdicts for {file:?}");
        }
        ledger.record(Duration::ZERO, event);
    }
    let mut tests = 0;
    for (id, (file, verdict)) in (0..).zip(files.iter().zip(&verdicts)).skip(plan.files.len()) {
        let fate = by_path[&file.path];
        assert_eq!(said(id), fate.tests(), "{}", file.path);
        assert_eq!(verdict.as_ref(), Some(&fate.verdict), "{}", file.path);
        assert!(!matches!(fate.verdict, Verdict::NotRun(_)));
        tests += fate.deciding_tests() as u64;
    }
    assert!(verdicts.iter().all(Option::is_some));
    let summary = ledger.summary();
    assert_eq!((summary.files, summary.not_run), (FILES as u32, 0));
    assert_eq!(summary.tests.iter().sum::<u64>(), tests);
    FILES - plan.files.len()
}

fn run() -> impl Strategy<Value = (Vec<Fate>, Vec<Index>)> {
    (proptest::collection::vec(fate(), FILES), proptest::collection::vec(any::<Index>(), 0..60))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn all_that_was_found_out_is_there((fates, turns) in run()) {
        let place = Place::new(FILES);
        journal_of(&place, &fates, &turns);
        let ran = fates.iter().filter(|fate| !matches!(fate.verdict, Verdict::NotRun(_))).count();
        prop_assert_eq!(check_continued(&place, &fates), ran);
    }

    #[test]
    fn a_journal_may_end_anywhere((fates, turns) in run(), cuts in proptest::collection::vec(any::<Index>(), 8)) {
        let place = Place::new(FILES);
        let whole = journal_of(&place, &fates, &turns);
        let header = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0;
        let path = place.path();
        let mut lengths: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        lengths.sort_unstable();
        let mut finished = 0;
        for length in lengths {
            fs::write(&path, &whole[..length]).unwrap();
            if length < header {
                let unreadable = matches!(place.journals.take_up(), Err(TakeUpError::Unreadable { .. }));
                prop_assert!(unreadable);
            } else {
                let more = check_continued(&place, &fates);
                prop_assert!(more >= finished, "a longer journal knows more");
                finished = more;
            }
        }
    }

    #[test]
    fn a_damaged_line_counts_for_nothing(
        (fates, turns) in run(),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..20),
    ) {
        let place = Place::new(FILES);
        let mut bytes = journal_of(&place, &fates, &turns);
        let header = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
        let finished = check_continued(&place, &fates);
        for (place, byte) in damage {
            if header < bytes.len() {
                let at = header + place.index(bytes.len() - header);
                bytes[at] = byte;
            }
        }
        fs::write(place.path(), bytes).unwrap();
        prop_assert!(check_continued(&place, &fates) <= finished);
    }
}
