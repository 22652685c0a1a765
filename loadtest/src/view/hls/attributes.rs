//! Attribute lists of playlist tags (RFC 8216 §4.2), numbers and dates in them.
//!
//! Not here: what the tags mean (`playlist`, `multivariant`).

use std::time::Duration;

/// The value of attribute `name` in `list`, without its quotes.
pub(super) fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"')?;
                (value, after.strip_prefix(',').unwrap_or(after))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim() == name {
            return Some(value);
        }
        rest = next;
    }
}

/// Whether attribute `name` is `YES`.
pub(super) fn yes(list: &str, name: &str) -> bool {
    attribute(list, name) == Some("YES")
}

/// Decimal seconds, to the microsecond; further digits are cut off.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut micros: u64 = 0;
    let mut places = fraction.bytes();
    for _ in 0..6 {
        let digit = places.next().map_or(0, |byte| u64::from(byte - b'0'));
        micros = micros * 10 + digit;
    }
    Some(Duration::from_micros(whole.checked_mul(1_000_000)?.checked_add(micros)?))
}

/// Microseconds since 1970 of an RFC 3339 time stamp (`2026-02-03T04:05:06.789Z`).
pub(super) fn date_time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    let rest = text.get(17..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let second = seconds(rest.get(..zone_at)?)?;
    let zone = rest.get(zone_at..)?;
    let offset_minutes = match zone.as_bytes().first()? {
        b'Z' | b'z' => 0,
        sign => {
            let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
            let hours: i64 = digits.get(..2)?.parse().ok()?;
            let minutes: i64 = digits.get(2..4).unwrap_or("0").parse().ok()?;
            let minutes = hours * 60 + minutes;
            if *sign == b'-' { -minutes } else { minutes }
        }
    };
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(minutes * 60_000_000 + i64::try_from(second.as_micros()).ok()?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_quoted_commas() {
        let list = "DURATION=0.2,URI=\"a,b=c.m4s\",INDEPENDENT=YES";
        assert_eq!(attribute(list, "DURATION"), Some("0.2"));
        assert_eq!(attribute(list, "URI"), Some("a,b=c.m4s"));
        assert!(yes(list, "INDEPENDENT"));
        assert_eq!(attribute(list, "b"), None, "inside a value");
        assert_eq!(attribute("URI=\"unclosed", "URI"), None);
        assert_eq!(attribute("", "URI"), None);
    }

    #[test]
    fn seconds_are_read_to_the_microsecond() {
        assert_eq!(seconds("0.200001"), Some(Duration::from_micros(200_001)));
        assert_eq!(seconds("2"), Some(Duration::from_secs(2)));
        assert_eq!(seconds("1.0666666667"), Some(Duration::from_micros(1_066_666)));
        for wrong in ["", ".5", "-1", "1e3", "1.-5", "99999999999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dates_are_microseconds_since_1970() {
        assert_eq!(date_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(date_time("2000-02-29T12:00:00.250Z"), Some(951_825_600_250_000));
        assert_eq!(date_time("2000-02-29T13:30:00.250+01:30"), Some(951_825_600_250_000));
        assert_eq!(date_time("2026-11-27T19:38:52.000Z"), Some(1_795_808_332_000_000));
        assert_eq!(date_time("yesterday"), None);
    }
}
