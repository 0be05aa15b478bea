//! The frameworks, a module each.

use std::sync::Arc;

use crate::framework::Definition;

mod bats;
mod beam;
mod cargo;
pub(crate) mod command;
mod django;
mod eunit;
mod exunit;
mod go;
mod javascript;
mod minitest;
pub(crate) mod own;
mod pytest;
mod python;
mod rspec;
mod ruby;
mod tap;
mod test_unit;
mod unittest;

/// Every framework built in, in the order they are detected and listed.
pub(crate) fn all() -> Vec<Arc<dyn Definition>> {
    vec![
        Arc::new(pytest::Pytest),
        Arc::new(unittest::Unittest),
        Arc::new(django::Django),
        Arc::new(rspec::Rspec),
        Arc::new(exunit::ExUnit),
        Arc::new(eunit::EUnit),
        Arc::new(minitest::Minitest),
        Arc::new(test_unit::TestUnit),
        Arc::new(go::Go),
        Arc::new(cargo::Cargo),
        Arc::new(bats::Bats),
        Arc::new(tap::Tap),
        Arc::new(javascript::Jest),
        Arc::new(javascript::Vitest),
        Arc::new(javascript::Mocha),
        Arc::new(javascript::NodeTest),
        Arc::new(command::Command),
    ]
}
