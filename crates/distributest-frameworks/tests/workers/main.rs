//! The worker programs against the real frameworks: what they report is compared with the frameworks' own reports.

mod django;
mod eunit;
mod exunit;
mod javascript;
mod keeping;
mod keeping_shared;
mod minitest;
mod parts;
mod pytest;
mod pytest_shared;
mod rspec;
mod ruby;
mod ruby_state;
mod support;
mod test_unit;
mod unittest;
