//! Tests of the reports: whole runs go in, what people and programs read comes out.

mod scenarios;
mod script;
