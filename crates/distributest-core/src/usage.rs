//! What one attempt cost the machine it ran on.

use std::time::Duration;

/// What an attempt used, as far as it is known. Nothing is known of one that was not run to its end, and of what its
/// worker does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of its processes, added up.
    pub processor: Option<Duration>,
    /// The most memory that one of its processes had resident at a time, in bytes.
    pub peak_memory: Option<u64>,
}

/// `640 kB`, `812 MB`, `3.1 GB`: an amount of memory for people.
pub fn memory_in_words(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", (bytes + 500_000) / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_reads_well() {
        let words = [0, 1, 640_000, 1_400_000, 812_300_000, 3_140_000_000].map(memory_in_words);
        assert_eq!(words, ["0 kB", "1 kB", "640 kB", "1 MB", "812 MB", "3.1 GB"]);
    }
}
