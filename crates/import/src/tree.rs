//! Blocks within blocks, as keepalived and Pound have them.

/// A line, and what stands in its block.
pub struct Node {
    pub line: usize,
    pub words: Vec<String>,
    pub children: Vec<Node>,
    /// Of the lines before it.
    pub comments: Vec<String>,
}

impl Node {
    pub fn is(&self, keyword: &str) -> bool {
        self.words.first().is_some_and(|w| w.eq_ignore_ascii_case(keyword))
    }

    pub fn child(&self, keyword: &str) -> Option<&Node> {
        self.children.iter().find(|c| c.is(keyword))
    }

    /// The word behind a keyword in its block.
    pub fn value(&self, keyword: &str) -> Option<&str> {
        self.child(keyword)?.words.get(1).map(String::as_str)
    }
}

/// Nobody has more blocks within blocks; what is deeper is taken as if it stood here.
const DEEPEST: usize = 32;

/// Gathers lines into a tree.
pub struct Tree {
    /// The root's children, those of the open block in it, and so on.
    open: Vec<Vec<Node>>,
}

impl Tree {
    pub fn new() -> Tree {
        Tree { open: vec![Vec::new()] }
    }

    /// Each line has a first word; that of a block without one is empty.
    pub fn push(&mut self, mut node: Node) {
        if node.words.is_empty() {
            node.words.push(String::new());
        }
        if let Some(level) = self.open.last_mut() {
            level.push(node);
        }
    }

    /// What comes next is in the block of the last line.
    pub fn begin(&mut self) {
        if self.open.len() < DEEPEST {
            self.open.push(Vec::new());
        }
    }

    pub fn end(&mut self) {
        if self.open.len() < 2 {
            return;
        }
        let children = self.open.pop().unwrap_or_default();
        if let Some(parent) = self.open.last_mut().and_then(|level| level.last_mut()) {
            parent.children.extend(children);
        }
    }

    /// Blocks that were not closed end here.
    pub fn finish(mut self) -> Vec<Node> {
        while self.open.len() > 1 {
            self.end();
        }
        self.open.pop().unwrap_or_default()
    }
}
