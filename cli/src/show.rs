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
    fn durations_are_shown_like_a_clock() {
        for (seconds, text) in [(0.4, "0:00"), (59.6, "1:00"), (3723.0, "1:02:03")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
