//! What the judge writes down: originals that policy wants kept, and counts of what was done.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
};

use super::{
    Changed, FileCounts, Stop, Why,
    area::Area,
    judge::{Judge, path_of},
    ledger::Found,
    resolve::Place,
};

impl Judge {
    /// Where `place` is on the host, where it lies in a grant.
    pub(super) fn host_of(&self, area: Area, place: &Place) -> Option<PathBuf> {
        self.areas.grant(area)?;
        let inside = path_of(self.own_fds(), place).ok()?;
        self.areas.on_host(&inside)
    }

    pub(super) fn preserves(&self, area: Area) -> bool {
        self.areas.grant(area).is_some_and(|grant| grant.preserve)
    }

    /// Keeps `found`, which is at `place` and about to change, if policy asks for it and it was
    /// there before.
    pub(super) fn keep(
        &mut self,
        change: Changed,
        area: Area,
        place: &Place,
        found: &Found,
        host: Option<&Path>,
    ) -> Result<(), Stop> {
        let Some(grant) = self.areas.grant(area).filter(|grant| grant.preserve) else {
            return Ok(());
        };
        let since = grant.since;
        if !self.ledger.keeps(&place.parent, found, since)? {
            return Ok(());
        }
        let mut keeper = self
            .books
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (Some(keeper), Some(host)) = (keeper.as_mut(), host) else {
            return Err(Stop::Refuse(Why::NotKept));
        };
        let kept = keeper.keep(change, (&place.parent, &place.name), &grant.host, host);
        kept.map_err(|_| Stop::Refuse(Why::NotKept))
    }

    pub(super) fn note_kept_move(
        &self,
        change: Changed,
        area: Area,
        from: Option<&Path>,
        to: Option<&Path>,
    ) {
        let mut keeper = self
            .books
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let (Some(grant), Some(keeper), Some(from), Some(to)) =
            (self.areas.grant(area), keeper.as_mut(), from, to)
        {
            keeper.moved(change, &grant.host, from, to);
        }
    }

    /// Counts something in `area`, where it is a grant.
    pub(super) fn count(&self, area: Area, count: impl FnOnce(&mut FileCounts)) {
        if let Some(grant) = self.areas.grant(area) {
            let mut counts = self
                .books
                .counts
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(counts) = counts.get_mut(&grant.inside) {
                count(counts);
            } else {
                count(counts.entry(grant.inside.clone()).or_default());
            }
        }
    }
}
