//! Run events in; terminal, aggregated log, JUnit and JSON lines out.
