//! Tests of the reports: whole runs go in, what people and programs read comes out.

mod aggregated_log;
mod console;
mod json_lines;
mod junit;
mod live_view;
mod many_failures;
mod reporters;
mod scenarios;
mod script;
mod shared_buffer;
