//! Retention: which sealed segments may go, what holds them, and their going.
//!
//! Records go by whole segments and from the oldest on (tlog-tiles pruning: a minimum index that
//! only rises), when everything in a segment is old enough and no hold concerns any of it. Tiles
//! of level 1 and above and all kept checkpoints stay, so proofs for what remains stay valid.
//! Never touches the last segment or a journal; makes no records, its caller does that first.

use std::{io, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Kind, Record,
    draft::int,
    files,
    find::{Condition, Field, Order, Pattern, Query},
    read::Reader,
    seal::tiles::{Tile, WIDTH},
    segment::{Newest, Segment},
    side,
};

/// What a record tells, as far as retention goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The service, sessions, and what was done to the log itself.
    Administration,
    /// What was asked and decided.
    Decisions,
    /// Ends of flows.
    Flows,
}

/// How long records are kept, by class, in days. Absent: for ever.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Records of the service, of sessions, and of what was done to the log itself.
    pub administration_days: Option<u32>,
    /// Decisions.
    pub decisions_days: Option<u32>,
    /// Ends of flows.
    pub flows_days: Option<u32>,
}

/// Which records a hold concerns: those to which everything that is set here applies.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Of this session.
    pub session: Option<String>,
    /// Of this user's sessions.
    pub user: Option<String>,
    /// From this time on, in microseconds since the epoch.
    pub from_us: Option<u64>,
    /// Up to this time.
    pub to_us: Option<u64>,
}

/// A hold: its records are kept however old they are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// Which records.
    pub scope: Scope,
    /// Why.
    pub because: String,
    /// Who placed it.
    pub by: String,
}

/// What pruning does, or would do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pruning {
    /// The first record that is there now.
    pub from: u64,
    /// The first record that stays.
    pub minimum: u64,
    /// Segments that go.
    pub segments: u64,
    /// The hold that keeps the next segment although it is old enough.
    pub held_by: Option<u64>,
}

impl Class {
    /// The class of a kind of record.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Decision => Self::Decisions,
            Kind::FlowClose => Self::Flows,
            Kind::SessionStart
            | Kind::SessionState
            | Kind::SessionEnd
            | Kind::Approval
            | Kind::Start
            | Kind::Stop
            | Kind::LogGap
            | Kind::LogOrigin
            | Kind::KeyRotate
            | Kind::RetentionPrune
            | Kind::OriginalsPurge
            | Kind::RetentionHold
            | Kind::RetentionRelease
            | Kind::Redaction
            | Kind::Export
            | Kind::PolicyLoad
            | Kind::PolicyRefused
            | Kind::PolicyPending
            | Kind::PolicyTry
            | Kind::PolicyRollout
            | Kind::PolicyPromote
            | Kind::PolicyRollback => Self::Administration,
        }
    }
}

impl Retention {
    /// The same for every class.
    pub fn days(days: u32) -> Self {
        Self {
            administration_days: Some(days),
            decisions_days: Some(days),
            flows_days: Some(days),
        }
    }

    /// Whether anything ever goes.
    pub fn is_forever(&self) -> bool {
        *self == Self::default()
    }

    fn lets_go(&self, newest: &Newest, now_us: u64) -> bool {
        let classes = [
            (self.administration_days, newest.administration_us),
            (self.decisions_days, newest.decisions_us),
            (self.flows_days, newest.flows_us),
        ];
        classes.into_iter().all(|(days, newest_us)| match days {
            _ if newest_us == 0 => true,
            None => false,
            Some(days) => {
                let limit = Duration::from_secs(u64::from(days) * 86_400);
                now_us.saturating_sub(newest_us) > int(limit.as_micros())
            }
        })
    }
}

impl Scope {
    /// Whether it says anything: a hold on everything is no retention at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn concerns(&self, record: &Record) -> bool {
        let user = record.principal.as_ref().map(|principal| &principal.id);
        self.session
            .as_ref()
            .is_none_or(|s| record.session.as_ref() == Some(s))
            && self.user.as_ref().is_none_or(|name| user == Some(name))
            && self.from_us.is_none_or(|from| record.ts_us >= from)
            && self.to_us.is_none_or(|to| record.ts_us <= to)
    }

    /// Whether it can concern a record of the segment.
    fn may_concern(&self, segment: &Segment) -> bool {
        let newest = segment.newest.latest_us();
        self.session
            .as_ref()
            .is_none_or(|session| segment.may_hold(session))
            && self.from_us.is_none_or(|from| newest >= from)
    }
}

impl Hold {
    /// The hold that a record places or releases.
    fn of(record: Record) -> Option<Self> {
        let upkeep = record.upkeep?;
        Some(Self {
            id: upkeep.hold?,
            scope: Scope {
                session: upkeep.session,
                user: upkeep.user,
                from_us: upkeep.from_us,
                to_us: upkeep.to_us,
            },
            because: upkeep.because.unwrap_or_default(),
            by: record.principal.map(|by| by.id).unwrap_or_default(),
        })
    }
}

