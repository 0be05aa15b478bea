//! Every file is run by a command of the project's choice; its exit status decides, or the results it writes.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{CommandLaunch, Isolation, Launch, LaunchOptions, OwnWorkerLaunch, command_words};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// Where results are when only the command says that it writes some.
const ALL_RESULTS: &str = "{results}/**/*.xml";

pub(crate) struct Command;

impl Definition for Command {
    fn name(&self) -> &str {
        "command"
    }

    fn evidence(&self, _: &ProjectFiles<'_>) -> Option<Evidence> {
        None
    }

    fn rules(&self, _: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        Err(DiscoverError::FilesNeeded { framework: self.name().to_owned() })
    }

    fn accepts(&self, _: &Path) -> bool {
        false
    }

    fn isolations(&self) -> &'static [Isolation] {
        &[]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let argv = command_words(options);
        let results = options.results.clone().or_else(|| {
            let writes = argv.iter().any(|word| word.contains("{results}"));
            writes.then(|| ALL_RESULTS.to_owned())
        });
        match results {
            Some(glob) => {
                let arguments = ["junit".to_owned(), glob].into_iter().chain(argv).collect();
                Launch::OwnWorker(OwnWorkerLaunch { arguments, ..OwnWorkerLaunch::of_kind("junit", options) })
            }
            None => Launch::Command(CommandLaunch { argv }),
        }
    }
}
