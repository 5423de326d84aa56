//! Addresses to values, for `geo`: networks of which the narrowest counts, and ranges.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use crate::net::cidr::Cidr;

/// Values by address, ready to be looked up.
#[derive(Debug, Default)]
pub struct Table {
    v4: Vec<(u128, Bytes)>,
    v6: Vec<(u128, Bytes)>,
}

impl Table {
    /// The value at `ip`; empty where there is none.
    pub fn get(&self, ip: IpAddr) -> Bytes {
        let (list, number) = match ip.to_canonical() {
            IpAddr::V4(ip) => (&self.v4, u128::from(u32::from(ip))),
            IpAddr::V6(ip) => (&self.v6, u128::from(ip)),
        };
        let behind = list.partition_point(|(first, _)| *first <= number);
        let entry = behind.checked_sub(1).and_then(|at| list.get(at));
        entry.map_or(Bytes::new(), |(_, value)| value.clone())
    }
}

/// Networks while they are read.
#[derive(Debug, Default)]
pub struct Nets(BTreeMap<(bool, u128, u8), (u128, Bytes)>);

impl Nets {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a network; returns the value it had.
    pub fn insert(&mut self, net: Cidr, value: Bytes) -> Option<Bytes> {
        let (first, last) = net.range();
        self.0.insert((net.addr.is_ipv6(), first, net.bits), (last, value)).map(|(_, old)| old)
    }

    /// Takes a network out; false if it is not there.
    pub fn remove(&mut self, net: Cidr) -> bool {
        self.0.remove(&(net.addr.is_ipv6(), net.range().0, net.bits)).is_some()
    }

    /// The table of all of them.
    pub fn table(&self) -> Table {
        // Sorted by first address and then by width, a network follows those it lies in.
        let flat = |v6: bool| {
            let of_kind = self.0.iter().filter(move |((kind, ..), _)| *kind == v6);
            flatten(of_kind.map(|((_, first, _), (last, value))| (*first, *last, value)))
        };
        Table { v4: flat(false), v6: flat(true) }
    }
}

/// Cuts networks, which lie inside one another or apart, into a list of first addresses and values.
fn flatten<'a>(nets: impl Iterator<Item = (u128, u128, &'a Bytes)>) -> Vec<(u128, Bytes)> {
    let (mut out, mut open) = (Vec::new(), Vec::new());
    for (first, last, value) in nets {
        close(&mut open, Some(first), &mut out);
        open.push((last, value));
        put(&mut out, first, value.clone());
    }
    close(&mut open, None, &mut out);
    out
}

/// Ends the open networks whose last address lies before `first`; all of them without one.
fn close(open: &mut Vec<(u128, &Bytes)>, first: Option<u128>, out: &mut Vec<(u128, Bytes)>) {
    while let Some((last, _)) = open.pop_if(|(last, _)| first.is_none_or(|first| *last < first)) {
        if let Some(next) = last.checked_add(1) {
            put(out, next, open.last().map_or(Bytes::new(), |(_, value)| (*value).clone()));
        }
    }
}

fn put(out: &mut Vec<(u128, Bytes)>, first: u128, value: Bytes) {
    if out.last().is_some_and(|(at, _)| *at == first) {
        out.pop();
    }
    out.push((first, value));
}

/// Ranges of IPv4 addresses while they are read. Like nginx's they are cut at every 65536 addresses.
#[derive(Debug, Default)]
pub struct Ranges(BTreeMap<u32, (u32, Bytes)>);

/// What adding a range met.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    /// The same range with this value, which it replaced.
    Same(Bytes),
    /// A range of which it covers only a part.
    Overlap(Ipv4Addr, Ipv4Addr),
}

impl Ranges {
    /// Adds a range.
    pub fn insert(&mut self, first: Ipv4Addr, last: Ipv4Addr, value: &Bytes) -> Vec<Met> {
        let mut met = Vec::new();
        for (first, last) in pieces(first, last) {
            met.extend(self.insert_piece(first, last, value));
            if matches!(met.last(), Some(Met::Overlap(..))) {
                break;
            }
        }
        met
    }

