//! Moments as RFC 3339 writes them, in UTC: `2026-11-21T23:40:00.123456789Z`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, with nanoseconds and, as Go prints it, without zeros at the end.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339_nano(since.as_secs(), since.subsec_nanos())
}

/// This many seconds after 1970 as Go's `RFC3339Nano` prints them: zeros at the end of the fraction left out.
pub fn rfc3339_nano(seconds: u64, nanoseconds: u32) -> String {
    let fraction = format!(".{nanoseconds:09}");
    format!("{}{}Z", date_and_time(seconds), fraction.trim_end_matches('0').trim_end_matches('.'))
}

/// This many seconds after 1970, without a fraction.
pub fn rfc3339(seconds: u64) -> String {
    format!("{}Z", date_and_time(seconds))
}

fn date_and_time(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of this day after 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year; 400 years have 146 097 days.
fn date(day: u64) -> (u64, u64, u64) {
    // 1970-01-01 is day 719 468 after 0000-03-01.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(rfc3339(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(rfc3339(1_078_012_800), "2004-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn fractions_end_without_zeros() {
        assert_eq!(rfc3339_nano(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(0, 500_000_000), "1970-01-01T00:00:00.5Z");
        assert_eq!(rfc3339_nano(0, 1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(rfc3339_nano(0, 120_000_340), "1970-01-01T00:00:00.12000034Z");
    }
}
