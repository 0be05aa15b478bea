//! Chooses the frameworks of a run, and puts together what the configuration says about each.

use distributest_frameworks::{Detected, Framework, LaunchOptions, OwnFramework, Selection};

use crate::config::{Config, FrameworkConfig};
use crate::error::UserError;
use crate::project::Project;

/// A framework that is used, with everything that is set for it.
pub(super) struct Chosen {
    /// The framework.
    pub(super) framework: Framework,
    /// Which of its files.
    pub(super) selection: Selection,
    /// How they are run.
    pub(super) options: LaunchOptions,
}

/// The frameworks of a run: those that `frameworks` names, or those that the project uses.
///
/// A framework whose table has `files` but no `detect` is always used; `command` alone stands for the framework of that
/// name.
///
/// # Errors
///
/// The configuration says something of a framework that it can't have, or `files` where it is not clear whose.
pub(super) fn choose(
    project: &Project,
    config: &Config,
    arguments: &[String],
) -> Result<Vec<Chosen>, UserError> {
    let candidates = candidates(config);
    let used = if !config.frameworks.is_empty() {
        let named = |name: &String| candidates.iter().find(|candidate| candidate.name() == name).cloned();
        config.frameworks.iter().filter_map(named).collect()
    } else if config.command.is_some() {
        vec![Framework::command()]
    } else {
        used(project, config, &candidates)
    };
    check_files(config, &used)?;
    let chosen: Vec<Chosen> =
        used.into_iter().map(|framework| set_up(framework, config, arguments)).collect();
    check_isolation(config, &chosen)?;
    Ok(chosen)
}

/// Those built in, and the project's own.
fn candidates(config: &Config) -> Vec<Framework> {
    let mut candidates = Framework::built_in();
    for (name, table) in &config.framework {
        if Framework::named(name).is_none() {
            candidates.push(Framework::own(OwnFramework {
                name: name.clone(),
                detect: table.detect.clone(),
                files: table.files.clone(),
                worker: table.worker.clone(),
            }));
        }
    }
    candidates
}

fn used(project: &Project, config: &Config, candidates: &[Framework]) -> Vec<Framework> {
    let detected = distributest_frameworks::detect(&project.directory, candidates);
    let is_detected =
        |framework: &Framework| detected.iter().any(|Detected { framework: found, .. }| found == framework);
    let always = |framework: &Framework| {
        let table = config.framework.get(framework.name());
        table.is_some_and(|table| !table.files.is_empty() && table.detect.is_empty())
    };
    candidates.iter().filter(|framework| is_detected(framework) || always(framework)).cloned().collect()
}

fn set_up(framework: Framework, config: &Config, arguments: &[String]) -> Chosen {
    let nothing = FrameworkConfig::default();
    let table = config.framework.get(framework.name()).unwrap_or(&nothing);
    let isolation = config.isolation.filter(|isolation| framework.isolations().contains(isolation));
    let first =
        |own: &Vec<String>, general: &Vec<String>| if own.is_empty() { general.clone() } else { own.clone() };
    Chosen {
        selection: Selection {
            framework: framework.clone(),
            files: first(&table.files, &config.files),
            exclude: config.exclude.iter().chain(&table.exclude).cloned().collect(),
            only: Vec::new(),
        },
        options: LaunchOptions {
            isolation: table.isolation.or(isolation),
            command: table.command.clone().or_else(|| config.command.clone()),
            results: table.results.clone().or_else(|| config.results.clone()),
            arguments: table.arguments.iter().chain(arguments).cloned().collect(),
        },
        framework,
    }
}

/// `files` without a table can be one framework's only.
fn check_files(config: &Config, used: &[Framework]) -> Result<(), UserError> {
    let without_own = |framework: &&Framework| {
        config.framework.get(framework.name()).is_none_or(|table| table.files.is_empty())
    };
    let claimed: Vec<&str> = used.iter().filter(without_own).map(Framework::name).collect();
    if config.files.is_empty() || claimed.len() == 1 {
        return Ok(());
    }
    if claimed.is_empty() {
        return Err(UserError::usage("no test framework was found for `files`").hint(
            "set `frameworks` to the one they are for, such as [\"pytest\"] or [\"command\"] (each file is executed), or \
             `command = \"bash {file}\"`",
        ));
    }
    let message = format!("`files` is set, but the project has tests for {}", claimed.join(" and "));
    Err(UserError::usage(message).hint(
        "set `frameworks` (or --framework) to the one that `files` are for, or `files` below [framework.NAME] for each",
    ))
}

/// Arguments on the command line are one framework's.
///
/// # Errors
///
/// The run has files of several.
pub(super) fn check_arguments(used: &[&Chosen], arguments: &[String]) -> Result<(), UserError> {
    if arguments.is_empty() || used.len() < 2 {
        return Ok(());
    }
    let names: Vec<&str> = used.iter().map(|chosen| chosen.framework.name()).collect();
    let message =
        format!("what follows -- is for one framework, but this run has files of {}", names.join(" and "));
    Err(UserError::usage(message).hint(format!(
        "choose one with --framework, or set `arguments` below [framework.{}] in the configuration",
        names[0]
    )))
}

/// A framework can't be kept apart in a way it does not have. What is set for all of them only counts where it can.
fn check_isolation(config: &Config, chosen: &[Chosen]) -> Result<(), UserError> {
    for Chosen { framework, .. } in chosen {
        let table = config.framework.get(framework.name()).and_then(|table| table.isolation);
        let for_all = config.isolation.filter(|_| chosen.len() == 1 && !framework.isolations().is_empty());
        let Some(isolation) = table.or(for_all) else { continue };
        if framework.isolations().contains(&isolation) {
            continue;
        }
        let words: Vec<&str> = framework.isolations().iter().map(|isolation| isolation.word()).collect();
        let message =
            format!("the files of {framework} can't be kept apart by isolation = \"{}\"", isolation.word());
        let hint = match words.as_slice() {
            [] => "each of them has a process of its own anyway: remove `isolation`".to_owned(),
            words => format!("{framework} has {}", words.join(" and ")),
        };
        return Err(UserError::usage(message).hint(hint));
    }
    Ok(())
}
