//! The decisions of a log: which of them, from when on, and as requests again.
//!
//! A log and a [`Selection`] in, one record after the other out. Keeps nothing but the facts of
//! sessions.

use std::time::{Duration, SystemTime};

use cordon_audit::{
    Record,
    past::{self, NotAgain, Sessions},
    read::{ReadError, Reader, Records},
};
use cordon_policy::{Request, ask};

use crate::tally::Bounded;

/// Which records are decided again.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// From when on.
    pub since: Option<SystemTime>,
    /// Until when.
    pub until: Option<SystemTime>,
    /// Of this session only.
    pub session: Option<String>,
}

/// The different requests of `selection`, at most `most` of them, each as it was first asked.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub fn requests(
    log: &Reader,
    selection: &Selection,
    most: usize,
) -> Result<Vec<Request>, ReadError> {
    let mut kept: Bounded<(String, Option<String>, String), Request> = Bounded::new(most);
    each_decision(log, selection, |record, sessions| {
        if let Ok(request) = request_of(record, sessions, log)? {
            let session = &request.session;
            let words = ask::words(&request.operation);
            let key = (session.user.clone(), session.agent.clone(), words);
            let _kept = kept.entry(key, || request);
        }
        Ok(())
    })?;
    let mut requests: Vec<_> = kept.into_kept().into_iter().collect();
    requests.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(requests.into_iter().map(|(_, request)| request).collect())
}

/// Calls `visit` with every decision of `selection`, and with the sessions known by then.
pub(crate) fn each_decision(
    log: &Reader,
    selection: &Selection,
    mut visit: impl FnMut(&Record, &mut Sessions) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    each_record(
        log,
        selection,
        |record, is_selected, sessions| match is_selected {
            true => visit(record, sessions),
            false => Ok(()),
        },
    )
}

/// Calls `visit` with every record of the sessions of `selection` from about its beginning on, with
/// whether it is a decision that is selected, and with the sessions known by then.
pub(crate) fn each_record(
    log: &Reader,
    selection: &Selection,
    mut visit: impl FnMut(&Record, bool, &mut Sessions) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let from = selection.since.map(micros).unwrap_or_default();
    let to = selection.until.map_or(u64::MAX, micros);
    let mut sessions = Sessions::default();
    for record in since(log, selection.since)? {
        let record = record?;
        sessions.note(&record);
        let wanted = selection.session.as_ref();
        if wanted.is_none_or(|wanted| record.session.as_ref() == Some(wanted)) {
            let is_selected = record.is_decision() && (from..=to).contains(&record.ts_us);
            visit(&record, is_selected, &mut sessions)?;
        }
    }
    Ok(())
}

/// The request of a record, or why there is none.
pub(crate) fn request_of(
    record: &Record,
    sessions: &mut Sessions,
    log: &Reader,
) -> Result<Result<Request, NotAgain>, ReadError> {
    Ok(match sessions.facts(record, log)? {
        Some(facts) => past::request(record, facts),
        None => Err(NotAgain::NoFacts),
    })
}

/// Records from about `time` on (all, without one). They may begin a little earlier, because a
/// clock can step back: whoever asks looks at each record's own time.
fn since(log: &Reader, time: Option<SystemTime>) -> Result<Records, ReadError> {
    let Some(wanted) = time.and_then(|time| time.checked_sub(CLOCK_STEP)) else {
        return Ok(log.records(0));
    };
    let wanted = micros(wanted);
    let (mut low, mut high) = match (log.records(0).next(), log.last(1)?.pop()) {
        (Some(first), Some(last)) => (first?.seq, last.seq),
        _empty => return Ok(log.records(0)),
    };
    while high.saturating_sub(low) > COARSE {
        let middle = low + (high - low) / 2;
        match log.records(middle).next().transpose()? {
            Some(Record { ts_us, .. }) if ts_us < wanted => low = middle,
            _later => high = middle,
        }
    }
    Ok(log.records(low))
}

/// Microseconds since the epoch; 0 before it.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// How far a clock may step back without hiding a record.
const CLOCK_STEP: Duration = Duration::from_secs(3_600);

/// Finding the exact place costs more than reading this many records.
const COARSE: u64 = 4_096;
