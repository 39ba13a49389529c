//! What the judge writes down: originals that policy wants kept, and counts of what was done.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
};

use rustix::fs::{AtFlags, Stat, statat};

use super::{
    Changed, FileCounts, Stop, Why,
    area::Area,
    judge::{Judge, path_of},
    ledger::Found,
    open::Counted,
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
        let kept = keeper.keep(change, (&place.parent, &place.name), grant, host);
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
            keeper.moved(change, grant, from, to);
        }
    }

    /// Counts a file that was made, or opened for writing.
    pub(super) fn count_opened(&self, file: &Stat, opened: &Counted<'_>) {
        let Counted {
            area,
            place,
            made,
            before,
        } = *opened;
        // Its name costs a call, and of what is known already it is not needed.
        let mut known = false;
        self.count(area, |counts| known = !made && counts.knows(file));
        if known {
            return;
        }
        let name = self.host_of(area, place);
        self.count(area, |counts| match made {
            true => counts.made(file, name),
            false => counts.opened(file, before, name),
        });
    }

    /// Counts a name that was made otherwise; of a file that is new, or has it beside others.
    pub(super) fn count_named(&self, area: Area, place: &Place, is_link: bool) {
        if self.areas.grant(area).is_none() {
            return;
        }
        let file = statat(
            &place.parent,
            &*place.name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        );
        let name = self.host_of(area, place);
        self.count(area, |counts| {
            counts.named(file.as_ref().ok(), !is_link, name)
        });
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
                let new = || FileCounts::of(&grant.host);
                count(counts.entry(grant.inside.clone()).or_insert_with(new));
            }
        }
    }
}
