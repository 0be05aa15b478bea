//! Describes to an agent how a framework's files are run.

use std::time::Duration;

/// How long a worker may take to load the framework and the project before it counts as failed.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// The same for one that builds the project first.
pub(crate) const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);

/// How much of a process test files share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// A fresh fork of a preloaded worker for each file: as good as a process of its own, without its start-up time.
    Fork,
    /// One process for all files of a runner: what one file leaves in memory, the next one finds.
    Shared,
    /// A fresh process for each file, for what does not survive a fork (threads started while the project loads).
    Process,
}

impl Isolation {
    /// Every isolation, safest and fastest first.
    pub const ALL: [Isolation; 3] = [Isolation::Fork, Isolation::Shared, Isolation::Process];

    /// The word in configuration and in `DISTRIBUTEST_ISOLATION`.
    pub fn word(self) -> &'static str {
        match self {
            Isolation::Fork => "fork",
            Isolation::Shared => "shared",
            Isolation::Process => "process",
        }
    }

    /// The isolation a word stands for; `None` for an unknown word.
    pub fn from_word(word: &str) -> Option<Isolation> {
        Isolation::ALL.into_iter().find(|isolation| isolation.word() == word)
    }
}

/// What the project wants different from a framework's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchOptions {
    /// `None`: the safest that is fast for the framework. Without effect where there is no choice.
    pub isolation: Option<Isolation>,
    /// Argument vector for the framework "command", where `{file}` stands for the file's path; `None`: the file itself
    /// is executed. Without effect for the others.
    pub command: Option<Vec<String>>,
    /// Glob of the JUnit-XML files that `command` writes, where `{results}` stands for a directory made for the
    /// attempt; `None`: its exit status says all.
    pub results: Option<String>,
    /// More arguments, for the framework (`-k`, `--tag`) or at the end of the command.
    pub arguments: Vec<String>,
}

/// How the files of one framework are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// By a worker, which stays.
    Worker(WorkerLaunch),
    /// By a worker that is part of the agent's own program.
    OwnWorker(OwnWorkerLaunch),
    /// By a process for each file, whose exit status decides.
    Command(CommandLaunch),
}

/// A program that speaks the worker protocol (`proto/worker.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLaunch {
    /// Tried in this order; the first that exists on the host is used. With a slash: relative to the workspace or
    /// absolute; `$NAME/rest` is taken from the environment and skipped when NAME is unset; otherwise looked up in
    /// `PATH`.
    pub programs: Vec<String>,
    /// Arguments before the worker program's path.
    pub arguments: Vec<String>,
    /// Name for the worker program's file.
    pub worker_file_name: &'static str,
    /// The worker program's text; empty where it is part of the project, and `programs` and `arguments` say all.
    pub worker_source: &'static str,
    /// Arguments after it.
    pub worker_arguments: Vec<String>,
    /// How much of a process its files share.
    pub isolation: Isolation,
    /// Time it may take to become ready.
    pub ready_timeout: Duration,
}

/// A worker in the agent's own program (the crate `distributest-worker`), which speaks the same protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnWorkerLaunch {
    /// Its kind, and what that takes.
    pub arguments: Vec<String>,
    /// How much of a process its files share.
    pub isolation: Isolation,
    /// Time it may take to become ready.
    pub ready_timeout: Duration,
}

/// One process per file; its exit status decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLaunch {
    /// The argument vector; `{file}` is to be replaced by the file's path wherever it stands.
    pub argv: Vec<String>,
}

impl WorkerLaunch {
    /// A worker program that is embedded here, with every default.
    pub(crate) fn embedded(
        programs: &[&str],
        worker_file_name: &'static str,
        worker_source: &'static str,
        options: &LaunchOptions,
    ) -> WorkerLaunch {
        WorkerLaunch {
            programs: programs.iter().map(ToString::to_string).collect(),
            arguments: Vec::new(),
            worker_file_name,
            worker_source,
            worker_arguments: options.arguments.clone(),
            isolation: options.isolation.unwrap_or(Isolation::Fork),
            ready_timeout: READY_TIMEOUT,
        }
    }
}

impl OwnWorkerLaunch {
    /// A worker of this kind, which takes the project's arguments for the framework. It stays, and what it runs has a
    /// process of its own for each file: what is kept apart is what `fork` keeps apart.
    pub(crate) fn of_kind(kind: &str, options: &LaunchOptions) -> OwnWorkerLaunch {
        let arguments = std::iter::once(kind.to_owned()).chain(options.arguments.iter().cloned()).collect();
        OwnWorkerLaunch { arguments, isolation: Isolation::Fork, ready_timeout: READY_TIMEOUT }
    }
}

/// The command as it is configured, or the file itself.
pub(crate) fn command_words(options: &LaunchOptions) -> Vec<String> {
    let mut words = options.command.clone().unwrap_or_else(|| vec!["./{file}".to_owned()]);
    words.extend(options.arguments.iter().cloned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Framework;

    fn launch(framework: &str, options: &LaunchOptions) -> Launch {
        Framework::named(framework).unwrap().launch(options)
    }

    #[test]
    fn a_worker_takes_the_projects_isolation_and_arguments() {
        let options = LaunchOptions {
            isolation: Some(Isolation::Process),
            arguments: vec!["-k".to_owned(), "fast".to_owned()],
            ..LaunchOptions::default()
        };
        let Launch::Worker(worker) = launch("pytest", &options) else { panic!("pytest has a worker") };
        assert_eq!(worker.isolation, Isolation::Process);
        assert_eq!(worker.worker_arguments, ["-k", "fast"]);
        assert_eq!(worker.programs[0], "$VIRTUAL_ENV/bin/python");
        assert!(worker.worker_source.ends_with("    main()\n"));
    }

    #[test]
    fn a_command_without_an_argument_vector_executes_the_file() {
        let launched = launch("command", &LaunchOptions::default());
        assert_eq!(launched, Launch::Command(CommandLaunch { argv: vec!["./{file}".to_owned()] }));
    }

    #[test]
    fn arguments_follow_a_given_command() {
        let options = LaunchOptions {
            command: Some(vec!["bash".to_owned(), "{file}".to_owned()]),
            arguments: vec!["-v".to_owned()],
            ..LaunchOptions::default()
        };
        let Launch::Command(command) = launch("command", &options) else { panic!("it is a command") };
        assert_eq!(command.argv, ["bash", "{file}", "-v"]);
    }

    #[test]
    fn a_command_with_results_is_run_by_a_worker_that_reads_them() {
        let launched = |command: &[&str], results: Option<&str>| {
            let command = Some(command.iter().map(|word| (*word).to_owned()).collect());
            let options =
                LaunchOptions { command, results: results.map(str::to_owned), ..LaunchOptions::default() };
            match launch("command", &options) {
                Launch::OwnWorker(worker) => worker.arguments,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            launched(&["make", "{file}"], Some("out/*.xml")),
            ["junit", "out/*.xml", "make", "{file}"]
        );
        let of_directory = launched(&["run", "--log={results}/a.xml"], None);
        assert_eq!(of_directory, ["junit", "{results}/**/*.xml", "run", "--log={results}/a.xml"]);
    }

    #[test]
    fn words_and_names_read_back() {
        for isolation in Isolation::ALL {
            assert_eq!(Isolation::from_word(isolation.word()), Some(isolation));
        }
        for framework in Framework::built_in() {
            assert_eq!(Framework::named(framework.name()), Some(framework));
        }
    }
}
