//! Networks as `allow`, `geo` and `set_real_ip_from` write them: <https://nginx.org/en/docs/http/ngx_http_access_module.html>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address whose low bits are zero, and how many bits of it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The first address.
    pub addr: IpAddr,
    /// 0 to 32, or to 128.
    pub bits: u8,
}

impl Cidr {
    /// Reads `address[/bits]`. The second value says whether low bits had to be cleared.
    pub fn parse(text: &[u8]) -> Option<(Self, bool)> {
        let slash = text.iter().position(|&b| b == b'/');
        let addr = ip(text.get(..slash.unwrap_or(text.len()))?)?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = match slash {
            Some(at) => text.get(at + 1..).filter(|bits| !bits.is_empty()).and_then(number)?,
            None => most,
        };
        if bits > most {
            return None;
        }
        let cidr = Self { addr: mask(addr, bits), bits };
        Some((cidr, cidr.addr != addr))
    }

    /// Whether `ip` belongs to it; an IPv4 address that stands inside an IPv6 one counts as what it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.addr.is_ipv4() && mask(ip, self.bits) == self.addr
    }

    /// First and last address as numbers.
    pub fn range(&self) -> (u128, u128) {
        let (first, all) = match self.addr {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), u128::from(u32::MAX)),
            IpAddr::V6(ip) => (u128::from(ip), u128::MAX),
        };
        (first, first | all.checked_shr(u32::from(self.bits)).unwrap_or_default())
    }
}

/// An address of either kind, without port or brackets. As in nginx, 255.255.255.255 is none.
pub fn ip(text: &[u8]) -> Option<IpAddr> {
    ipv4(text).map(IpAddr::V4).or_else(|| Some(IpAddr::V6(std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok()?)))
}

/// Four decimal numbers, as nginx reads them: zeros may lead, an empty one is 0.
pub fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split(|&b| b == b'.');
    for octet in &mut octets {
        *octet = number(parts.next()?)?;
    }
    let ip = Ipv4Addr::from(octets);
    (parts.next().is_none() && !ip.is_broadcast()).then_some(ip)
}

fn number(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0u8, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn mask(addr: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match addr {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) & u32::MAX.checked_shl(32 - bits).unwrap_or_default()).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & u128::MAX.checked_shl(128 - bits).unwrap_or_default()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_networks() {
        let parsed = |text: &str| Cidr::parse(text.as_bytes()).map(|(c, low)| (format!("{}/{}", c.addr, c.bits), low));
        let table = [
            ("10.0.0.0/8", Some(("10.0.0.0/8", false))),
            ("10.1.2.3/8", Some(("10.0.0.0/8", true))),
            ("127.0.0.1", Some(("127.0.0.1/32", false))),
            ("010.1..2", Some(("10.1.0.2/32", false))),
            ("0.0.0.0/0", Some(("0.0.0.0/0", false))),
            ("2001:db8::1/32", Some(("2001:db8::/32", true))),
            ("::/0", Some(("::/0", false))),
            ("255.255.255.255", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("256.1.1.1", None),
            ("1.2.3.4/33", None),
            ("1.2.3.4/", None),
            ("::1/129", None),
            ("host", None),
        ];
        for (text, want) in table {
            assert_eq!(parsed(text), want.map(|(net, low)| (net.to_owned(), low)), "{text}");
        }
    }

    #[test]
    fn contains_what_it_should() {
        let net = |text: &str| Cidr::parse(text.as_bytes()).unwrap().0;
        assert!(net("10.0.0.0/8").contains("::ffff:10.9.9.9".parse().unwrap()));
        assert!(!net("10.0.0.0/8").contains("11.0.0.0".parse().unwrap()));
        assert!(net("::/0").contains("fe80::1".parse().unwrap()) && !net("::/0").contains("1.1.1.1".parse().unwrap()));
        assert_eq!(net("10.0.0.0/8").range(), (0x0a00_0000, 0x0aff_ffff));
        assert_eq!(net("0.0.0.0/0").range(), (0, u128::from(u32::MAX)));
        assert_eq!(net("::1").range(), (1, 1));
    }
}
