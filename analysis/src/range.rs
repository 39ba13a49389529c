//! Where in a log a time begins.

use std::time::{Duration, SystemTime};

use cordon_audit::{
    Record,
    read::{ReadError, Reader, Records},
};

/// Records from about `time` on (all, without one). They may begin a little earlier, because a
/// clock can step back: whoever asks looks at each record's own time.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub fn since(log: &Reader, time: Option<SystemTime>) -> Result<Records, ReadError> {
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
