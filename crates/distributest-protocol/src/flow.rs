//! How much may be in flight on a connection, on both ends.
//!
//! Control and log bytes share one link. How many log bytes are under way is decided by their sender (the module `pace`);
//! windows only bound it. A connection's window is larger than a stream's, so that an unread output stream never stops
//! the session.

use crate::pace;

/// Bytes of one stream under way to an agent before it must have read some.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of all streams of a connection under way to an agent.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of one stream under way to a coordinator: all output that may be, and the chunk that comes to it.
pub const OUTPUT_WINDOW_BYTES: u32 = pace::MOST_BYTES as u32 + 2 * FRAME_BYTES;

/// Bytes of all streams of a connection under way to a coordinator.
pub const OUTPUT_CONNECTION_WINDOW_BYTES: u32 = 2 * OUTPUT_WINDOW_BYTES;

/// The largest piece of a message to a coordinator that must not be broken into more: a whole pipe's content, so that it
/// passes every hand on its way in one piece.
pub const FRAME_BYTES: u32 = 128 * 1024;

/// The largest chunk of output a coordinator accepts: what the largest pipe there is by default can hold, and its
/// envelope. Several of them wait at a time, so a broken agent's must not be as large as messages may be.
pub const CHUNK_LIMIT_BYTES: usize = 1024 * 1024 + 1024;

/// The largest message either side accepts: a worker's line (16 MiB) and its envelope.
pub const MESSAGE_LIMIT_BYTES: usize = 17 * 1024 * 1024;
