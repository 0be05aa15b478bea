//! A project with files, a state directory, and the events of runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use distributest_core::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, RunEvent};
use distributest_core::usage::Usage;
use distributest_protocol::wire;
use tempfile::TempDir;

use super::super::*;
use crate::plan::{HostSpeeds, PlannedFile, RunPlan};
use crate::project::Project;

/// Where a project and the journals of its runs are.
pub(super) struct Place {
    scratch: TempDir,
    pub(super) project: PathBuf,
    pub(super) journals: Journals,
    files: Vec<String>,
}

impl Place {
    /// A project with so many files.
    pub(super) fn new(files: usize) -> Place {
        let scratch = tempfile::tempdir().unwrap();
        let project = scratch.path().join("project");
        fs::create_dir_all(project.join("tests")).unwrap();
        let files: Vec<String> = (0..files).map(|number| format!("tests/{number}")).collect();
        for file in &files {
            fs::write(project.join(file), "true\n").unwrap();
        }
        let journals = Journals::of(scratch.path(), &Project::of(project.clone()));
        Place { scratch, project, journals, files }
    }

    pub(super) fn plan(&self) -> RunPlan {
        self.plan_of(&self.files.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(super) fn plan_of(&self, files: &[&str]) -> RunPlan {
        let file = |path: &&str| PlannedFile {
            path: (*path).to_owned(),
            framework: "command".to_owned(),
            launch: LaunchId(0),
            tests: Vec::new(),
            retries: 0,
            predicted: None,
            part: None,
            memory: None,
        };
        RunPlan {
            run: "run".to_owned(),
            project: Project::of(self.project.clone()),
            files: files.iter().map(file).collect(),
            unusable: Vec::new(),
            finished: None,
            launches: vec![wire::Launch { framework: "command".to_owned(), kind: None }],
            speeds: HostSpeeds::default(),
            passes: Vec::new(),
        }
    }

    /// Begins a journal of a run of all files, on one host.
    pub(super) fn begin(&self, begun: Begun) -> Journal {
        let plan = self.plan();
        let mut journal = self.journals.begin(begun, identify(&plan)).unwrap();
        let hosts = [host_spec()];
        journal.on_event(&plan.started_event(&hosts)).unwrap();
        journal
    }

    /// What is left of the plan after the last run, and what is not.
    pub(super) fn resume(&self) -> (RunPlan, Vec<String>) {
        let mut plan = self.plan();
        let identities = identify(&plan);
        let left = self.journals.take_up().unwrap().set_aside(&mut plan, identities, SystemTime::now());
        assert_eq!(left, identify(&plan));
        let verdicts = plan.resumed_events(&[host_spec()]).into_iter().filter_map(|event| match event {
            RunEvent::FileVerdict { file, verdict, .. } => Some((file, verdict)),
            _ => None,
        });
        let RunEvent::RunStarted { files, .. } = plan.started_event(&[host_spec()]) else { unreachable!() };
        let named =
            verdicts.map(|(file, verdict)| format!("{} {}", files[file.0 as usize].path, verdict.word()));
        let mut named: Vec<String> = named.collect();
        named.sort();
        (plan, named)
    }

    /// The last journal of the project.
    pub(super) fn path(&self) -> PathBuf {
        self.journals.paths().unwrap().pop().unwrap()
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// The runs with a journal, in their order, and the names of other files beside the journals.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.scratch.path().join("journals")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_by_key(|name| name.split_once('_').map(|(_, rest)| rest.to_owned()));
        let run = |name: String| match name.strip_suffix(".journal") {
            Some(name) => name.rsplit('_').next().unwrap().to_owned(),
            None => name,
        };
        names.into_iter().map(run).collect()
    }
}

pub(super) fn host_spec() -> crate::hosts::HostSpec {
    crate::hosts::HostSpec {
        id: HostId(0),
        name: "h1".to_owned(),
        place: crate::hosts::HostPlace::Local { snapshot: false },
        runners: Some(1),
    }
}

/// The beginning of a run at this millisecond.
pub(super) fn begun(run: &str, at: u64) -> Begun {
    Begun {
        run: run.to_owned(),
        at_unix_ms: at,
        process: 42,
        log: format!("/logs/{run}.log"),
        invocation: Invocation::default(),
    }
}

pub(super) fn report(attempt: u64, file: u32, outcome: Outcome) -> AttemptReport {
    AttemptReport {
        attempt: AttemptId(attempt),
        file: FileId(file),
        runner: RunnerId { host: HostId(0), number: 1 },
        result: AttemptResult::Outcome(outcome),
        duration: Duration::from_millis(20),
        usage: Usage::default(),
        message: String::new(),
        details: String::new(),
        leaked: Vec::new(),
        block: None,
    }
}

pub(super) fn verdict(file: u32, verdict: Verdict, attempt: Option<u64>) -> RunEvent {
    let attempt = attempt.map(AttemptId);
    RunEvent::FileVerdict { file: FileId(file), verdict, attempt, failed_before: Vec::new() }
}

/// The events with which a file is finished in one attempt, which has the file's number.
pub(super) fn finishing(file: u32, of: Verdict) -> [RunEvent; 2] {
    let Verdict::Ran(outcome) = of else { panic!("one attempt is not {of:?}") };
    [RunEvent::AttemptFinished(report(file.into(), file, outcome)), verdict(file, of, Some(file.into()))]
}

pub(super) fn finish_file(journal: &mut Journal, file: u32, verdict: Verdict) {
    for event in finishing(file, verdict) {
        journal.on_event(&event).unwrap();
    }
}
