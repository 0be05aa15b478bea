//! Output on its way over a network is compressed, chunk by chunk: it is mostly text, and what carries it (ssh on both ends,
//! and the network) costs more than LZ4 does.
//!
//! Rules:
//!
//! - Only where the coordinator asks for it. On one machine nothing is gained.
//! - Chunks that are short, or of which little is saved, go as they are.
//! - What is taken apart came from somebody else, so that is done in safe code. What is put together is our own.
//! - A chunk says how long it is without compression, and is never longer than one that is not compressed may be; so a
//!   broken agent can't make the coordinator use more memory.

use tonic::Status;

use crate::flow::CHUNK_LIMIT_BYTES;
use crate::wire::OutputChunk;

/// A shorter chunk is not worth it.
const SHORTEST_BYTES: usize = 512;

/// Makes a chunk smaller, if it can.
pub(crate) fn compress(chunk: OutputChunk) -> OutputChunk {
    let plain_bytes = chunk.data.len();
    if !(SHORTEST_BYTES..=CHUNK_LIMIT_BYTES).contains(&plain_bytes) {
        return chunk;
    }
    let data = lz4_flex::block::compress(&chunk.data);
    if data.len() > plain_bytes - plain_bytes / 8 {
        return chunk;
    }
    // At most the limit for chunks, which fits.
    OutputChunk { data: data.into(), plain_bytes: plain_bytes as u32, ..chunk }
}

/// Makes of a chunk what it was.
///
/// # Errors
///
/// When it is none that [`compress`] has made.
pub(crate) fn decompress(chunk: OutputChunk) -> Result<OutputChunk, Status> {
    let plain_bytes = chunk.plain_bytes as usize;
    if plain_bytes == 0 {
        return Ok(chunk);
    }
    if plain_bytes > CHUNK_LIMIT_BYTES {
        return Err(Status::data_loss(format!("a chunk of output of {plain_bytes} bytes")));
    }
    let plain = lz4_flex::block::decompress(&chunk.data, plain_bytes)
        .map_err(|error| Status::data_loss(format!("a chunk of output can't be decompressed: {error}")))?;
    if plain.len() != plain_bytes {
        return Err(Status::data_loss("a chunk of output has another length than it says"));
    }
    Ok(OutputChunk { data: plain.into(), plain_bytes: 0, ..chunk })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(data: Vec<u8>) -> OutputChunk {
        OutputChunk { block: 3, stderr: true, data: data.into(), plain_bytes: 0 }
    }

    #[test]
    fn text_gets_smaller_and_noise_stays_as_it_is() {
        let text: String =
            (0..1_000).map(|line| format!("2026-11-22 12:00:{line} GET /orders/{line} 200\n")).collect();
        let text = chunk(text.into_bytes());
        let compressed = compress(text.clone());
        assert!(compressed.data.len() < text.data.len() / 3, "{}", compressed.data.len());
        assert_eq!(decompress(compressed).expect("it is whole"), text);
        let mut state = 1_u64;
        let noise = (0..4_096).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let noise = chunk(noise.collect());
        assert_eq!(compress(noise.clone()), noise);
        let short = chunk(b"ok\n".to_vec());
        assert_eq!(compress(short.clone()), short);
    }

    #[test]
    fn what_is_no_compressed_chunk_is_refused() {
        let bomb = OutputChunk { plain_bytes: u32::MAX, ..compress(chunk(vec![0; 4_096])) };
        assert!(decompress(bomb).is_err());
        let short = OutputChunk { plain_bytes: 5_000, ..compress(chunk(vec![0; 4_096])) };
        assert!(decompress(short).is_err());
        let long = OutputChunk { plain_bytes: 4_000, ..compress(chunk(vec![0; 4_096])) };
        assert!(decompress(long).is_err());
    }

    proptest! {
        #[test]
        fn every_chunk_comes_out_as_it_went_in(data in prop::collection::vec(0_u8..4, 0..5_000)) {
            let before = chunk(data);
            prop_assert_eq!(decompress(compress(before.clone())).expect("it is whole"), before);
        }

        #[test]
        fn garbage_is_an_error_or_bytes_of_that_length(data in any::<Vec<u8>>(), plain_bytes in any::<u32>()) {
            if let Ok(plain) = decompress(OutputChunk { plain_bytes, ..chunk(data) }) && plain_bytes > 0 {
                prop_assert_eq!(plain.data.len(), plain_bytes as usize);
            }
        }
    }
}
