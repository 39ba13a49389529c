//! A Bloom filter over the terms of a segment: says at once that a term is not there.

use sha2::{Digest as _, Sha256};

use crate::find::keys::Field;

/// Ten bits for each term, seven of them set: about one absent term in 120 seems present.
#[derive(Debug)]
pub(super) struct Filter(Vec<u8>);

impl Filter {
    pub(super) fn with_terms(count: usize) -> Self {
        Self(vec![0; (count.saturating_mul(BITS_EACH) / 8).max(8)])
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn add(&mut self, field: Field, value: &str) {
        for bit in self.bits(field, value) {
            if let Some(byte) = self.0.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    pub(super) fn may_hold(&self, field: Field, value: &str) -> bool {
        self.bits(field, value)
            .into_iter()
            .all(|bit| self.0.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
    }

    /// Which bits a term sets: two halves of a hash, combined (Kirsch and Mitzenmacher 2006).
    fn bits(&self, field: Field, value: &str) -> [usize; HASHES] {
        let hash = Sha256::new()
            .chain_update([field.number()])
            .chain_update(value.as_bytes())
            .finalize();
        let half = |from: usize| {
            let bytes = hash.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let (first, second) = (half(0), half(8) | 1);
        let bits = u64::try_from(self.0.len().saturating_mul(8)).unwrap_or(u64::MAX).max(1);
        let mut place = first;
        [(); HASHES].map(|()| {
            let bit = place % bits;
            place = place.wrapping_add(second);
            // Below the number of bits, which is a length in memory.
            usize::try_from(bit).unwrap_or_default()
        })
    }
}

const BITS_EACH: usize = 10;
const HASHES: usize = 7;
