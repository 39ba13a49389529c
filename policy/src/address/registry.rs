//! Holds the table to IANA's special-purpose registries, as IANA publishes them (CC0): whatever is
//! registered is special here, also what the registry calls globally reachable.
//!
//! Source: `iana-ipv4-special-registry-1.csv`, `iana-ipv6-special-registry-1.csv`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{AddressClass, V4, V6, classify};

const REGISTRIES: [(&str, usize); 2] = [
    (
        include_str!("../../data/iana-ipv4-special-registry-1.csv"),
        26,
    ),
    (
        include_str!("../../data/iana-ipv6-special-registry-1.csv"),
        25,
    ),
];

/// The registered blocks. Names and RFCs may hold line breaks, so that only what begins a line and
/// is a block counts.
fn blocks() -> Vec<IpNet> {
    let mut all = Vec::new();
    for (csv, expected) in REGISTRIES {
        let before = all.len();
        for line in csv.lines().skip(1) {
            let cell = match line.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().unwrap(),
                None => line.split(',').next().unwrap(),
            };
            let words = cell.split([',', ' ']).filter(|word| word.contains('/'));
            all.extend(words.map(|word| word.parse::<IpNet>().unwrap()));
        }
        // One that is not read would pass unseen.
        assert_eq!(all.len() - before, expected);
    }
    all
}

#[test]
fn n09_every_registered_block_is_special() {
    for block in blocks() {
        let middle: IpAddr = match block {
            IpNet::V4(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                std::net::Ipv4Addr::from_bits(first + (last - first) / 2).into()
            }
            IpNet::V6(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                std::net::Ipv6Addr::from_bits(first + (last - first) / 2).into()
            }
        };
        for address in [block.network(), middle, block.broadcast()] {
            let class = classify(address);
            assert!(!class.is_global(), "{address} of {block} is {class}");
        }
    }
}

#[test]
fn n09_what_is_special_and_not_registered_is_known() {
    let registered = blocks();
    let covered = |net: IpNet| registered.iter().any(|block| block.contains(&net));
    let ours = V4
        .iter()
        .map(|(net, class)| (IpNet::from(*net), *class))
        .chain(V6.iter().map(|(net, class)| (IpNet::from(*net), *class)));
    let more: Vec<String> = ours
        .filter(|(net, class)| *class != AddressClass::Global && !covered(*net))
        .map(|(net, _)| net.to_string())
        .collect();
    // Multicast has registries of its own; the rest is deprecated, and still routed by some.
    let expected = [
        "224.0.0.0/4",
        "::ffff:0:0:0/96",
        "::/96",
        "fec0::/10",
        "ff00::/8",
    ];
    assert_eq!(more, expected);
}
