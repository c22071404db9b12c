//! The view that people have of a run while it goes on: bars on a terminal, plain lines elsewhere,
//! or every record as JSON. What is said is decided in [`super::lines`]; here it is only put
//! somewhere.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::Record;
use super::lines::{Teller, island_line, run_line_within};
use super::state::RunState;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;
/// The longest bar, and its share of a narrow line.
const BAR: usize = 24;
const OF_LINE: usize = 5;
/// The indent of an island.
const INDENT: &str = "  ";

/// The output on which progress is shown.
#[derive(Debug)]
pub struct Screen {
    kind: Kind,
    teller: Teller,
}

#[derive(Debug)]
enum Kind {
    Bars(Bars),
    Plain,
    Json,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    run: ProgressBar,
    /// Columns of the run's bar.
    bar: usize,
    islands: BTreeMap<String, ProgressBar>,
}

impl Screen {
    /// JSON on standard output where that is asked for, bars where they can be drawn and seen, and
    /// plain lines on standard output elsewhere.
    pub fn new(json: bool) -> Self {
        let terminals = [std::io::stdout().is_terminal(), std::io::stderr().is_terminal()];
        let draws = can_draw(terminals, std::env::var_os("TERM").as_deref());
        let bars = (draws && !json).then(Bars::new).filter(|bars| !bars.all.is_hidden());
        let kind = match bars {
            _ if json => Kind::Json,
            Some(bars) => Kind::Bars(bars),
            None => Kind::Plain,
        };
        Self { kind, teller: Teller::default() }
    }

    /// Shows a record that `state` already knows.
    pub fn record(&mut self, record: &Record, state: &RunState) {
        if let Kind::Json = self.kind {
            // A Record has a JSON form: its maps have strings for keys.
            print_line(&serde_json::to_string(record).unwrap_or_default());
            return;
        }
        for line in self.teller.lines(record, state) {
            match &self.kind {
                Kind::Bars(bars) => drop(bars.all.println(line)),
                Kind::Plain | Kind::Json => print_line(&line),
            }
        }
    }

    /// Brings bars up to date.
    pub fn draw(&mut self, state: &RunState) {
        if let Kind::Bars(bars) = &mut self.kind {
            bars.draw(state);
        }
    }

    /// Takes the bars away and prints the last words of a session, except where JSON is asked for.
    pub fn finish(self, text: &str) {
        match self.kind {
            Kind::Bars(bars) => drop(bars.all.clear()),
            Kind::Plain => {}
            Kind::Json => return,
        }
        print_line(text.trim_end());
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let run = all.add(ProgressBar::new(0));
        Self { all, run, bar: 0, islands: BTreeMap::new() }
    }

    /// Lines are as long as the terminal is wide now: what wraps cannot be drawn over.
    fn draw(&mut self, state: &RunState) {
        let Some(begin) = &state.begin else { return };
        let columns = columns();
        let bar = BAR.min(columns / OF_LINE);
        if std::mem::replace(&mut self.bar, bar) != bar {
            self.run.set_style(style(&format!("{{bar:{bar}.cyan/blue}} {{wide_msg}}")));
        }
        self.run.set_length(begin.tokens);
        self.run.set_position(state.tokens.min(begin.tokens));
        self.run.set_message(run_line_within(state, columns.saturating_sub(bar + 1)));
        let width = state.islands.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, island) in &state.islands {
            let bar = self.islands.entry(name.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style(&format!("{INDENT}{{wide_msg}}")));
                bar
            });
            let columns = columns.saturating_sub(INDENT.len());
            bar.set_message(island_line(name, width, island, columns));
        }
    }
}

/// Whether bars can be drawn on standard error, and nobody would miss them on standard output:
/// where that goes into a file or a pipe, it is what is read later.
fn can_draw([stdout, stderr]: [bool; 2], term: Option<&OsStr>) -> bool {
    stdout && stderr && term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Columns that may be written to: some terminals go on to the next line with the last one.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS - 1 } else { columns - 1 }
}

/// The templates are built of constants, so that a bad one shows at the first run; the default is
/// legible.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A reader that went away is no reason to end a run.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_for_terminals_that_draw_and_everything_else_gets_lines() {
        let table = [
            ([true, true], Some("xterm-256color"), true),
            ([true, true], Some("dumb"), false),
            ([true, true], Some(""), false),
            ([true, true], None, false),
            ([false, true], Some("xterm"), false),
            ([true, false], Some("xterm"), false),
            ([false, false], Some("xterm"), false),
        ];
        for (terminals, term, expected) in table {
            assert_eq!(
                can_draw(terminals, term.map(OsStr::new)),
                expected,
                "{terminals:?} {term:?}"
            );
        }
    }
}
