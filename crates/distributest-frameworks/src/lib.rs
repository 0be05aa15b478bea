//! Framework descriptors (detect, discover, launch) and the embedded worker programs.
