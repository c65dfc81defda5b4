//! The smallest of many keys, kept in a tree: reading it is O(1), changing one key O(log n).

#[derive(Clone, Debug, Default)]
pub struct MinTree<K> {
    keys: Vec<K>,
    /// Winner of each inner node, root at 1; leaves are implied.
    nodes: Vec<u32>,
    leaves: usize,
}

impl<K: Ord + Copy> MinTree<K> {
    pub fn rebuild(&mut self, keys: Vec<K>) {
        self.leaves = keys.len().next_power_of_two().max(2);
        self.keys = keys;
        self.nodes = vec![u32::MAX; self.leaves];
        for node in (1..self.leaves).rev() {
            self.nodes[node] = self.winner(node);
        }
    }

    pub fn smallest(&self) -> Option<(usize, K)> {
        let index = *self.nodes.get(1)? as usize;
        self.keys.get(index).map(|key| (index, *key))
    }

    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    pub fn set(&mut self, index: usize, key: K) {
        self.keys[index] = key;
        let mut node = (self.leaves + index) / 2;
        while node >= 1 {
            let winner = self.winner(node);
            let before = std::mem::replace(&mut self.nodes[node], winner);
            // Another one wins here as before: nothing that lies above has changed.
            if winner == before && winner as usize != index {
                return;
            }
            node /= 2;
        }
    }

    fn winner(&self, node: usize) -> u32 {
        let child = |c: usize| if c >= self.leaves { (c - self.leaves) as u32 } else { self.nodes[c] };
        let (left, right) = (child(2 * node), child(2 * node + 1));
        match (self.keys.get(left as usize), self.keys.get(right as usize)) {
            (Some(l), Some(r)) if r < l => right,
            (Some(_), _) => left,
            (None, _) => right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_scan() {
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 40
        };
        for count in [1usize, 2, 3, 5, 8, 17] {
            let mut tree = MinTree::default();
            tree.rebuild((0..count).map(|_| random()).collect());
            for _ in 0..200 {
                let index = random() as usize % count;
                tree.set(index, random());
                let least = tree.keys().iter().copied().min().unwrap();
                assert_eq!(tree.smallest().unwrap().1, least);
            }
        }
    }
}
