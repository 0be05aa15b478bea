//! Every file is run by a command of the project's choice; its exit status decides, or the results it writes.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{CommandLaunch, Isolation, Launch, LaunchOptions, command_words};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

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
        Launch::Command(CommandLaunch { argv: command_words(options) })
    }
}