    fn insert_piece(&mut self, first: u32, last: u32, value: &Bytes) -> Option<Met> {
        let around = self.0.range(..=last).next_back().map(|(&start, (end, old))| (start, *end, old.clone()));
        let Some((start, end, old)) = around.filter(|(_, end, _)| *end >= first) else {
            self.0.insert(first, (last, value.clone()));
            return None;
        };
        if first < start || last > end {
            return Some(Met::Overlap(start.into(), end.into()));
        }
        if first > start {
            self.0.insert(start, (first - 1, old.clone()));
        }
        if last < end {
            self.0.insert(last + 1, (end, old.clone()));
        }
        self.0.insert(first, (last, value.clone()));
        (first == start && last == end).then_some(Met::Same(old))
    }

    /// Takes a range out; false if some of it was not there as such.
    pub fn remove(&mut self, first: Ipv4Addr, last: Ipv4Addr) -> bool {
        let mut all = true;
        for (first, last) in pieces(first, last) {
            let there = self.0.get(&first).is_some_and(|(end, _)| *end == last);
            if there {
                self.0.remove(&first);
            }
            all &= there;
        }
        all
    }

    /// The table of all of them; every other address has the value `default`.
    pub fn table(&self, default: &Bytes) -> Table {
        let mut v4: Vec<(u128, Bytes)> = vec![(0, default.clone())];
        for (&first, (last, value)) in &self.0 {
            if v4.last().is_some_and(|(at, _)| *at == u128::from(first)) {
                v4.pop();
            }
            v4.push((u128::from(first), value.clone()));
            v4.push((u128::from(*last) + 1, default.clone()));
        }
        v4.dedup_by(|next, before| next.1 == before.1);
        let broadcast = Table { v4, v6: Vec::new() };
        let v6 = vec![(0, broadcast.get(IpAddr::V4(Ipv4Addr::BROADCAST)))];
        Table { v6, ..broadcast }
    }
}

fn pieces(first: Ipv4Addr, last: Ipv4Addr) -> impl Iterator<Item = (u32, u32)> {
    let (first, last) = (u32::from(first), u32::from(last));
    let blocks = (first >> 16)..=(last >> 16);
    blocks.map(move |block| ((block << 16).max(first), (block << 16 | 0xffff).min(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn the_narrowest_network_counts() {
        let mut nets = Nets::default();
        for net in ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.255.0.0/16", "2001:db8::/32", "1.0.0.0/8"] {
            assert_eq!(nets.insert(Cidr::parse(net.as_bytes()).unwrap().0, net.into()), None);
        }
        assert!(nets.remove(Cidr::parse(b"1.0.0.0/8").unwrap().0));
        let table = nets.table();
        let cases = [
            ("9.9.9.9", "0.0.0.0/0"),
            ("1.1.1.1", "0.0.0.0/0"),
            ("10.0.0.0", "10.0.0.0/8"),
            ("10.1.2.2", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.4", "10.1.0.0/16"),
            ("10.2.0.0", "10.0.0.0/8"),
            ("10.255.255.255", "10.255.0.0/16"),
            ("11.0.0.0", "0.0.0.0/0"),
            ("::ffff:10.1.0.1", "10.1.0.0/16"),
            ("2001:db8::1", "2001:db8::/32"),
            ("2001:db9::1", ""),
        ];
        for (at, want) in cases {
            assert_eq!(table.get(at.parse().unwrap()), want, "{at}");
        }
    }

    #[test]
    fn ranges_split_and_overlap() {
        let mut ranges = Ranges::default();
        let mut add = |first, last, value: &'static str| ranges.insert(ip(first), ip(last), &Bytes::from_static(value.as_bytes()));
        assert_eq!(add("10.0.0.0", "10.2.255.255", "a"), []);
        assert_eq!(add("10.1.0.5", "10.1.0.9", "b"), []);
        assert_eq!(add("10.1.0.5", "10.1.0.9", "c"), [Met::Same("b".into())]);
        assert_eq!(add("10.1.0.8", "10.1.0.12", "d"), [Met::Overlap(ip("10.1.0.10"), ip("10.1.255.255"))]);
        assert!(ranges.remove(ip("10.2.0.0"), ip("10.2.255.255")) && !ranges.remove(ip("10.0.0.0"), ip("10.0.0.1")));
        let table = ranges.table(&"-".into());
        for (at, want) in [("9.0.0.0", "-"), ("10.1.0.4", "a"), ("10.1.0.5", "c"), ("10.1.0.10", "a"), ("10.2.0.0", "-"), ("::1", "-")] {
            assert_eq!(table.get(at.parse().unwrap()), want, "{at}");
        }
    }
}
