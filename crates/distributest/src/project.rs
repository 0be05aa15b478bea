//! What a project is called, here and on the hosts, and who starts runs of it.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A project: the directory `distributest` was started in, or `--project`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its directory, absolute and without symbolic links.
    pub directory: PathBuf,
    /// Its name for people: the last part of its git remote, else of its path.
    pub name: String,
    /// What it is remembered by: the git remote and the path inside that repository, so that every checkout of it
    /// shares a history; else the directory.
    pub history_key: String,
    /// Sixteen hexadecimal digits of remote and directory: two checkouts never share a workspace.
    pub workspace_hash: String,
}

impl Project {
    /// Finds out what the project in `directory` (absolute) is called.
    pub fn of(directory: PathBuf) -> Project {
        let repository = directory.ancestors().find(|ancestor| ancestor.join(".git").exists());
        let remote = repository.and_then(git_remote);
        let inside = repository.and_then(|root| directory.strip_prefix(root).ok()).unwrap_or(Path::new(""));
        let history_key = match &remote {
            Some(remote) if inside.as_os_str().is_empty() => remote.clone(),
            Some(remote) => format!("{remote} {}", inside.display()),
            None => directory.display().to_string(),
        };
        let of_remote = remote.as_deref().filter(|_| inside.as_os_str().is_empty()).and_then(last_part);
        let of_directory = directory.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = of_remote.or(of_directory).unwrap_or_else(|| "root".into());
        let hash = Sha256::digest(format!("{}\0{}", remote.unwrap_or_default(), directory.display()));
        let workspace_hash = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Project { directory, name, history_key, workspace_hash }
    }
}

fn last_part(remote: &str) -> Option<String> {
    let name = remote.trim_end_matches('/').rsplit(['/', ':']).next()?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The URL of `origin`, without a password, read from the repository's own configuration.
fn git_remote(repository: &Path) -> Option<String> {
    let configuration = std::fs::read_to_string(git_directory(repository)?.join("config")).ok()?;
    let mut in_origin = false;
    for line in configuration.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line == "[remote \"origin\"]";
        } else if in_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "url"
        {
            return Some(without_credentials(value.trim()));
        }
    }
    None
}

/// `.git` itself, or in a work tree or submodule what the file of that name points to.
fn git_directory(repository: &Path) -> Option<PathBuf> {
    let git = repository.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let pointer = std::fs::read_to_string(&git).ok()?;
    let target = repository.join(pointer.trim().strip_prefix("gitdir:")?.trim());
    match std::fs::read_to_string(target.join("commondir")) {
        Ok(common) => Some(target.join(common.trim())),
        Err(_) => Some(target),
    }
}

fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

/// Who starts a run, and where: with a number, the name of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// The machine's own name.
    pub host: String,
    /// The user's name.
    pub user: String,
}

impl Initiator {
    /// The user and machine of this process.
    pub fn of_process() -> Initiator {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // Not $USER: started by cron or a build server, a run must have the same name as one from a shell.
        let uid = nix::unistd::getuid();
        let account = nix::unistd::User::from_uid(uid).ok().flatten();
        let user = account.map_or_else(|| format!("uid{uid}"), |account| account.name);
        Initiator { host, user }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(url: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join(".git")).unwrap();
        let text = format!("[core]\n\tbare = false\n[remote \"origin\"]\n\turl = {url}\n\tfetch = x\n");
        std::fs::write(directory.path().join(".git/config"), text).unwrap();
        directory
    }

    #[test]
    fn a_checkout_is_named_and_remembered_by_its_remote() {
        let one = checkout("https://ana:secret@example.org/team/shop.git");
        let project = Project::of(one.path().to_path_buf());
        assert_eq!(project.name, "shop");
        assert_eq!(project.history_key, "https://example.org/team/shop.git");
        let other = Project::of(checkout("https://example.org/team/shop.git").path().to_path_buf());
        assert_eq!(project.history_key, other.history_key);
        assert_ne!(project.workspace_hash, other.workspace_hash);
    }

    #[test]
    fn a_directory_inside_a_checkout_is_a_project_of_its_own() {
        let root = checkout("git@example.org:team/shop.git");
        let project = Project::of(root.path().join("api"));
        assert_eq!(project.name, "api");
        assert_eq!(project.history_key, "git@example.org:team/shop.git api");
    }

    #[test]
    fn without_git_the_path_is_all_there_is() {
        let directory = tempfile::tempdir().unwrap();
        let project = Project::of(directory.path().join("thing"));
        assert_eq!(project.name, "thing");
        assert_eq!(project.history_key, directory.path().join("thing").display().to_string());
    }
}
