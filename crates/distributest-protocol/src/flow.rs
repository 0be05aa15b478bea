//! How much may be in flight on a connection, on both ends.
//!
//! Control and log bytes share one link. The output stream's window bounds the log bytes under way, so that a heartbeat
//! or an order waits behind at most about a second of output at 2 Mbit/s; the connection's window is larger than the
//! stream's, so that an unread output stream never stops the session.

/// Bytes of one stream under way before the receiver must have read some.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of all streams of a connection under way.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// The largest chunk of output a coordinator accepts: what the largest pipe there is by default can hold, and its
/// envelope. Several of them wait at a time, so a broken agent's must not be as large as messages may be.
pub const CHUNK_LIMIT_BYTES: usize = 1024 * 1024 + 1024;

/// The largest message either side accepts: a worker's line (16 MiB) and its envelope.
pub const MESSAGE_LIMIT_BYTES: usize = 17 * 1024 * 1024;
