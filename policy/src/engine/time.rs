//! A moment as Cedar's `datetime` spells it. No clock is read here.

use std::time::SystemTime;

/// `2026-11-20T08:30:00.125Z`, or nothing for a moment outside the years 1 to 9999.
pub(crate) fn cedar_datetime(at: SystemTime) -> Option<String> {
    let millis = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).ok()?,
        Err(before) => i64::try_from(before.duration().as_millis())
            .ok()?
            .checked_neg()?,
    };
    let (seconds, millis) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    (1..=9_999).contains(&year).then(|| {
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
            second / 3_600,
            second / 60 % 60,
            second % 60,
        )
    })
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar.
///
/// Counts from a 1 March, so that the leap day is a year's last, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let day = days + DAYS_TO_EPOCH;
    let era = day.div_euclid(DAYS_PER_ERA);
    let of_era = day.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar: the way back of [`civil`].
pub(crate) fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Years begin on 1 March here, too.
    let (year, from_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * DAYS_PER_ERA + of_era - DAYS_TO_EPOCH
}

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Of 400 years.
const DAYS_PER_ERA: i64 = 146_097;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_spelled_in_utc() {
        let cases = [
            (0_u64, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_763_683_597_123, "2025-11-21T00:06:37.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, expected) in cases {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(cedar_datetime(at).as_deref(), Some(expected), "{millis}");
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(
            cedar_datetime(before).as_deref(),
            Some("1969-12-31T23:59:59.999Z")
        );
        let far = SystemTime::UNIX_EPOCH + Duration::from_millis(253_402_300_800_000);
        assert_eq!(cedar_datetime(far), None);
    }
    #[test]
    fn days_and_dates_lead_to_each_other() {
        for day in (-1_000..2_932_897).step_by(97) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days_since_epoch(year, month, of_month), day);
        }
    }
}
