//! The session's table of names and their synthetic addresses.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
};

use cordon_policy::NormalizedHost;

use crate::limits;

/// 198.18.0.0/15: set aside for benchmarks, so never anybody's address (RFC 2544, RFC 6890).
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// Size of 198.18.0.0/15.
const SIZE: u32 = 1 << 17;

/// Addresses at the start that no name gets: some programs take `.0` and `.1` for a network and
/// its gateway.
const RESERVED: u32 = 16;

/// Names and synthetic addresses, one to one. A pair never changes within the session, so an
/// address that a program remembers still means the name it asked for.
#[derive(Debug, Default)]
pub(crate) struct SyntheticNames(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    indices: HashMap<NormalizedHost, u32>,
    names: Vec<NormalizedHost>,
}

impl SyntheticNames {
    /// Whether an address is of the synthetic range, given out or not.
    pub(crate) fn covers(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => offset(address).is_some(),
            IpAddr::V6(_) => false,
        }
    }

    /// The address of `host`, given out now if need be; none when the table is full.
    pub(crate) fn address_of(&self, host: NormalizedHost) -> Option<Ipv4Addr> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = table.indices.get(&host) {
            return Some(address(*index));
        }
        if table.names.len() >= limits::DNS_NAMES_PER_SESSION {
            return None;
        }
        let index = u32::try_from(table.names.len()).ok()?;
        table.names.push(host.clone());
        table.indices.insert(host, index);
        Some(address(index))
    }

    /// The name that `address` was given out for.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<NormalizedHost> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        let index = offset(address)?.checked_sub(RESERVED)?;
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.names.get(usize::try_from(index).ok()?).cloned()
    }
}

fn address(index: u32) -> Ipv4Addr {
    // INVARIANT: DNS_NAMES_PER_SESSION + RESERVED is far below SIZE, so this stays in the range.
    Ipv4Addr::from(FIRST + RESERVED + index)
}

fn offset(address: Ipv4Addr) -> Option<u32> {
    let offset = u32::from(address).checked_sub(FIRST)?;
    (offset < SIZE).then_some(offset)
}
