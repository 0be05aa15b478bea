//! The environment of hooks, workers and tests, in layers: the agent user's own (or nothing), the run's, the
//! product's variables, and what hooks append to the file `$DISTRIBUTEST_ENV`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use distributest_core::identity::runner_identifier;
use distributest_process::Variables;
use distributest_protocol::wire;

/// The variable that names the file a hook may append `KEY=value` lines to.
pub(crate) const ENVIRONMENT_FILE: &str = "DISTRIBUTEST_ENV";

/// The most bytes a hook may leave in its environment file.
const ENVIRONMENT_FILE_LIMIT: u64 = 1024 * 1024;

/// Variables of the agent's own that nothing it starts may inherit.
const PRIVATE_VARIABLES: [&str; 8] = [
    "DISTRIBUTEST_FD",
    "DISTRIBUTEST_ISOLATION",
    "DISTRIBUTEST_MAY_STAY",
    "DISTRIBUTEST_RUNNER",
    "DISTRIBUTEST_ENV",
    "DB_PREFIX",
    "TEST_ENV_NUMBER",
    "NOTIFY_SOCKET",
];

/// A set of environment variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

/// Why a hook's environment file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentFileError {
    /// It can't be read.
    #[error("failed to read the file $DISTRIBUTEST_ENV names")]
    Read(#[from] io::Error),
    /// It is larger than an environment can be.
    #[error("the file $DISTRIBUTEST_ENV names is larger than {ENVIRONMENT_FILE_LIMIT} bytes")]
    TooLarge,
    /// A line is neither `KEY=value`, blank nor a comment.
    #[error("line {number} of the file $DISTRIBUTEST_ENV names is not KEY=value: {text:?}")]
    Malformed {
        /// Counted from 1.
        number: usize,
        /// The line, for the message.
        text: String,
    },
}

impl Environment {
    /// The environment of a run's `node_setup`, on which every other one builds.
    pub(crate) fn of_run(own: impl IntoIterator<Item = (OsString, OsString)>, run: &RunFacts<'_>) -> Self {
        let inherited = own.into_iter().filter(|_| !run.prepare.clear_environment);
        let mut environment = Environment(inherited.collect());
        for name in PRIVATE_VARIABLES {
            environment.0.remove(OsStr::new(name));
        }
        for (name, value) in &run.prepare.environment {
            environment.set(name, value);
        }
        environment.set("DISTRIBUTEST_RUN", &run.hello.run);
        environment.set("DISTRIBUTEST_HOST", &run.hello.host_name);
        environment.set("DISTRIBUTEST_PROJECT", &run.hello.project);
        environment
    }

    /// Adds what tells one runner from another. `number` is that of its identifier: the runner's own, unless another
    /// run has it. `TEST_ENV_NUMBER` follows it and counts as parallel_tests does: the first one is empty, so that
    /// it finds the databases of a run without any tool.
    pub(crate) fn for_runner(&self, hello: &wire::Hello, number: u16) -> (Self, String) {
        let identifier = runner_identifier(&hello.initiating_host, &hello.initiating_user, number);
        let mut environment = self.clone();
        environment.set("DISTRIBUTEST_RUNNER", &identifier);
        environment.set("DB_PREFIX", format!("{identifier}_"));
        environment.set("TEST_ENV_NUMBER", if number == 1 { String::new() } else { number.to_string() });
        (environment, identifier)
    }

    /// What processes are started with that have this environment.
    pub(crate) fn variables(&self) -> Variables {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Sets one variable.
    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Sets every variable of `other`.
    pub(crate) fn extend(&mut self, other: &Environment) {
        self.0.extend(other.0.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The variables, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }

    /// The first variable that is another one in `other`, those in `ignored` aside.
    pub(crate) fn first_difference<'a>(&'a self, other: &'a Self, ignored: &[&str]) -> Option<&'a OsStr> {
        let names = self.0.keys().chain(other.0.keys()).filter(|name| !ignored.iter().any(|one| name == one));
        names.map(OsString::as_os_str).find(|name| self.0.get(*name) != other.0.get(*name))
    }

    /// These variables as `KEY=value`; only the name of one that is not set.
    pub(crate) fn assignments(&self, names: &[&str]) -> Vec<String> {
        let assignment = |name: &&str| match self.get(name) {
            Some(value) => format!("{name}={}", value.to_string_lossy()),
            None => (*name).to_owned(),
        };
        names.iter().map(assignment).collect()
    }

    /// Reads the `KEY=value` lines a hook left.
    pub(crate) fn read_file(path: &Path) -> Result<Self, EnvironmentFileError> {
        let mut bytes = Vec::new();
        File::open(path)?.take(ENVIRONMENT_FILE_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > ENVIRONMENT_FILE_LIMIT {
            return Err(EnvironmentFileError::TooLarge);
        }
        Environment::parse(&bytes)
    }

    /// Reads `KEY=value` lines; blank lines and those that begin with `#` say nothing. Values are taken as they are,
    /// without quotes or escapes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, EnvironmentFileError> {
        let mut environment = Environment::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                continue;
            }
            let Some((name, value)) = split_assignment(line) else {
                let text = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
                return Err(EnvironmentFileError::Malformed { number: index + 1, text });
            };
            environment.set(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
        Ok(environment)
    }

    /// The lines [`Environment::parse`] reads.
    pub(crate) fn to_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, value) in self.iter() {
            lines.extend_from_slice(name.as_bytes());
            lines.push(b'=');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        lines
    }
}

/// What a run said about itself.
pub(crate) struct RunFacts<'a> {
    /// Its greeting.
    pub(crate) hello: &'a wire::Hello,
    /// Its orders.
    pub(crate) prepare: &'a wire::Prepare,
}

