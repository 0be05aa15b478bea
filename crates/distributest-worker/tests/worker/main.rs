//! The worker, driven as an agent does, over fixtures with every outcome, beside each framework's own reporter.

mod bats;
mod cargo;
mod faults;
mod go;
mod junit;
mod support;
mod tap;
