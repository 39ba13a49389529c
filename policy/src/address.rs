//! Classifies addresses by the IANA special-purpose registries, embedded IPv4 included (N09).
//!
//! An address in, [`AddressClass`] out. Says what an address is, never whether it may be dialled.
//!
//! Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;

/// What kind of address it is. Only [`AddressClass::Global`] may be dialled without an admin
/// having named it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressClass {
    /// Globally reachable unicast.
    Global,
    /// `0.0.0.0` or `::`; many systems connect to themselves.
    Unspecified,
    /// `0.0.0.0/8`: this network (RFC 791).
    ThisNetwork,
    /// `127.0.0.0/8` or `::1`.
    Loopback,
    /// `10/8`, `172.16/12`, `192.168/16` (RFC 1918).
    Private,
    /// `169.254/16` or `fe80::/10`; cloud metadata lives here.
    LinkLocal,
    /// `100.64/10`: shared space behind a carrier's NAT (RFC 6598).
    Cgnat,
    /// `fc00::/7`: unique local (RFC 4193).
    Ula,
    /// `fec0::/10`: site-local, deprecated (RFC 3879).
    SiteLocal,
    /// `224/4` or `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// Examples in documents (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// `198.18/15` or `2001:2::/48` (RFC 2544, RFC 5180); the capture's synthetic addresses too.
    Benchmarking,
    /// `192.0.0.0/24`, `2001::/23`: protocol assignments and anycast services.
    ProtocolAssignment,
    /// IPv4 behind a translator: `64:ff9b::/96`, `64:ff9b:1::/48` (RFC 6052, RFC 8215).
    Nat64,
    /// IPv4 in `2002::/16`, or its relay `192.88.99.0/24` (RFC 3056, RFC 7526).
    SixToFour,
    /// IPv4 in `2001::/32` (RFC 4380).
    Teredo,
    /// IPv4 in an interface identifier (RFC 5214).
    Isatap,
    /// IPv4 in `::ffff:0:0/96` (RFC 4291) or `::ffff:0:0:0/96` (RFC 2765).
    Mapped,
    /// IPv4 in `::/96`, deprecated (RFC 4291).
    Compatible,
    /// `100::/64`, `100:0:0:1::/64`: discard and dummy prefixes (RFC 6666, RFC 9780).
    Discard,
    /// `2001:10::/28`, `2001:20::/28`: cryptographic identifiers (RFC 4843, RFC 7343).
    Orchid,
    /// `5f00::/16`: segment routing (RFC 9602).
    SegmentRouting,
    /// Everything that nobody has been given: `240/4`, and IPv6 outside `2000::/3`.
    Reserved,
}

impl AddressClass {
    /// Whether it may be dialled without an admin having named it.
    pub fn is_global(self) -> bool {
        self == Self::Global
    }

    /// The class as records and policies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Unspecified => "unspecified",
            Self::ThisNetwork => "this_network",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link_local",
            Self::Cgnat => "cgnat",
            Self::Ula => "ula",
            Self::SiteLocal => "site_local",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::ProtocolAssignment => "protocol_assignment",
            Self::Nat64 => "nat64",
            Self::SixToFour => "six_to_four",
            Self::Teredo => "teredo",
            Self::Isatap => "isatap",
            Self::Mapped => "mapped",
            Self::Compatible => "compatible",
            Self::Discard => "discard",
            Self::Orchid => "orchid",
            Self::SegmentRouting => "segment_routing",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Classifies an address. An IPv6 address that carries an IPv4 one is judged by the worse of
/// both: it is special itself, and where the IPv4 in it is special too, that one names the class.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    V4.iter()
        .find(|(net, _)| net.contains(&address))
        .map_or(AddressClass::Global, |(_, class)| *class)
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let own = V6
        .iter()
        .find(|(net, _)| net.contains(&address))
        .map_or(AddressClass::Reserved, |(_, class)| *class);
    let own = if own == AddressClass::Global && is_isatap(address) {
        AddressClass::Isatap
    } else {
        own
    };
    match embedded(own, address).map(classify_v4) {
        None | Some(AddressClass::Global) => own,
        Some(worse) => worse,
    }
}

