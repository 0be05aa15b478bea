//! The history from outside: what it keeps, what it answers, and what it makes of trouble.

mod neighbours;
mod passes;
mod recording;
mod splitting;
mod support;
mod trouble;
