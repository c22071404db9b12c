//! Numbers for people.

/// `12.3 MB`: decimal units, three digits.
pub fn bytes(bytes: f64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], " ")
}

/// `12.3M`: decimal units, three digits.
pub fn count(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T"], "")
}

/// `1:02:03` or `2:03`.
pub fn duration(seconds: f64) -> String {
    let all = seconds.round().max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// `40 s`, `8 min`, `2.5 h` or `200 days`: about so long.
pub fn about(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    match seconds {
        s if s < 1.5 * MINUTE => format!("{:.0} s", s.max(1.0)),
        s if s < 1.5 * HOUR => format!("{:.0} min", s / MINUTE),
        s if s < 9.95 * HOUR => format!("{:.1} h", s / HOUR),
        s if s < 2.0 * DAY => format!("{:.0} h", s / HOUR),
        s => format!("{:.0} days", s / DAY),
    }
}

fn scaled(mut value: f64, base: f64, units: &[&str], space: &str) -> String {
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.decimals$}{space}{}", units[unit]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_units_and_three_digits() {
        let table = [
            (0.0, "0 B", "0"),
            (999.0, "999 B", "999"),
            (999.6, "1.0 kB", "1.0k"),
            (12_345.0, "12.3 kB", "12.3k"),
            (99_960.0, "100 kB", "100k"),
            (2.5e9, "2.5 GB", "2.5G"),
        ];
        for (value, as_bytes, as_count) in table {
            assert_eq!(bytes(value), as_bytes);
            assert_eq!(count(value), as_count);
        }
    }

    #[test]
    fn long_times_are_said_in_the_unit_that_people_would_use() {
        let table = [
            (0.0, "1 s"),
            (85.4, "85 s"),
            (489.6, "8 min"),
            (3_600.0, "60 min"),
            (9_000.0, "2.5 h"),
            (86_400.0, "24 h"),
            (17_280_000.0, "200 days"),
        ];
        for (seconds, text) in table {
            assert_eq!(about(seconds), text);
        }
    }

    #[test]
    fn durations_are_shown_like_a_clock() {
        for (seconds, text) in [(0.4, "0:00"), (59.6, "1:00"), (3723.0, "1:02:03")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
