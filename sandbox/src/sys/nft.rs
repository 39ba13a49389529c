//! The session's firewall: an nftables table, loaded over netlink in one transaction.
//!
//! What it says, in the notation of nft(8):
//!
//! ```text
//! table inet cordon {
//!   chain capture {                               # rewrites the first packet of each flow
//!     type nat hook output priority -100; policy accept;
//!     ip daddr 127.0.0.0/8 accept                 # the session's own loopback
//!     ip daddr 192.0.2.1 accept                   # the session's own address
//!     ip6 daddr ::1 accept
//!     meta nfproto ipv4 meta l4proto tcp redirect to :3129
//!     meta nfproto ipv6 meta l4proto tcp redirect to :3129
//!     meta nfproto ipv4 udp dport 53 redirect
//!   }
//!   chain walls {                                 # sees packets after the rewriting
//!     type filter hook output priority 0; policy drop;
//!     ip daddr 127.0.0.0/8 accept
//!     ip daddr 192.0.2.1 accept
//!     ip6 daddr ::1 accept
//!     reject with icmpx admin-prohibited
//!   }
//! }
//! ```
//!
//! The namespace has no interface but loopback, so nothing could leave without it either: the
//! walls give an error at once where the kernel alone would stay silent.

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::netlink::{
    Attributes, Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Netlink,
};

/// What the ruleset depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capture {
    /// The address of the session that is not loopback.
    pub(crate) own: Ipv4Addr,
    /// Port of the listener on 127.0.0.1 that captured TCP goes to.
    pub(crate) port_v4: u16,
    /// Port of the listener on ::1 that captured TCP goes to, if there is IPv6.
    pub(crate) port_v6: Option<u16>,
}

/// Loads the ruleset: all of it or nothing.
///
/// # Errors
/// The kernel's answer; `ENOENT`, `EOPNOTSUPP` or `EPROTONOSUPPORT` mean that it lacks a part of
/// nftables.
pub(crate) fn load(capture: Capture) -> io::Result<()> {
    let netfilter = Some(rustix::net::netlink::NETFILTER);
    Netlink::open(netfilter)?.request(ruleset(capture))
}

fn ruleset(capture: Capture) -> Vec<Message> {
    let mut messages = vec![
        batch_edge(NFNL_MSG_BATCH_BEGIN),
        table(),
        chain(CAPTURE, c"nat", PRIORITY_DST_NAT, NF_ACCEPT),
        chain(WALLS, c"filter", PRIORITY_FILTER, NF_DROP),
    ];
    for own in to_the_session_itself(capture.own) {
        messages.push(rule(CAPTURE, own.clone().accept()));
        messages.push(rule(WALLS, own.accept()));
    }
    let tcp_v4 = Expressions::new()
        .family(NFPROTO_IPV4)
        .transport(IPPROTO_TCP);
    messages.push(rule(CAPTURE, tcp_v4.redirect_to(capture.port_v4)));
    if let Some(port) = capture.port_v6 {
        let tcp_v6 = Expressions::new()
            .family(NFPROTO_IPV6)
            .transport(IPPROTO_TCP);
        messages.push(rule(CAPTURE, tcp_v6.redirect_to(port)));
    }
    // No IPv6 twin: the answering socket listens on IPv4 only, and a refused query falls back.
    let dns = Expressions::new()
        .family(NFPROTO_IPV4)
        .transport(IPPROTO_UDP)
        .destination_port(DNS_PORT);
    messages.push(rule(CAPTURE, dns.redirect()));
    messages.push(rule(WALLS, Expressions::new().reject()));
    messages.push(batch_edge(NFNL_MSG_BATCH_END));
    messages
}

/// Matches of the destinations that stay inside: loopback and the session's own address.
fn to_the_session_itself(own: Ipv4Addr) -> [Expressions; 3] {
    let v4 = || Expressions::new().family(NFPROTO_IPV4);
    [
        v4().destination_v4(Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::new(255, 0, 0, 0)),
        v4().destination_v4(own, Ipv4Addr::BROADCAST),
        Expressions::new()
            .family(NFPROTO_IPV6)
            .destination_v6(Ipv6Addr::LOCALHOST),
    ]
}

/// The edge of a transaction. Fixed part, `struct nfgenmsg`: family, version, and (big endian)
/// the subsystem that the transaction is for.
fn batch_edge(kind: u16) -> Message {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    Message::new(kind, 0, &[NFPROTO_UNSPEC, 0, high, low])
}

/// A request to nf_tables. Fixed part as above; the subsystem is in the type's high byte.
fn request(kind: u16, flags: u16) -> Message {
    let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
    Message::new(
        kind,
        flags | NLM_F_CREATE | NLM_F_ACK,
        &[NFPROTO_INET, 0, 0, 0],
    )
}

