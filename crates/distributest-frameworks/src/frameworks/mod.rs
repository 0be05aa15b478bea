//! The frameworks, a module each.

use std::sync::Arc;

use crate::framework::Definition;

mod beam;
pub(crate) mod command;
mod exunit;
pub(crate) mod own;
mod pytest;
mod rspec;

/// Every framework built in, in the order they are detected and listed.
pub(crate) fn all() -> Vec<Arc<dyn Definition>> {
    vec![
        Arc::new(pytest::Pytest),
        Arc::new(rspec::Rspec),
        Arc::new(exunit::ExUnit),
        Arc::new(command::Command),
    ]
}