fn split_assignment(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&line[..equals], &line[equals + 1..]);
    let usable = |byte: &u8| byte.is_ascii_graphic();
    (!name.is_empty() && name.iter().all(usable) && !value.contains(&0)).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<(OsString, OsString)> {
        [("PATH", "/bin"), ("DISTRIBUTEST_FD", "3"), ("TEST_ENV_NUMBER", "9")]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    }

    fn hello() -> wire::Hello {
        wire::Hello {
            run: "r1".into(),
            initiating_host: "laptop".into(),
            initiating_user: "ana".into(),
            project: "shop".into(),
            host_name: "h1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn layers_lie_over_each_other_in_order() {
        let mut prepare = wire::Prepare::default();
        prepare.environment.insert("DISTRIBUTEST_HOST".into(), "forged".into());
        prepare.environment.insert("RAILS_ENV".into(), "test".into());
        let hello = hello();
        let node = Environment::of_run(own(), &RunFacts { hello: &hello, prepare: &prepare });
        assert_eq!(node.get("PATH"), Some(OsStr::new("/bin")));
        assert_eq!(node.get("RAILS_ENV"), Some(OsStr::new("test")));
        assert_eq!(node.get("DISTRIBUTEST_HOST"), Some(OsStr::new("h1")));
        assert_eq!(node.get("DISTRIBUTEST_FD"), None);
        assert_eq!(node.get("TEST_ENV_NUMBER"), None);

        let (first, identifier) = node.for_runner(&hello, 1);
        assert_eq!(identifier, "laptop_ana_1");
        assert_eq!(first.get("TEST_ENV_NUMBER"), Some(OsStr::new("")));
        assert_eq!(first.get("DB_PREFIX"), Some(OsStr::new("laptop_ana_1_")));
        let (second, _) = node.for_runner(&hello, 2);
        assert_eq!(second.get("TEST_ENV_NUMBER"), Some(OsStr::new("2")));
    }

    #[test]
    fn a_cleared_environment_holds_only_what_was_sent() {
        let prepare = wire::Prepare { clear_environment: true, ..Default::default() };
        let node = Environment::of_run(own(), &RunFacts { hello: &hello(), prepare: &prepare });
        assert_eq!(node.get("PATH"), None);
        assert_eq!(node.iter().count(), 3);
    }

    #[test]
    fn environments_are_compared_but_for_what_may_differ() {
        let parse = |text: &str| Environment::parse(text.as_bytes()).unwrap();
        let (one, ignored) = (parse("A=1\nRUN=r1\n"), ["RUN", "WINDOW"]);
        let difference = |text: &str| one.first_difference(&parse(text), &ignored).map(ToOwned::to_owned);
        assert_eq!(difference("RUN=r2\nA=1\nWINDOW=7\n"), None);
        assert_eq!(difference("A=2\nRUN=r1\n"), Some("A".into()));
        assert_eq!(difference("RUN=r1\n"), Some("A".into()));
        assert_eq!(difference("A=1\nB=\n"), Some("B".into()));
        assert_eq!(one.assignments(&ignored), ["RUN=r1", "WINDOW"]);
    }

    #[test]
    fn lines_survive_being_written_and_read() {
        let parsed = Environment::parse(b"# made by node_setup\n\nA=1=2\nB=\nC=\xff 'x'\r\n").unwrap();
        assert_eq!(parsed.to_lines(), b"A=1=2\nB=\nC=\xff 'x'\n");
        assert_eq!(Environment::parse(&parsed.to_lines()).unwrap(), parsed);
    }

    #[test]
    fn a_malformed_line_is_named() {
        for bad in ["A=1\nexport A B\n", "A=1\n=2\n", "A=1\nB C=2\n", "A=1\nB=\0\n"] {
            let error = Environment::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, EnvironmentFileError::Malformed { number: 2, .. }), "{bad:?}: {error}");
        }
    }
}
