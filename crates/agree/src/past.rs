//! What a node has run, as far as two nodes share it.

use serde::{Deserialize, Serialize};

/// Steps that a node remembers.
const REMEMBERED: usize = 500;

/// The configuration that a node runs: its number, its place in the past, a hash of the text. Version
/// 1 of the link knows no places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub revision: u64,
    #[serde(default)]
    pub id: u64,
    #[serde(rename = "hash")]
    pub text: u64,
}

/// How a node came to what it runs, the latest last: the names of its steps, and the hashes of their
/// texts, which is all that version 1 of the link has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    #[serde(default)]
    pub steps: Vec<u64>,
    #[serde(default, rename = "history")]
    pub texts: Vec<u64>,
}

/// The steps that led to the running text. A step's name comes of the step before it and of its text:
/// going back to an old text is a new step, and two nodes that take the same step from the same place
/// come to the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    #[serde(default)]
    text: u64,
    #[serde(flatten)]
    way: Lineage,
}

impl Past {
    /// The running text has this hash.
    pub fn run(&mut self, text: u64) {
        if self.way.steps.is_empty() || self.text != text {
            self.way.steps.push(step(self.id(), text));
            self.way.texts.push(text);
            for list in [&mut self.way.steps, &mut self.way.texts] {
                let surplus = list.len().saturating_sub(REMEMBERED);
                list.drain(..surplus);
            }
        }
        self.text = text;
    }

    /// The step that this node would come to with a text.
    pub fn next(&self, text: u64) -> u64 {
        if self.text == text { self.id() } else { step(self.id(), text) }
    }

    /// The running text is the other node's, and so is the way to it, where it has told one.
    pub fn adopt(&mut self, way: &Lineage, text: u64) {
        self.text = text;
        if !way.steps.is_empty() {
            self.way.clone_from(way);
        }
    }

    pub fn id(&self) -> u64 {
        self.way.steps.last().copied().unwrap_or(0)
    }

    pub fn text(&self) -> u64 {
        self.text
    }

    pub fn lineage(&self) -> &Lineage {
        &self.way
    }

    pub fn head(&self, revision: u64) -> Head {
        Head { revision, id: self.id(), text: self.text }
    }
}

/// Mixes as splitmix64 does.
fn step(before: u64, text: u64) -> u64 {
    let mut z = before.rotate_left(29) ^ text.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_a_step_of_its_own() {
        let mut past = Past::default();
        for text in [1, 2, 2, 1] {
            past.run(text);
        }
        assert_eq!(past.lineage().steps.len(), 3);
        assert_ne!(past.lineage().steps[0], past.lineage().steps[2]);
        let mut other = Past::default();
        other.run(1);
        assert_eq!(other.next(2), past.lineage().steps[1]);
        assert_eq!(other.next(1), other.id());
    }

    #[test]
    fn the_past_is_bounded() {
        let mut past = Past::default();
        (0..2_000).for_each(|text| past.run(text));
        assert_eq!(past.lineage().steps.len(), REMEMBERED);
    }
}
