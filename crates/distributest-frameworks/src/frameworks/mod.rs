//! The frameworks, a module each.

use std::sync::Arc;

use crate::framework::Definition;

pub(crate) mod command;
pub(crate) mod own;
mod pytest;
mod rspec;

/// Every framework built in, in the order they are detected and listed.
pub(crate) fn all() -> Vec<Arc<dyn Definition>> {
    vec![Arc::new(pytest::Pytest), Arc::new(rspec::Rspec), Arc::new(command::Command)]
}
