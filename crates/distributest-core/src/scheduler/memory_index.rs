//! Finds the first file that needs no more memory than there is.

/// For each place of a list a number or none. Every operation takes O(log n) in their number, making it O(n).
#[derive(Debug)]
pub(super) struct MemoryIndex {
    /// A binary tree: the numbers are its leaves, and each node above has the smallest of those below it. The root is at
    /// 1, the nodes below `n` at `2n` and `2n + 1`.
    smallest: Vec<u64>,
}

/// Stands at places without a number.
const NONE: u64 = u64::MAX;

impl MemoryIndex {
    pub(super) fn new(numbers: impl ExactSizeIterator<Item = Option<u64>>) -> Self {
        let width = numbers.len().next_power_of_two();
        let mut smallest = vec![NONE; 2 * width];
        for (leaf, number) in smallest[width..].iter_mut().zip(numbers) {
            *leaf = leaf_of(number);
        }
        for node in (1..width).rev() {
            smallest[node] = smallest[2 * node].min(smallest[2 * node + 1]);
        }
        MemoryIndex { smallest }
    }

    pub(super) fn set(&mut self, place: usize, number: Option<u64>) {
        let mut node = self.width() + place;
        self.smallest[node] = leaf_of(number);
        while node > 1 {
            node /= 2;
            self.smallest[node] = self.smallest[2 * node].min(self.smallest[2 * node + 1]);
        }
    }

    /// The first place at or after `from` whose number is not above `limit`.
    pub(super) fn first_within(&self, from: usize, limit: u64) -> Option<usize> {
        let (width, limit) = (self.width(), limit.min(NONE - 1));
        if from >= width {
            return None;
        }
        let mut node = width + from;
        while self.smallest[node] > limit {
            // To the right, and up as long as there is nothing more below the same node.
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        while node < width {
            node *= 2;
            node += usize::from(self.smallest[node] > limit);
        }
        Some(node - width)
    }

    fn width(&self) -> usize {
        self.smallest.len() / 2
    }
}

/// The largest number is no less than what stands for none.
fn leaf_of(number: Option<u64>) -> u64 {
    number.map_or(NONE, |number| number.min(NONE - 1))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_search_finds(
            numbers in vec(of(prop_oneof![0..8_u64, Just(u64::MAX)]), 0..40),
            changes in vec((any::<prop::sample::Index>(), of(0..8_u64)), 0..20),
            from in 0..70_usize,
            limit in prop_oneof![0..8_u64, Just(u64::MAX)],
        ) {
            let mut numbers = numbers;
            let mut index = MemoryIndex::new(numbers.iter().copied());
            let changes = if numbers.is_empty() { Vec::new() } else { changes };
            for (place, number) in changes {
                let place = place.index(numbers.len());
                numbers[place] = number;
                index.set(place, number);
            }
            let fits = |number: &Option<u64>| number.is_some_and(|number| number <= limit);
            let expected = (from..numbers.len()).find(|place| fits(&numbers[*place]));
            prop_assert_eq!(index.first_within(from, limit), expected);
        }
    }
}
