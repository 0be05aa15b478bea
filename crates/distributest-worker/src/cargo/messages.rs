//! What cargo says in JSON: the parts that matter here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A line of `cargo build --message-format=json`.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(super) enum Message {
    CompilerMessage(CompilerMessage),
    CompilerArtifact(Artifact),
    BuildScriptExecuted(BuildScript),
    #[serde(other)]
    Other,
}

/// The compiler has something to say.
#[derive(Debug, Deserialize)]
pub(super) struct CompilerMessage {
    manifest_path: PathBuf,
    pub(super) target: Target,
    pub(super) message: Diagnostic,
}

/// What it says.
#[derive(Debug, Deserialize)]
pub(super) struct Diagnostic {
    pub(super) level: String,
    pub(super) rendered: Option<String>,
}

/// Something was built.
#[derive(Debug, Deserialize)]
pub(super) struct Artifact {
    pub(super) package_id: String,
    manifest_path: PathBuf,
    pub(super) target: Target,
    pub(super) profile: Profile,
    pub(super) executable: Option<PathBuf>,
    /// Those enabled in its package.
    pub(super) features: Vec<String>,
}

/// How it was built.
#[derive(Debug, Deserialize)]
pub(super) struct Profile {
    /// With a test harness, or what its manifest has in place of one.
    pub(super) test: bool,
}

/// What was built.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) kind: Vec<String>,
    pub(super) name: String,
    pub(super) src_path: PathBuf,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
    /// Whether `cargo test` makes a test binary of it.
    #[serde(default)]
    test: bool,
}

/// A build script was run.
#[derive(Debug, Deserialize)]
pub(super) struct BuildScript {
    pub(super) package_id: String,
    linked_paths: Vec<String>,
    env: Vec<(String, String)>,
    out_dir: Option<String>,
}

/// The answer of `cargo metadata --no-deps`.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    pub(super) workspace_root: PathBuf,
    pub(super) target_directory: PathBuf,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    authors: Vec<String>,
    description: Option<String>,
    homepage: Option<String>,
    license: Option<String>,
    license_file: Option<String>,
    readme: Option<String>,
    repository: Option<String>,
    rust_version: Option<String>,
    targets: Vec<Target>,
}

impl CompilerMessage {
    /// The package's directory.
    pub(super) fn directory(&self) -> PathBuf {
        directory_of(&self.manifest_path)
    }
}

impl Artifact {
    /// The package's directory.
    pub(super) fn directory(&self) -> PathBuf {
        directory_of(&self.manifest_path)
    }
}

impl Target {
    /// Whether it is a program of its package, which integration tests may start.
    pub(super) fn is_program(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }

    /// Whether it is an example that is only built, of which no test file tells.
    pub(super) fn is_plain_example(&self) -> bool {
        !self.test && self.kind.iter().any(|kind| kind == "example")
    }
}

impl BuildScript {
    /// What it leaves in the environment of the package's tests.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let out_dir = self.out_dir.iter().map(|directory| ("OUT_DIR".to_owned(), directory.clone()));
        self.env.iter().cloned().chain(out_dir).collect()
    }

    /// Directories of native libraries that it made; those elsewhere are the system's affair.
    pub(super) fn libraries(&self, target_directory: &Path) -> Vec<PathBuf> {
        let path = |linked: &String| {
            let (kind, path) = linked.split_once('=').unwrap_or(("", linked));
            let is_kind = matches!(kind, "dependency" | "crate" | "native" | "framework" | "all" | "");
            PathBuf::from(if is_kind { path } else { linked.as_str() })
        };
        self.linked_paths.iter().map(path).filter(|path| path.starts_with(target_directory)).collect()
    }
}

impl Package {
    /// Its directory.
    pub(super) fn directory(&self) -> PathBuf {
        directory_of(&self.manifest_path)
    }

    /// Whether it has a target that `cargo test` makes a test binary of.
    pub(super) fn has_test_binaries(&self) -> bool {
        self.targets.iter().any(|target| target.test)
    }

    /// The features of its own that its targets need, by their root files.
    pub(super) fn needed_features(&self) -> Vec<(PathBuf, BTreeSet<String>)> {
        let of_own = |target: &Target| {
            target.required_features.iter().filter(|feature| !feature.contains('/')).cloned().collect()
        };
        self.targets.iter().map(|target| (target.src_path.clone(), of_own(target))).collect()
    }

    /// What cargo tells its tests of it.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let (numbers, _metadata) = self.version.split_once('+').unwrap_or((&self.version, ""));
        let (numbers, prerelease) = numbers.split_once('-').unwrap_or((numbers, ""));
        let mut numbers = numbers.split('.').map(str::to_owned);
        let mut number = || numbers.next().unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            ("MANIFEST_DIR", self.directory().to_string_lossy().into_owned()),
            ("MANIFEST_PATH", self.manifest_path.to_string_lossy().into_owned()),
            ("PKG_NAME", self.name.clone()),
            ("PKG_VERSION", self.version.clone()),
            ("PKG_VERSION_MAJOR", number()),
            ("PKG_VERSION_MINOR", number()),
            ("PKG_VERSION_PATCH", number()),
            ("PKG_VERSION_PRE", prerelease.to_owned()),
            ("PKG_AUTHORS", self.authors.join(":")),
            ("PKG_DESCRIPTION", text(&self.description)),
            ("PKG_HOMEPAGE", text(&self.homepage)),
            ("PKG_LICENSE", text(&self.license)),
            ("PKG_LICENSE_FILE", text(&self.license_file)),
            ("PKG_README", text(&self.readme)),
            ("PKG_REPOSITORY", text(&self.repository)),
            ("PKG_RUST_VERSION", text(&self.rust_version)),
        ]
        .map(|(name, value)| (format!("CARGO_{name}"), value))
        .into()
    }
}

fn directory_of(manifest: &Path) -> PathBuf {
    manifest.parent().unwrap_or(Path::new("/")).to_owned()
}
