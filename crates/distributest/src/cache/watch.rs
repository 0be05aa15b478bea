//! Notes during a run which files passed as one would wish, and tells at its end whose passes may stand for later runs.

use std::collections::HashMap;

use distributest_core::identity::{AttemptId, FileId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, HostChange, RunEvent};
use distributest_history::NewPass;
use distributest_report::format;

use super::{ResultCache, unusable};

/// Watches the passes of a run.
pub struct PassWatch {
    cache: ResultCache,
    /// What the last worker of a framework on a runner said of its versions.
    workers: HashMap<(RunnerId, String), Option<String>>,
    /// In the order of the plan. Files with higher ids are nobody's concern here.
    files: Vec<Account>,
}

/// What is known of a file.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Attempts that began with it.
    begun: u32,
    /// What the worker of the last of them said of its versions.
    versions: Option<String>,
    /// The attempt that ended with a pass and left nothing running.
    passed: Option<AttemptId>,
    /// An attempt ended in another way.
    is_spoiled: bool,
    /// The attempt that decided it as passed, with none before it that failed.
    decided_by: Option<AttemptId>,
}

impl PassWatch {
    /// Watches a run whose files depend on what `cache` has looked at.
    pub fn new(cache: ResultCache) -> PassWatch {
        let files = vec![Account::default(); cache.files.len()];
        PassWatch { cache, workers: HashMap::new(), files }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::WorkerPrepared { runner, framework, failure, versions, .. } => {
                let said = versions.clone().filter(|_| failure.is_none());
                self.workers.insert((*runner, framework.clone()), said);
            }
            RunEvent::HostChanged { host, change: HostChange::Away(_) } => {
                self.workers.retain(|(runner, _), _| runner.host != *host);
            }
            // What a worker does at its end is part of what its files were run for.
            RunEvent::WorkerEnded { framework, failure: Some(_), .. } => self.spoil(framework),
            RunEvent::AttemptStarted { file, runner, .. } => self.attempt_started(*file, *runner),
            RunEvent::AttemptFinished(report) => self.attempt_finished(report),
            RunEvent::FileVerdict {
                file,
                verdict: Verdict::Ran(Outcome::Passed),
                attempt,
                failed_before,
            } => {
                if let Some(account) = self.files.get_mut(file.0 as usize) {
                    account.decided_by = attempt.filter(|_| failed_before.is_empty());
                }
            }
            _ => {}
        }
    }

    /// No pass of a framework is to stand for a later run.
    fn spoil(&mut self, framework: &str) {
        for (account, file) in self.files.iter_mut().zip(&self.cache.files) {
            account.is_spoiled |= file.framework == framework;
        }
    }

    fn attempt_started(&mut self, file: FileId, runner: RunnerId) {
        let Some(account) = self.files.get_mut(file.0 as usize) else { return };
        let framework = self.cache.files[file.0 as usize].framework.clone();
        account.begun += 1;
        account.versions = self.workers.get(&(runner, framework)).cloned().flatten();
    }

    fn attempt_finished(&mut self, report: &AttemptReport) {
        let Some(account) = self.files.get_mut(report.file.0 as usize) else { return };
        if report.result == AttemptResult::Outcome(Outcome::Passed) && report.leaked.is_empty() {
            account.passed = Some(report.attempt);
        } else {
            account.is_spoiled = true;
        }
    }

    /// Ends with the run: the passes that may stand for later ones, and what people should know about the others.
    pub fn finish(&self) -> (Vec<NewPass>, Vec<String>) {
        let (keys, changes) = self.cache.keys_after();
        let (mut passes, mut changed, mut silent) = (Vec::new(), 0, 0);
        for ((account, before), now) in self.files.iter().zip(&self.cache.keys).zip(keys) {
            let (Some(attempt), Some(_)) = (account.flawless_attempt(), before) else { continue };
            match (now, &account.versions) {
                (Some(inputs), Some(versions)) => {
                    passes.push(NewPass { attempt, inputs, versions: versions.clone() });
                }
                (_, None) => silent += 1,
                (None, _) => changed += 1,
            }
        }
        (passes, warnings(changed, &changes, silent))
    }
}

impl Account {
    /// The one attempt at the file, if it passed without any flaw.
    fn flawless_attempt(&self) -> Option<AttemptId> {
        let is_only = self.begun == 1 && !self.is_spoiled && self.passed == self.decided_by;
        self.passed.filter(|_| is_only)
    }
}

fn warnings(changed: u64, changes: &[String], silent: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    if changed > 0 {
        let what = match changes {
            [] => "the project can't be looked at any more".to_owned(),
            [path] => format!("{} was changed", format::display_path(path)),
            [path, others @ ..] => {
                let others = format::count(others.len() as u64, "other");
                format!("{} and {others} were changed", format::display_path(path))
            }
        };
        let files = format::count(changed, "file");
        warnings.push(format!(
            "{files} that passed will be run again next time, because {what} during the run; if tests did that, have git \
             ignore it, or declare what files depend on below [cache_inputs]"
        ));
    }
    if silent > 0 {
        let reason = match silent {
            1 => "its worker does not say the versions of framework and interpreter",
            _ => "their workers don't say the versions of framework and interpreter",
        };
        warnings.push(unusable(silent, reason));
    }
    warnings
}