fn table() -> Message {
    request(NFT_MSG_NEWTABLE, NLM_F_EXCL).attribute(NFTA_TABLE_NAME, TABLE.to_bytes_with_nul())
}

/// A base chain on the output hook.
fn chain(name: &CStr, kind: &CStr, priority: i32, policy: u32) -> Message {
    let hook = Attributes::new()
        .attribute(NFTA_HOOK_HOOKNUM, &NF_INET_LOCAL_OUT.to_be_bytes())
        .attribute(NFTA_HOOK_PRIORITY, &priority.to_be_bytes());
    request(NFT_MSG_NEWCHAIN, NLM_F_EXCL)
        .attribute(NFTA_CHAIN_TABLE, TABLE.to_bytes_with_nul())
        .attribute(NFTA_CHAIN_NAME, name.to_bytes_with_nul())
        .nest(NFTA_CHAIN_HOOK, &hook)
        .attribute(NFTA_CHAIN_POLICY, &policy.to_be_bytes())
        .attribute(NFTA_CHAIN_TYPE, kind.to_bytes_with_nul())
}

fn rule(chain: &CStr, expressions: Expressions) -> Message {
    request(NFT_MSG_NEWRULE, NLM_F_APPEND)
        .attribute(NFTA_RULE_TABLE, TABLE.to_bytes_with_nul())
        .attribute(NFTA_RULE_CHAIN, chain.to_bytes_with_nul())
        .nest(NFTA_RULE_EXPRESSIONS, &expressions.0)
}

/// The expressions of one rule, in order: each loads, compares or acts, and a comparison that
/// fails ends the rule. All go through one register.
#[derive(Clone, Debug)]
struct Expressions(Attributes);

impl Expressions {
    fn new() -> Self {
        Self(Attributes::new())
    }

    /// Shape: list element { name, data { the expression's own attributes } }.
    fn push(self, name: &CStr, data: &Attributes) -> Self {
        let element = Attributes::new()
            .attribute(NFTA_EXPR_NAME, name.to_bytes_with_nul())
            .nest(NFTA_EXPR_DATA, data);
        Self(self.0.nest(NFTA_LIST_ELEM, &element))
    }

    fn family(self, family: u8) -> Self {
        self.meta(NFT_META_NFPROTO).equals(&[family])
    }

    fn transport(self, protocol: u8) -> Self {
        self.meta(NFT_META_L4PROTO).equals(&[protocol])
    }

    /// Destination address: bytes 16 to 19 of the IPv4 header.
    fn destination_v4(self, network: Ipv4Addr, mask: Ipv4Addr) -> Self {
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4)
            .mask(&mask.octets())
            .equals(&network.octets())
    }

    /// Destination address: bytes 24 to 39 of the IPv6 header.
    fn destination_v6(self, address: Ipv6Addr) -> Self {
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16)
            .equals(&address.octets())
    }

    /// Destination port: bytes 2 and 3 of the TCP or UDP header.
    fn destination_port(self, port: u16) -> Self {
        self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
            .equals(&port.to_be_bytes())
    }

    fn meta(self, key: u32) -> Self {
        let data = Attributes::new()
            .attribute(NFTA_META_KEY, &key.to_be_bytes())
            .attribute(NFTA_META_DREG, &REGISTER.to_be_bytes());
        self.push(c"meta", &data)
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        let data = Attributes::new()
            .attribute(NFTA_PAYLOAD_DREG, &REGISTER.to_be_bytes())
            .attribute(NFTA_PAYLOAD_BASE, &base.to_be_bytes())
            .attribute(NFTA_PAYLOAD_OFFSET, &offset.to_be_bytes())
            .attribute(NFTA_PAYLOAD_LEN, &length.to_be_bytes());
        self.push(c"payload", &data)
    }

    /// Register and `mask`, exclusive-or with nothing.
    fn mask(self, mask: &[u8; 4]) -> Self {
        let data = Attributes::new()
            .attribute(NFTA_BITWISE_SREG, &REGISTER.to_be_bytes())
            .attribute(NFTA_BITWISE_DREG, &REGISTER.to_be_bytes())
            .attribute(NFTA_BITWISE_LEN, &4_u32.to_be_bytes())
            .nest(NFTA_BITWISE_MASK, &value(mask))
            .nest(NFTA_BITWISE_XOR, &value(&[0; 4]));
        self.push(c"bitwise", &data)
    }

    fn equals(self, wanted: &[u8]) -> Self {
        let data = Attributes::new()
            .attribute(NFTA_CMP_SREG, &REGISTER.to_be_bytes())
            .attribute(NFTA_CMP_OP, &NFT_CMP_EQ.to_be_bytes())
            .nest(NFTA_CMP_DATA, &value(wanted));
        self.push(c"cmp", &data)
    }

    fn accept(self) -> Self {
        let code = Attributes::new().attribute(NFTA_VERDICT_CODE, &NF_ACCEPT.to_be_bytes());
        let verdict = Attributes::new().nest(NFTA_DATA_VERDICT, &code);
        let data = Attributes::new()
            .attribute(NFTA_IMMEDIATE_DREG, &NFT_REG_VERDICT.to_be_bytes())
            .nest(NFTA_IMMEDIATE_DATA, &verdict);
        self.push(c"immediate", &data)
    }

    /// To the loopback address of the packet's family, on the same port.
    fn redirect(self) -> Self {
        self.push(c"redir", &Attributes::new())
    }

    /// To the loopback address of the packet's family, on `port`.
    fn redirect_to(self, port: u16) -> Self {
        let load = Attributes::new()
            .attribute(NFTA_IMMEDIATE_DREG, &REGISTER.to_be_bytes())
            .nest(NFTA_IMMEDIATE_DATA, &value(&port.to_be_bytes()));
        let redirect =
            Attributes::new().attribute(NFTA_REDIR_REG_PROTO_MIN, &REGISTER.to_be_bytes());
        self.push(c"immediate", &load).push(c"redir", &redirect)
    }

    fn reject(self) -> Self {
        let data = Attributes::new()
            .attribute(NFTA_REJECT_TYPE, &NFT_REJECT_ICMPX_UNREACH.to_be_bytes())
            .attribute(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_ADMIN_PROHIBITED]);
        self.push(c"reject", &data)
    }
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().attribute(NFTA_DATA_VALUE, bytes)
}

