//! `distributest init`: writes a project's configuration with what was found in it, and overwrites nothing.
//!
//! The file is the commented default one ([`DEFAULT_FILE`]) with the detected framework set, so what a
//! project starts with and what the machine has installed never say different things.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use distributest_frameworks::{Detected, Framework, Selection, detect, discover};

use super::settings::sources_of;
use crate::config::{DEFAULT_FILE, DEFAULT_NODE_SETUP, DEFAULT_RUNNER_SETUP};
use crate::error::UserError;

/// The line of the default file that is replaced by what was found.
const FRAMEWORK_LINE: &str = "#frameworks = []\n";

const NOTHING_FOUND: &str = "\
Found no test framework that distributest knows. Say in the file which files are tests and what runs them:
  files = [\"tests/*.sh\"]
  command = \"bash {file}\"
";

const NEXT: &str = "\
Next:
  distributest --dry-run   show what would run, and where
  distributest             run it
Commit .distributest so that everybody runs the tests the same way.
";

/// What `init` takes.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The project's directory [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,

    /// Write also the hooks node_setup and runner_setup, commented and doing nothing yet
    #[arg(long)]
    pub hooks: bool,
}

/// A file to write below `.distributest/`.
struct Template {
    name: &'static str,
    mode: u32,
    content: String,
}

/// A framework, what says that it is used here, and how many test files it has.
struct Found {
    detected: Detected,
    files: usize,
}

/// Writes the files that are not there yet, and returns the text for standard output.
///
/// # Errors
///
/// The project is no directory, everything to write is already there, or a file can't be written.
pub fn run(args: &InitArgs) -> Result<String, UserError> {
    let sources = sources_of(args.project.as_deref())?;
    let found = search(&sources.project);
    let mut templates = vec![Template { name: "config.toml", mode: 0o644, content: configuration(&found) }];
    if args.hooks {
        let hooks = [("node_setup", DEFAULT_NODE_SETUP), ("runner_setup", DEFAULT_RUNNER_SETUP)];
        templates.extend(hooks.map(|(name, text)| Template { name, mode: 0o755, content: text.to_owned() }));
    }
    let directory = sources.project_directory();
    let (kept, missing): (Vec<Template>, Vec<Template>) = templates
        .into_iter()
        .partition(|template| fs::symlink_metadata(directory.join(template.name)).is_ok());
    if missing.is_empty() {
        let names: Vec<&str> = kept.iter().map(|template| template.name).collect();
        let message =
            format!("{} already has {}: nothing was written", directory.display(), names.join(", "));
        return Err(UserError::usage(message).hint("edit what is there, or move it away and run init again"));
    }
    fs::create_dir_all(&directory).map_err(|error| failed("make the directory", &directory, &error))?;
    for template in &missing {
        write_new(&directory.join(template.name), template)?;
    }
    Ok(account(&found, &kept, &missing))
}

/// The frameworks of a project, each with the number of its test files.
fn search(project: &Path) -> Vec<Found> {
    let count = |framework: &Framework| {
        discover(project, &Selection::of(framework.clone())).map_or(0, |found| found.files.len())
    };
    let found = |detected: Detected| Found { files: count(&detected.framework), detected };
    detect(project, &Framework::built_in()).into_iter().map(found).collect()
}

/// The project's configuration: one framework is pinned; of several, all run, as they do without
/// configuration.
fn configuration(found: &[Found]) -> String {
    let framework = match found {
        [] => FRAMEWORK_LINE.to_owned(),
        [one] => {
            format!("# Found here: {}.\nframeworks = [\"{}\"]\n", describe(found), one.detected.framework)
        }
        _ => format!("# Found here, and all run: {}.\n{FRAMEWORK_LINE}", describe(found)),
    };
    DEFAULT_FILE.replacen(FRAMEWORK_LINE, &framework, 1)
}

fn describe(found: &[Found]) -> String {
    let described: Vec<String> = found
        .iter()
        .map(|Found { detected, files }| {
            let plural = if *files == 1 { "" } else { "s" };
            format!("{} ({}; {files} test file{plural})", detected.framework, detected.evidence)
        })
        .collect();
    described.join(", ")
}

fn account(found: &[Found], kept: &[Template], written: &[Template]) -> String {
    let mut text = match found {
        [] => String::new(),
        _ => format!("Found {}.\n", describe(found)),
    };
    for (verb, templates) in [("Kept", kept), ("Wrote", written)] {
        for template in templates {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{verb} .distributest/{}", template.name);
        }
    }
    text + if found.is_empty() { NOTHING_FOUND } else { "" } + NEXT
}

/// Writes a file that must not exist. A file that could not be written whole is removed again.
fn write_new(path: &Path, template: &Template) -> Result<(), UserError> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(template.mode)
        .open(path)
        .map_err(|error| failed("create", path, &error))?;
    file.write_all(template.content.as_bytes()).map_err(|error| {
        // The write's error is the one to tell; what is left of the file would only hide it next time.
        let _ = fs::remove_file(path);
        failed("write", path, &error)
    })
}

fn failed(operation: &str, path: &Path, error: &io::Error) -> UserError {
    let message = format!("failed to {operation} {}", path.display());
    UserError::usage(message).because(error).hint("make sure that you can write to the project")
}
