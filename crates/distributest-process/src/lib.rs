//! One process tree: spawn, capture, stop, leak detection, and becoming another user.
