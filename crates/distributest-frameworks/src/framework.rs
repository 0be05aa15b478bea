//! The frameworks there are.

use std::fmt;

/// A way of finding, running and reporting tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Framework {
    /// pytest 6.2 or newer, on Python 3.8 or newer.
    Pytest,
    /// RSpec 3, on Ruby 2.7 or newer.
    Rspec,
    /// Every file is run by a command of the project's choice; its exit status decides.
    Command,
}

impl Framework {
    /// Every framework, in the order they are detected.
    pub const ALL: [Framework; 3] = [Framework::Pytest, Framework::Rspec, Framework::Command];

    /// The name in configuration, reports and the history.
    pub fn name(self) -> &'static str {
        match self {
            Framework::Pytest => "pytest",
            Framework::Rspec => "rspec",
            Framework::Command => "command",
        }
    }

    /// The framework of that name; `None` for an unknown one.
    pub fn from_name(name: &str) -> Option<Framework> {
        Framework::ALL.into_iter().find(|framework| framework.name() == name)
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
