//! Where a session's requests led, counted by destination; bounded, the rest together.

use std::collections::HashMap;

use cordon_audit::record::DestinationTotals;

/// The destinations of one session.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    places: HashMap<String, usize>,
    pub(super) counted: Vec<DestinationTotals>,
    pub(super) others: DestinationTotals,
}

/// A destination that is counted by itself; `None` for the others.
pub(super) type Place = Option<usize>;

impl Destinations {
    /// Where a destination is counted.
    pub(super) fn place(&mut self, id: String) -> Place {
        if let Some(place) = self.places.get(&id) {
            return Some(*place);
        }
        if self.is_full() {
            return None;
        }
        let place = self.counted.len();
        self.counted.push(DestinationTotals {
            id: id.clone(),
            ..DestinationTotals::default()
        });
        self.places.insert(id, place);
        Some(place)
    }

    /// What is counted there.
    pub(super) fn at(&mut self, place: Place) -> &mut DestinationTotals {
        let counted = place.and_then(|place| self.counted.get_mut(place));
        counted.unwrap_or(&mut self.others)
    }

    /// Whether further ones are counted together.
    pub(super) fn is_full(&self) -> bool {
        self.counted.len() >= MAX_DESTINATIONS
    }
}

/// Destinations that are counted one by one.
pub(super) const MAX_DESTINATIONS: usize = 1024;
