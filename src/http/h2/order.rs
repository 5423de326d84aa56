//! Which stream goes first: the tree of dependencies that clients describe (RFC 7540 §5.3).
//!
//! Clients that describe nothing cost nothing: streams that nobody mentioned are not in the tree.

use std::collections::{BTreeMap, VecDeque};

use super::frame::Dependency;

/// Streams that have ended, or not begun, and keep their place.
const REMEMBERED: usize = 32;
/// What a stream weighs that says nothing.
const WEIGHT: u16 = 16;
/// What all streams depend on in the end.
const ROOT: u32 = 0;

/// Where a stream stands: how deep, and with what share of the whole. Less depth goes first, then the larger share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    depth: u32,
    share: f64,
}

impl Place {
    /// Whether this one goes before the other.
    pub fn precedes(self, other: Self) -> bool {
        self.depth < other.depth || (self.depth == other.depth && self.share > other.share)
    }
}

#[derive(Debug)]
struct Node {
    parent: u32,
    weight: u16,
}

/// The tree.
#[derive(Debug, Default)]
pub struct Order {
    nodes: BTreeMap<u32, Node>,
    /// Those without an open stream, the oldest first.
    idle: VecDeque<u32>,
}

impl Order {
    /// Where a stream stands.
    pub fn place(&self, stream: u32) -> Place {
        let share = |weight: u16| f64::from(weight) / 256.0;
        let Some(mut node) = self.nodes.get(&stream) else { return Place { depth: 1, share: share(WEIGHT) } };
        let mut place = Place { depth: 1, share: share(node.weight) };
        while let Some(parent) = self.nodes.get(&node.parent) {
            node = parent;
            place = Place { depth: place.depth + 1, share: place.share * share(node.weight) };
        }
        place
    }

    /// A stream begins.
    pub fn open(&mut self, stream: u32) {
        if !self.nodes.is_empty() {
            self.idle.retain(|&idle| idle != stream);
        }
    }

    /// A stream has ended.
    pub fn close(&mut self, stream: u32) {
        if self.nodes.contains_key(&stream) {
            self.idle.push_back(stream);
        }
    }

    /// Gives a stream its place; `is_open` knows the streams under way.
    pub fn depend(&mut self, stream: u32, on: Dependency, is_open: impl Fn(u32) -> bool) {
        if !self.nodes.contains_key(&stream) {
            self.add(stream, on.weight);
        }
        if !is_open(stream) {
            self.rest(stream);
        }
        if on.on != ROOT && !self.nodes.contains_key(&on.on) && is_open(on.on) {
            self.add(on.on, WEIGHT);
        }
        let known = self.nodes.contains_key(&on.on);
        let parent = if known { on.on } else { ROOT };
        if known && !is_open(parent) {
            self.rest(parent);
        }
        let former = self.nodes.get(&stream).map_or(ROOT, |node| node.parent);
        if self.is_below(parent, stream) {
            // What it shall depend on depends on it: that one takes its place first.
            self.attach(parent, former);
        }
        if on.exclusive && (known || on.on == ROOT) {
            for (id, node) in &mut self.nodes {
                if node.parent == parent && *id != stream {
                    node.parent = stream;
                }
            }
        }
        self.attach(stream, parent);
        if let Some(node) = self.nodes.get_mut(&stream) {
            node.weight = on.weight;
        }
    }

    fn add(&mut self, stream: u32, weight: u16) {
        if self.idle.len() >= REMEMBERED
            && let Some(oldest) = self.idle.pop_front()
        {
            self.forget(oldest);
        }
        self.nodes.insert(stream, Node { parent: ROOT, weight });
    }

    /// Keeps one without a stream for longer than the others.
    fn rest(&mut self, stream: u32) {
        self.idle.retain(|&idle| idle != stream);
        self.idle.push_back(stream);
    }

    fn attach(&mut self, stream: u32, parent: u32) {
        if let Some(node) = self.nodes.get_mut(&stream) {
            node.parent = parent;
        }
    }

    /// Whether `stream` depends on `above`, however far.
    fn is_below(&self, stream: u32, above: u32) -> bool {
        let mut at = stream;
        while let Some(node) = self.nodes.get(&at) {
            if node.parent == above {
                return true;
            }
            at = node.parent;
        }
        false
    }

    /// Takes one out; what depended on it shares its place.
    fn forget(&mut self, stream: u32) {
        let Some(gone) = self.nodes.remove(&stream) else { return };
        let children = || self.nodes.values().filter(|node| node.parent == stream);
        let sum: u32 = children().map(|node| u32::from(node.weight)).sum();
        for node in self.nodes.values_mut().filter(|node| node.parent == stream) {
            node.parent = gone.parent;
            let share = u32::from(gone.weight) * u32::from(node.weight) / sum.max(1);
            node.weight = u16::try_from(share.max(1)).unwrap_or(WEIGHT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(on: u32, weight: u16) -> Dependency {
        Dependency { on, exclusive: false, weight }
    }

    fn sorted(order: &Order, streams: &[u32]) -> Vec<u32> {
        let mut streams = streams.to_vec();
        streams.sort_by(|&a, &b| match (order.place(a).precedes(order.place(b)), order.place(b) == order.place(a)) {
            (_, true) => std::cmp::Ordering::Equal,
            (true, _) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        });
        streams
    }

    #[test]
    fn depth_goes_first_and_weight_then() {
        let mut order = Order::default();
        assert_eq!(sorted(&order, &[1, 3, 5]), [1, 3, 5]);
        order.depend(5, on(0, 17), |_| false);
        order.depend(1, on(5, 1), |_| false);
        order.depend(3, on(5, 256), |_| false);
        assert_eq!(sorted(&order, &[1, 3, 5]), [5, 3, 1]);
    }

    #[test]
    fn circles_are_untied() {
        let mut order = Order::default();
        order.depend(3, on(1, 16), |_| true);
        order.depend(5, on(3, 16), |_| true);
        order.depend(1, on(5, 16), |_| true);
        assert_eq!(sorted(&order, &[1, 3, 5]), [5, 1, 3]);
        order.depend(3, Dependency { on: 5, exclusive: true, weight: 16 }, |_| true);
        assert_eq!(sorted(&order, &[1, 3, 5]), [5, 3, 1]);
    }

    #[test]
    fn few_are_remembered() {
        let mut order = Order::default();
        for stream in 0..1000 {
            order.depend(2 * stream + 1, on((2 * stream).saturating_sub(1), 16), |_| false);
        }
        assert!(order.nodes.len() <= REMEMBERED + 1 && order.place(1).depth == 1);
        for stream in 0..1000 {
            order.open(2 * stream + 1);
            order.close(2 * stream + 1);
        }
        assert!(order.idle.len() <= REMEMBERED + 1);
    }
}
