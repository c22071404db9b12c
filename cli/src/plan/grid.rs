//! Cells in lines.

use super::words::{CELL, clip};

/// Columns of a line.
pub(super) const WIDTH: usize = 120;
/// Columns of the names on the left of a table.
const LABELS: usize = 18;
/// Cells side by side.
const BESIDE: usize = 4;
/// The indent of each line of an island's tables.
const INDENT: &str = "  ";
/// Columns between two cells.
const GAP: usize = 2;

/// A table whose rows have labels: columns side by side while a line takes them, the others below.
pub(super) fn labelled(labels: &[&str], columns: &[Vec<String>]) -> String {
    let columns: Vec<Vec<String>> = columns.iter().map(|cells| clipped(cells)).collect();
    let widths: Vec<usize> = columns.iter().map(|cells| width(cells)).collect();
    let mut blocks = Vec::new();
    let mut from = 0;
    while from < columns.len() {
        let to = from + fitting(&widths[from..]);
        let mut block = String::new();
        for (row, label) in labels.iter().enumerate() {
            let cells = columns[from..to].iter().map(|cells| cells[row].as_str());
            let cells = std::iter::once(*label).chain(cells);
            let widths = std::iter::once(&LABELS).chain(&widths[from..to]);
            push(&mut block, INDENT, cells.zip(widths.copied()));
        }
        blocks.push(block);
        from = to;
    }
    blocks.join("\n")
}

/// How many of the columns go into a line; at least one.
fn fitting(widths: &[usize]) -> usize {
    let mut left = WIDTH - INDENT.len() - LABELS;
    let fits = |width: &&usize| {
        let rest = left.checked_sub(GAP + **width);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    widths.iter().take(BESIDE).take_while(fits).count().max(1)
}

/// A table whose columns have names, in its first row.
pub(super) fn headed(indent: &str, rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|cells| clipped(cells)).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().map(|cells| cells[at].chars().count()).max().unwrap_or_default())
        .collect();
    let line = |cells: &Vec<String>| {
        let mut line = String::new();
        push(&mut line, indent, cells.iter().map(String::as_str).zip(widths.iter().copied()));
        line
    };
    rows.iter().map(line).collect()
}

fn push<'a>(text: &mut String, indent: &str, cells: impl Iterator<Item = (&'a str, usize)>) {
    let padded = cells.map(|(cell, width)| format!("{cell:<width$}"));
    let line = padded.collect::<Vec<_>>().join(&" ".repeat(GAP));
    text.push_str(format!("{indent}{line}").trim_end());
    text.push('\n');
}

fn clipped(cells: &[String]) -> Vec<String> {
    cells.iter().map(|cell| clip(cell, CELL)).collect()
}

fn width(cells: &[String]) -> usize {
    cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_beyond_the_line_stand_below_with_their_labels() {
        let column = |text: &str| vec![text.to_owned(), "x".repeat(30)];
        let columns: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|text| column(text)).collect();
        let text = labelled(&["top", "wide"], &columns);
        let tops: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| line.trim_start().starts_with("top"))
            .map(|line| line.split_whitespace().skip(1).collect())
            .collect();
        assert_eq!(tops, [vec!["a", "b", "c"], vec!["d", "e"]]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let narrow: Vec<_> = (0..9).map(|at| vec![at.to_string()]).collect();
        let narrow = labelled(&["n"], &narrow);
        let counts = narrow.split('\n').map(|line| line.split_whitespace().count());
        assert_eq!(counts.collect::<Vec<_>>(), [5, 0, 5, 0, 2, 0]);
    }
}