/// The IPv4 address that an IPv6 address of this class carries, where it does.
fn embedded(class: AddressClass, address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    match class {
        AddressClass::SixToFour => Some(low_32(bits >> 80)),
        // Teredo hides the client's address by inverting it.
        AddressClass::Teredo => Some(low_32(!bits)),
        AddressClass::Nat64
        | AddressClass::Mapped
        | AddressClass::Compatible
        | AddressClass::Isatap => Some(low_32(bits)),
        AddressClass::Global
        | AddressClass::Unspecified
        | AddressClass::ThisNetwork
        | AddressClass::Loopback
        | AddressClass::Private
        | AddressClass::LinkLocal
        | AddressClass::Cgnat
        | AddressClass::Ula
        | AddressClass::SiteLocal
        | AddressClass::Multicast
        | AddressClass::Broadcast
        | AddressClass::Documentation
        | AddressClass::Benchmarking
        | AddressClass::ProtocolAssignment
        | AddressClass::Discard
        | AddressClass::Orchid
        | AddressClass::SegmentRouting
        | AddressClass::Reserved => None,
    }
}

fn low_32(bits: u128) -> Ipv4Addr {
    let [.., a, b, c, d] = bits.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

fn is_isatap(address: Ipv6Addr) -> bool {
    let [_, _, _, _, high, low, _, _] = address.segments();
    matches!(high, 0 | 0x0200) && low == 0x5efe
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// First match wins: the longer prefix stands before the shorter.
const V4: &[(Ipv4Net, AddressClass)] = &[
    (v4(0, 0, 0, 0, 32), AddressClass::Unspecified),
    (v4(0, 0, 0, 0, 8), AddressClass::ThisNetwork),
    (v4(10, 0, 0, 0, 8), AddressClass::Private),
    (v4(100, 64, 0, 0, 10), AddressClass::Cgnat),
    (v4(127, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(169, 254, 0, 0, 16), AddressClass::LinkLocal),
    (v4(172, 16, 0, 0, 12), AddressClass::Private),
    (v4(192, 0, 0, 0, 24), AddressClass::ProtocolAssignment),
    (v4(192, 0, 2, 0, 24), AddressClass::Documentation),
    (v4(192, 31, 196, 0, 24), AddressClass::ProtocolAssignment),
    (v4(192, 52, 193, 0, 24), AddressClass::ProtocolAssignment),
    (v4(192, 88, 99, 0, 24), AddressClass::SixToFour),
    (v4(192, 168, 0, 0, 16), AddressClass::Private),
    (v4(192, 175, 48, 0, 24), AddressClass::ProtocolAssignment),
    (v4(198, 18, 0, 0, 15), AddressClass::Benchmarking),
    (v4(198, 51, 100, 0, 24), AddressClass::Documentation),
    (v4(203, 0, 113, 0, 24), AddressClass::Documentation),
    (v4(224, 0, 0, 0, 4), AddressClass::Multicast),
    (v4(255, 255, 255, 255, 32), AddressClass::Broadcast),
    (v4(240, 0, 0, 0, 4), AddressClass::Reserved),
];

/// First match wins: the longer prefix stands before the shorter. What matches none is reserved.
const V6: &[(Ipv6Net, AddressClass)] = &[
    (
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
        AddressClass::Unspecified,
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
        AddressClass::Loopback,
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
        AddressClass::Mapped,
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
        AddressClass::Mapped,
    ),
    (v6(0, 0, 0, 0, 96), AddressClass::Compatible),
    (v6(0x64, 0xff9b, 0, 0, 96), AddressClass::Nat64),
    (v6(0x64, 0xff9b, 1, 0, 48), AddressClass::Nat64),
    (v6(0x100, 0, 0, 0, 64), AddressClass::Discard),
    (v6(0x100, 0, 0, 1, 64), AddressClass::Discard),
    (v6(0x2001, 0, 0, 0, 32), AddressClass::Teredo),
    (v6(0x2001, 2, 0, 0, 48), AddressClass::Benchmarking),
    (v6(0x2001, 0x10, 0, 0, 28), AddressClass::Orchid),
    (v6(0x2001, 0x20, 0, 0, 28), AddressClass::Orchid),
    (v6(0x2001, 0, 0, 0, 23), AddressClass::ProtocolAssignment),
    (v6(0x2001, 0xdb8, 0, 0, 32), AddressClass::Documentation),
    (v6(0x2002, 0, 0, 0, 16), AddressClass::SixToFour),
    (
        v6(0x2620, 0x4f, 0x8000, 0, 48),
        AddressClass::ProtocolAssignment,
    ),
    (v6(0x3fff, 0, 0, 0, 20), AddressClass::Documentation),
    (v6(0x2000, 0, 0, 0, 3), AddressClass::Global),
    (v6(0x5f00, 0, 0, 0, 16), AddressClass::SegmentRouting),
    (v6(0xfc00, 0, 0, 0, 7), AddressClass::Ula),
    (v6(0xfe80, 0, 0, 0, 10), AddressClass::LinkLocal),
    (v6(0xfec0, 0, 0, 0, 10), AddressClass::SiteLocal),
    (v6(0xff00, 0, 0, 0, 8), AddressClass::Multicast),
];

#[cfg(test)]
mod registry;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n09_special_addresses_are_told_from_global_ones() {
        let cases = [
            ("8.8.8.8", "global"),
            ("1.1.1.1", "global"),
            ("9.255.255.255", "global"),
            ("11.0.0.0", "global"),
            ("100.63.255.255", "global"),
            ("100.128.0.0", "global"),
            ("126.255.255.255", "global"),
            ("172.15.255.255", "global"),
            ("172.32.0.0", "global"),
            ("223.255.255.255", "global"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "this_network"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "cgnat"),
            ("100.127.255.255", "cgnat"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "link_local"),
            ("192.0.0.8", "protocol_assignment"),
            ("192.0.2.1", "documentation"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("192.88.99.1", "six_to_four"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("2606:4700::1111", "global"),
            ("2a00:1450::200e", "global"),
            ("2001:200::1", "global"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fc00::1", "ula"),
            ("fdff::1", "ula"),
            ("fe80::1", "link_local"),
            ("febf::1", "link_local"),
            ("fec0::1", "site_local"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("2001:2::1", "benchmarking"),
            ("2001:1::1", "protocol_assignment"),
            ("2001:10::1", "orchid"),
            ("2001:2f::1", "orchid"),
            ("100::1", "discard"),
            ("100:0:0:1::1", "discard"),
            ("5f00::1", "segment_routing"),
            ("4000::1", "reserved"),
            ("::ffff:ffff:ffff:ffff", "reserved"),
            ("fe00::1", "reserved"),
        ];
        for (text, expected) in cases {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(classify(address).as_str(), expected, "{text}");
        }
    }

    #[test]
    fn n09_embedded_ipv4_is_judged_by_the_worse() {
        let cases = [
            ("::ffff:8.8.8.8", "mapped"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link_local"),
            ("::ffff:0:10.0.0.1", "private"),
            ("::8.8.8.8", "compatible"),
            ("::127.0.0.1", "loopback"),
            ("::10.0.0.1", "private"),
            ("64:ff9b::8.8.8.8", "nat64"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b::169.254.169.254", "link_local"),
            ("64:ff9b:1::192.168.0.1", "private"),
            ("2002:808:808::1", "six_to_four"),
            ("2002:7f00:1::", "loopback"),
            ("2002:a9fe:a9fe::1", "link_local"),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "teredo"),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),
            ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "private"),
            ("2606:4700::5efe:8.8.8.8", "isatap"),
            ("2606:4700::200:5efe:10.0.0.1", "private"),
        ];
        for (text, expected) in cases {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(classify(address).as_str(), expected, "{text}");
            assert!(!classify(address).is_global(), "{text}");
        }
        assert!(classify("2606:4700::1".parse().unwrap()).is_global());
    }

    #[test]
    fn records_spell_a_class_as_policies_do() {
        for (_, class) in V4.iter() {
            let json = serde_json::to_string(class).unwrap();
            assert_eq!(json, format!("{:?}", class.as_str()));
        }
        for (_, class) in V6.iter() {
            let json = serde_json::to_string(class).unwrap();
            assert_eq!(json, format!("{:?}", class.as_str()));
        }
    }
}