const TABLE: &CStr = c"cordon";
const CAPTURE: &CStr = c"capture";
const WALLS: &CStr = c"walls";
const DNS_PORT: u16 = 53;

// From linux/netfilter.h and linux/netfilter/nfnetlink.h.
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NF_INET_LOCAL_OUT: u32 = 3;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const PRIORITY_DST_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

// From linux/netfilter/nf_tables.h.
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFT_META_NFPROTO: u32 = 15;
const NFT_META_L4PROTO: u32 = 16;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFT_CMP_EQ: u32 = 0;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
const NFT_REJECT_ICMPX_ADMIN_PROHIBITED: u8 = 3;
const NFT_REG_VERDICT: u32 = 0;
/// The first general register.
const REGISTER: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE_ALL: Capture = Capture {
        own: Ipv4Addr::new(192, 0, 2, 1),
        port_v4: 3129,
        port_v6: Some(3129),
    };

    #[cfg(target_endian = "little")]
    #[test]
    fn bytes_of_a_chain_and_a_rule() {
        let hook = [
            20, 0, 4, 0x80, 8, 0, 1, 0, 0, 0, 0, 3, 8, 0, 2, 0, 0xff, 0xff, 0xff, 0x9c,
        ];
        let bytes = format!("{:?}", chain(CAPTURE, c"nat", -100, NF_ACCEPT));
        let hook = format!("{hook:?}");
        let hook = hook.trim_matches(['[', ']']);
        assert!(bytes.contains(hook), "{bytes}\nlacks {hook}");

        let port = Expressions::new().destination_port(53);
        #[rustfmt::skip]
        let expected = Attributes::new()
            .attribute(0x8001, &[
                12, 0, 1, 0, b'p', b'a', b'y', b'l', b'o', b'a', b'd', 0,
                36, 0, 2, 0x80,
                8, 0, 1, 0, 0, 0, 0, 1, // into register 1
                8, 0, 2, 0, 0, 0, 0, 2, // from the transport header
                8, 0, 3, 0, 0, 0, 0, 2, // at byte 2
                8, 0, 4, 0, 0, 0, 0, 2, // two bytes
            ])
            .attribute(0x8001, &[
                8, 0, 1, 0, b'c', b'm', b'p', 0,
                32, 0, 2, 0x80,
                8, 0, 1, 0, 0, 0, 0, 1, // register 1
                8, 0, 2, 0, 0, 0, 0, 0, // equals
                12, 0, 3, 0x80, 6, 0, 1, 0, 0, 53, 0, 0, // 53, padded
            ]);
        assert_eq!(port.0, expected);
    }

    #[test]
    fn ipv6_is_captured_only_where_it_has_a_listener() {
        let without = Capture {
            port_v6: None,
            ..CAPTURE_ALL
        };
        let (with, without) = (ruleset(CAPTURE_ALL), ruleset(without));
        assert_eq!(with.len(), without.len() + 1);
        assert!(without.iter().all(|message| with.contains(message)));
    }
}
