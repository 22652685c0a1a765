//! Quantities as they are written on the command line, and how they are shown.
//!
//! Not here: what they limit.

use std::time::Duration;

/// `10s`, `200ms`, `1.5s`, `2m`, `1h`.
///
/// # Errors
/// It is something else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("`{text}` is no duration: write 200ms, 10s or 2m")),
    };
    let value = number.parse::<f64>().map_err(|_| format!("`{number}` is no number"))?;
    Duration::try_from_secs_f64(value * seconds).map_err(|error| error.to_string())
}

/// `2.5Mbps`, `800kbps`, `1000000`: bits a second.
///
/// # Errors
/// It is something else.
pub fn bitrate(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "bps" | "b/s" => 1.0,
        "k" | "kbps" | "kb/s" => 1e3,
        "m" | "mbps" | "mb/s" => 1e6,
        _ => return Err(format!("`{text}` is no bit rate: write 2.5Mbps or 800kbps")),
    };
    let value = number.parse::<f64>().map_err(|_| format!("`{number}` is no number"))?;
    let bits = value * scale;
    if (1_000.0..=1e9).contains(&bits) {
        Ok(bits as u64)
    } else {
        Err(format!("`{text}` is not between 1kbps and 1000Mbps"))
    }
}

/// `0.1%`, or `0.1` for the same: a share of 0 to 1.
///
/// # Errors
/// It is something else.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value / 100.0),
        _ => Err(format!("`{text}` is no percentage: write 0.1%")),
    }
}

/// `150KB`, `1.5MiB`, `2000`: bytes.
///
/// # Errors
/// It is something else.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "" | "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{text}` is no size: write 150KB or 1MiB")),
    };
    let value = number.parse::<f64>().map_err(|_| format!("`{number}` is no number"))?;
    if value >= 0.0 { Ok((value * scale) as u64) } else { Err(format!("`{text}` is negative")) }
}

/// `1280x720`: even numbers, at least 16.
///
/// # Errors
/// It is something else.
pub fn size(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is no size: write 1280x720, even numbers from 16 to 4096");
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    let side = |text: &str| {
        let side = text.parse::<u32>().ok()?;
        ((16..=4_096).contains(&side) && side % 2 == 0).then_some(side)
    };
    Ok((side(width).ok_or_else(wrong)?, side(height).ok_or_else(wrong)?))
}

/// `30`, `29.97`, `30000/1001`: frames a second as a fraction.
///
/// # Errors
/// It is something else.
pub fn fps(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is no frame rate: write 30, 29.97 or 30000/1001");
    let fraction = match (text, text.split_once('/')) {
        ("23.976" | "23.98", _) => (24_000, 1_001),
        ("29.97", _) => (30_000, 1_001),
        ("59.94", _) => (60_000, 1_001),
        (_, Some((num, den))) => {
            (num.parse().map_err(|_| wrong())?, den.parse().map_err(|_| wrong())?)
        }
        _ => (text.parse().map_err(|_| wrong())?, 1),
    };
    let (num, den): (u32, u32) = fraction;
    if den == 0 || den > 10_000 || !(1..=240).contains(&num.div_ceil(den.max(1))) {
        return Err(wrong());
    }
    Ok((num, den))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (text.get(..end).unwrap_or_default(), text.get(end..).unwrap_or_default().trim())
}

/// A number of bytes as people read it.
#[must_use]
pub fn show_bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} KB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}

/// A whole number with its thousands set apart.
#[must_use]
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(bitrate("2.5Mbps"), Ok(2_500_000));
        assert_eq!(bitrate("800k"), Ok(800_000));
        assert_eq!(percent("0.1%"), Ok(0.001));
        assert_eq!(percent("20"), Ok(0.2));
        assert_eq!(bytes("150KB"), Ok(150_000));
        assert_eq!(bytes("1MiB"), Ok(1_048_576));
        assert_eq!(size("1280x720"), Ok((1_280, 720)));
        assert_eq!(fps("29.97"), Ok((30_000, 1_001)));
        assert_eq!(fps("50"), Ok((50, 1)));
        assert_eq!(fps("24000/1001"), Ok((24_000, 1_001)));
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        for wrong in ["", "10", "s", "10 parsecs", "1e9h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "1", "2Tbps", "-3M"] {
            assert!(bitrate(wrong).is_err(), "{wrong}");
        }
        for wrong in ["101", "x%", "-1"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1280", "1281x720", "8x8", "ax b"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "1000", "30/0", "x"] {
            assert!(fps(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_shown_to_be_read() {
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(12), "12");
        assert_eq!(show_bytes(1_500_000.0), "1.5 MB");
    }
}
