//! What the parsers' tests are fed to show that nothing makes them panic, run for ever or keep what they should not:
//! what a framework writes, damaged in every way a test or a broken pipe can damage it.
//!
//! `PROPTEST_CASES` says how many cases there are of each, if the usual number is not enough.

use std::fs;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One damage to a text.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index, usize),
    Repeat(Index, usize, usize),
    Insert(Index, Vec<u8>),
    Swap(Index, Index),
}

/// The sample with up to a dozen damages, in which `words` (what means something to the parser) turn up anywhere.
pub(crate) fn damaged(
    sample: impl AsRef<[u8]>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let sample = sample.as_ref().to_vec();
    let inserted = prop_oneof![
        3 => select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
        1 => select(&["\n", "\r\n", "\0", "\u{16}", "\u{fffd}", " ", "9999999999999999999999"][..])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let damage = prop_oneof![
        (any::<Index>(), 0..40_usize).prop_map(|(place, length)| Damage::Cut(place, length)),
        (any::<Index>(), 0..60_usize, 1..9_usize)
            .prop_map(|(place, length, times)| Damage::Repeat(place, length, times)),
        (any::<Index>(), inserted).prop_map(|(place, bytes)| Damage::Insert(place, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Damage::Swap(one, other)),
    ];
    vec(damage, 0..12).prop_map(move |damages| {
        let mut bytes = sample.clone();
        damages.into_iter().for_each(|damage| damage.apply(&mut bytes));
        bytes
    })
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        let part = |bytes: &[u8], place: Index, length: usize| -> Range<usize> {
            let begin = place.index(bytes.len() + 1);
            begin..(begin + length).min(bytes.len())
        };
        match self {
            Damage::Cut(place, length) => drop(bytes.drain(part(bytes, place, length))),
            Damage::Repeat(place, length, times) => {
                let part = part(bytes, place, length);
                let repeated = bytes[part.clone()].repeat(times);
                drop(bytes.splice(part.end..part.end, repeated));
            }
            Damage::Insert(place, inserted) => {
                let place = place.index(bytes.len() + 1);
                drop(bytes.splice(place..place, inserted));
            }
            Damage::Swap(one, other) if !bytes.is_empty() => {
                let (one, other) = (one.index(bytes.len()), other.index(bytes.len()));
                bytes.swap(one, other);
            }
            Damage::Swap(..) => {}
        }
    }
}

/// Feeds this many bytes of something endless to a parser, and asserts that it keeps less than `limit` bytes of it.
///
/// It measures the whole process, so that it is exact only where each test has a process of its own.
pub(crate) fn assert_keeps_little(limit: u64, total: usize, piece: &[u8], mut feed: impl FnMut(&[u8])) {
    let before = peak_memory();
    for _ in 0..total / piece.len() {
        feed(piece);
    }
    let kept = peak_memory().saturating_sub(before);
    assert!(kept < limit, "{kept} bytes of {total} are kept");
}

/// The most memory this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
