//! The daemon on each workstation: accepts runs, prepares workspaces, runs hooks, workers and tests.