/// The first record that is there: 0 unless older ones were pruned.
pub(crate) fn minimum(log: &Path) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Pruned {
        minimum: u64,
    }
    let path = log.join(PRUNED);
    let Some(text) = files::read_small(&path, 1024)? else {
        return Ok(0);
    };
    let pruned: Pruned = serde_json::from_slice(&text).map_err(|error| {
        let what = format!("`{}` is damaged: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    Ok(pruned.minimum)
}

/// What may go by now.
pub(crate) fn plan(log: &Path, retention: &Retention, now_us: u64) -> io::Result<Pruning> {
    let from = minimum(log)?;
    let mut plan = Pruning {
        from,
        minimum: from,
        segments: 0,
        held_by: None,
    };
    let holds = placed(log)?;
    let firsts = Segment::list(log)?;
    // The last segment commits to what is sealed: it stays.
    let all_but_last = firsts.split_last().map_or(&[][..], |(_, rest)| rest);
    for first in all_but_last {
        let segment = Segment::load(log, *first)?;
        if segment.end <= from {
            continue;
        }
        if !retention.lets_go(&segment.newest, now_us) {
            break;
        }
        if let Some(hold) = holding(log, &segment, &holds)? {
            plan.held_by = Some(hold);
            break;
        }
        plan.minimum = segment.end;
        plan.segments += 1;
    }
    Ok(plan)
}

/// Lets everything before `minimum` go. Idempotent; stopped anywhere, the next time completes it.
/// `open` is the journal that is written to.
pub(crate) fn prune(log: &Path, minimum: u64, open: u64) -> io::Result<()> {
    let text = format!("{{\"minimum\":{minimum}}}\n");
    files::replace(&log.join(PRUNED), text.as_bytes())?;
    side::prune(log, minimum, open)?;
    // The oldest first and each segment's manifest last: it tells what is left to do.
    for first in Segment::list(log)?
        .into_iter()
        .filter(|first| *first < minimum)
    {
        let segment = Segment::load(log, first)?;
        for n in first / WIDTH..segment.end.min(minimum) / WIDTH {
            for tile in [Tile::Entries, Tile::Hashes(0)] {
                files::remove(&tile.path(log, n, WIDTH))?;
            }
        }
        Segment::remove(log, first)?;
    }
    files::sync_directory(log)
}

/// The holds in force, as the records of them say: there is nothing else that could be lost.
/// Complete after any pruning, because [`plan`] keeps the record of a hold that is in force.
pub(crate) fn holds(log: &Path) -> io::Result<Vec<Hold>> {
    let placed = placed(log)?.into_iter();
    Ok(placed.map(|(_, hold)| hold).collect())
}

/// The holds in force, each with the place of its record.
fn placed(log: &Path) -> io::Result<Vec<(u64, Hold)>> {
    let kinds = [Kind::RetentionHold, Kind::RetentionRelease];
    let query = Query {
        conditions: vec![Condition {
            field: Field::Kind,
            any: kinds.map(|kind| Pattern::exact(kind.as_str())).into(),
        }],
        order: Order::OldestFirst,
        cursor: Some(minimum(log)?),
        ..Query::default()
    };
    let found = query
        .page(&Reader::at(log), MAX_HOLD_RECORDS)
        .map_err(io::Error::other)?;
    if found.next.is_some() {
        return Err(io::Error::other("the log has too many records of holds"));
    }
    let mut holds: Vec<(u64, Hold)> = Vec::new();
    for record in found.records {
        let seq = record.seq;
        let released = record.kind == Kind::RetentionRelease;
        let hold = Hold::of(record).ok_or_else(|| {
            let what = format!("record {seq} is of a hold and does not say which");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        if released {
            holds.retain(|(_, placed)| placed.id != hold.id);
        } else {
            holds.push((seq, hold));
        }
    }
    Ok(holds)
}

/// The hold whose own record is in the segment, or that concerns a record of it.
fn holding(log: &Path, segment: &Segment, holds: &[(u64, Hold)]) -> io::Result<Option<u64>> {
    let own = holds
        .iter()
        .find(|(seq, _)| (segment.first..segment.end).contains(seq));
    if let Some((_, hold)) = own {
        return Ok(Some(hold.id));
    }
    let near: Vec<&Hold> = holds
        .iter()
        .map(|(_, hold)| hold)
        .filter(|hold| hold.scope.may_concern(segment))
        .collect();
    if near.is_empty() {
        return Ok(None);
    }
    let records = Reader::at(log).records(segment.first);
    for record in records {
        let record = record.map_err(io::Error::other)?;
        if record.seq >= segment.end {
            break;
        }
        if let Some(hold) = near.iter().find(|hold| hold.scope.concerns(&record)) {
            return Ok(Some(hold.id));
        }
    }
    Ok(None)
}

/// The minimum of a pruning that was interrupted.
pub(crate) fn unfinished(log: &Path) -> io::Result<Option<u64>> {
    let minimum = minimum(log)?;
    let oldest = Segment::list(log)?.first().copied();
    Ok(oldest
        .is_some_and(|first| first < minimum)
        .then_some(minimum))
}

const PRUNED: &str = "pruned.json";
const MAX_HOLD_RECORDS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_goes_when_every_class_in_it_is_old_enough() {
        let day = 86_400_000_000;
        let retention = Retention {
            administration_days: None,
            decisions_days: Some(30),
            flows_days: Some(10),
        };
        let newest = |administration, decisions, flows| Newest {
            administration_us: administration * day,
            decisions_us: decisions * day,
            flows_us: flows * day,
        };
        for (now, newest, goes) in [
            (100, newest(0, 69, 89), true),
            (100, newest(0, 70, 89), false),
            (100, newest(0, 69, 90), false),
            (100, newest(0, 0, 89), true),
            (100, newest(1, 69, 89), false),
        ] {
            assert_eq!(retention.lets_go(&newest, now * day), goes, "{newest:?}");
        }
        assert!(!Retention::default().lets_go(&newest(0, 1, 0), u64::MAX));
        assert!(Retention::days(1).lets_go(&newest(1, 1, 1), 3 * day));
    }
}
