//! The worker programs against the real frameworks: what they report is compared with the frameworks' own reports.

mod exunit;
mod pytest;
mod rspec;
mod support;
mod unittest;
