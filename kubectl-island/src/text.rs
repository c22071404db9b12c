//! Tables and ages, as kubectl writes them.

use k8s_openapi::jiff::Timestamp;

/// Columns between two cells.
const GAP: usize = 2;

/// Rows in columns as wide as their widest cell; the last column is as long as it is.
pub(super) fn table(indent: &str, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        text.push_str(format!("{indent}{line}").trim_end());
        text.push('\n');
    }
    text
}

/// The first row of a table.
pub(super) fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One line of a text that others wrote: nothing in it moves a terminal's cursor.
pub(super) fn plain(text: &str) -> String {
    let spaced = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    spaced.collect()
}

/// Time since then, in its largest unit or two: `13s`, `5m`, `3h12m`, `2d`; `-` where it is not
/// known. What lies in the future is `0s`: clocks differ.
pub(super) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else { return "-".into() };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..36_000 if minutes % 60 > 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Time since an RFC 3339 time.
pub(super) fn since(then: &str, now: Timestamp) -> String {
    age(then.parse().ok(), now)
}

/// What is there, or `-`.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| plain(&value.to_string()))
}

/// A count and its noun.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod bounds;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_as_kubectl_writes_them() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let table = [
            (13, "13s"),
            (119, "119s"),
            (125, "2m5s"),
            (3600, "60m"),
            (11_520, "3h12m"),
            (86_400, "24h"),
            (300_000, "3d"),
            (-5, "0s"),
        ];
        for (seconds, text) in table {
            assert_eq!(age(Some(at(0)), at(seconds)), text);
        }
        assert_eq!(age(None, at(0)), "-");
        assert_eq!(since("no time", at(0)), "-");
    }

    #[test]
    fn only_the_last_column_is_ragged_and_no_line_ends_in_spaces() {
        let rows = [heads(&["A", "LONG"]), heads(&["wide", "x"]), heads(&["y", ""])];
        assert_eq!(table(" ", &rows), " A     LONG\n wide  x\n y\n");
    }

    #[test]
    fn a_text_of_others_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2J\nb\n"), "a [2J b");
    }
}
