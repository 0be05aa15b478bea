//! `distributest config`: the merged configuration as TOML, each value with where it comes from.

use clap::Args;

use super::settings::SettingsArgs;
use crate::error::UserError;

/// What `config` takes.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The flags of a run, to see what they change.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// The text for standard output.
///
/// # Errors
///
/// The project is no directory, or the configuration has problems.
pub fn run(args: &ConfigArgs) -> Result<String, UserError> {
    let loaded = args.settings.load()?;
    let project = loaded.sources.project.to_string_lossy().replace(char::is_control, "?");
    Ok(format!("# The configuration of {project}, and where each value comes from.\n{}", loaded.provenance))
}
